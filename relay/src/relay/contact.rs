//! The contact: is the stream a copy of this outbox, and up to where? One table of cases, decided in pure code.

use std::fmt;
use std::time::Duration;

use crate::envelope::EventId;
use crate::error::LogError;
use crate::log::{Head, Log, Origin, Stream};
use crate::outbox::Outbox;

/// What to do with the stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds the outbox's rows up to this head: go on after it.
    Publish(Head),
    /// There is none: make one that begins at the oldest kept row.
    Create { first: u64 },
    /// It is not a copy of this outbox: touch nothing, a person decides.
    Halt(Halt),
}

/// Why the stream is not a copy of this outbox.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// It was made by another database.
    Foreign { theirs: Origin, ours: Origin },
    /// It holds more than the outbox.
    Ahead { stream: u64, outbox: u64 },
    /// Both hold an event at this place, and they differ.
    Forked {
        seq: u64,
        theirs: String,
        ours: String,
    },
    /// It has taken this place, but the message there is gone.
    Emptied { seq: u64 },
}

/// What the outbox says, read after the stream so that it can only have grown since.
struct Own {
    origin: Origin,
    seq: u64,
    first: u64,
    /// The id of the row at the stream's head.
    id_there: Option<EventId>,
}

/// The stream's last message: `None` when it is gone, its id `None` when it is no event of ours.
type LastMessage = Option<Option<EventId>>;

/// Reads both ends and decides.
pub(super) async fn look(outbox: &Outbox, stream: &mut impl Stream) -> Result<Verdict, LogError> {
    let theirs = stream.head().await?;
    let mut last = None;
    if let Some(head) = &theirs
        && head.seq > 0
    {
        let found = stream.read_after(head.seq - 1, 1, Duration::ZERO).await?;
        let at_head = found.first().filter(|record| record.seq == head.seq);
        last = at_head.map(|record| record.event_id());
    }
    let own = outbox.clone().head().await?;
    let own = own.ok_or_else(|| LogError::lost("the outbox is gone"))?;
    let at = theirs.as_ref().map_or(0, |head| head.seq);
    let own = Own {
        origin: own.origin,
        seq: own.seq,
        first: own.first,
        id_there: outbox.event_id(at).await?,
    };
    Ok(decide(theirs, last, &own))
}

fn decide(theirs: Option<Head>, last: LastMessage, own: &Own) -> Verdict {
    let Some(head) = theirs else {
        return Verdict::Create { first: own.first };
    };
    if head.origin != own.origin {
        let (theirs, ours) = (head.origin, own.origin.clone());
        return Verdict::Halt(Halt::Foreign { theirs, ours });
    }
    if head.seq > own.seq {
        let (stream, outbox) = (head.seq, own.seq);
        return Verdict::Halt(Halt::Ahead { stream, outbox });
    }
    if head.seq == 0 {
        return Verdict::Publish(head);
    }
    match last {
        None if head.seq + 1 == head.first && head.first == own.first => Verdict::Publish(head),
        None => Verdict::Halt(Halt::Emptied { seq: head.seq }),
        Some(id) if id.is_some() && id == own.id_there => Verdict::Publish(head),
        Some(id) => Verdict::Halt(Halt::Forked {
            seq: head.seq,
            theirs: name(id),
            ours: name(own.id_there),
        }),
    }
}

fn name(id: Option<EventId>) -> String {
    id.map_or("no event of ours".to_owned(), |id| id.to_string())
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign { theirs, ours } => write!(
                f,
                "it was made by database {} (epoch {}), this is {} (epoch {}); start the service on the database that made it, or give this one a broker of its own",
                theirs.database_id, theirs.epoch, ours.database_id, ours.epoch
            ),
            Self::Ahead { stream, outbox } => write!(
                f,
                "it ends at {stream}, this database at {outbox}; either this file is an older copy or another relay publishes from one; stop the other, or put the newer file back"
            ),
            Self::Forked { seq, theirs, ours } => write!(
                f,
                "at {seq} it holds {theirs}, this database {ours}; another relay published from a copy of this file; stop one of the two"
            ),
            Self::Emptied { seq } => write!(
                f,
                "it has counted to {seq}, but the message there is gone; somebody purged it; delete the stream, and it is filled again from the outbox"
            ),
        }
    }
}

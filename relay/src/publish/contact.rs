//! The contact: is the stream a copy of this outbox, and up to where? One table of cases, decided in pure code.

use std::fmt;

use crate::database;
use crate::error::LogError;
use crate::event::EventId;
use crate::log::{Head, Origin, Stream, record_at};
use crate::outbox::{Ends, Outbox, event_id};

/// How the stream and this file stand to each other. Each is a row of docs/reconciliation.md and a test of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Missing,
    Equal,
    Behind,
    BehindTheOutbox,
    Fresh,
    Emptied,
    Holed,
    AheadAtFirstContact,
    AheadLater,
    AheadAndTrimmed,
    Forked,
    Closed,
    OlderEpoch,
    LaterEpoch,
    Foreign,
    ForeignReplaced,
    DatabaseLost,
}

impl Case {
    pub const ALL: [Self; 17] = [
        Self::Missing,
        Self::Equal,
        Self::Behind,
        Self::BehindTheOutbox,
        Self::Fresh,
        Self::Emptied,
        Self::Holed,
        Self::AheadAtFirstContact,
        Self::AheadLater,
        Self::AheadAndTrimmed,
        Self::Forked,
        Self::Closed,
        Self::OlderEpoch,
        Self::LaterEpoch,
        Self::Foreign,
        Self::ForeignReplaced,
        Self::DatabaseLost,
    ];

    /// `ahead at first contact`
    pub fn name(self) -> String {
        let mut name = String::new();
        for letter in format!("{self:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push(' ');
            }
            name.push(letter.to_ascii_lowercase());
        }
        name
    }
}

/// What to do with the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It holds the outbox's rows up to this head: go on after it.
    Publish(Head),
    /// There is none: make one that begins at the oldest kept row.
    Create,
    /// It holds this log's next events: take them over, up to this place.
    Import(Head),
    /// This database is new and its predecessor is gone: take over the stream's identity, then its events.
    TakeOver(Origin),
    /// It is no copy any more, and this database knows better: save what only it holds, and make it anew.
    Replace(&'static str),
    /// Touch nothing: a person decides.
    Halt(Halt),
}

/// Why a person must decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Halt {
    /// It was made by another database.
    Foreign {
        theirs: Origin,
        ours: Origin,
        empty: bool,
    },
    /// It is a later epoch of this database: this file is from before it.
    Superseded { theirs: u32, ours: u32 },
    /// It grew by events that this process did not publish.
    Rival { stream: u64, outbox: u64 },
    /// Both hold an event at this place, and they differ.
    Forked {
        seq: u64,
        theirs: Option<EventId>,
        ours: Option<EventId>,
    },
    /// It holds more, but no longer what joins it to this file.
    Unjoinable { first: u64, outbox: u64 },
}

/// The stream lacks events that it should hold, or holds others: a damaged disk.
pub(super) const HOLED: (Case, Verdict) = (
    Case::Holed,
    Verdict::Replace("some of its events are gone or damaged"),
);

/// What both ends say.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) theirs: Option<Theirs>,
    pub(super) own: Own,
}

/// The stream.
#[derive(Clone, Debug)]
pub(super) struct Theirs {
    pub(super) head: Head,
    /// Its last message: `None` when it is gone, its id `None` when it is no event of ours.
    last: Option<Option<EventId>>,
    /// If it is ahead: the event where this file ends, or the one before its oldest, if that is where this file ends.
    joint: Option<EventId>,
}

/// This file, read after the stream so that it can only have grown since.
#[derive(Clone, Debug)]
pub(super) struct Own {
    pub(super) ends: Ends,
    /// The id of the row at the stream's head.
    id_there: Option<EventId>,
    /// It was made where another database had been, which is gone.
    pub(super) successor: bool,
    /// It may be an older copy of itself.
    pub(super) marked: bool,
    /// The incarnation that a person has decided to replace.
    replaces: Option<String>,
}

/// Reads both ends.
pub(super) async fn look(outbox: &Outbox, stream: &mut impl Stream) -> Result<Seen, LogError> {
    let before = outbox.ends().await?;
    let theirs = match stream.head().await? {
        Some(head) => Some(look_at(stream, head, &before).await?),
        None => None,
    };
    let at = theirs.as_ref().map_or(0, |theirs| theirs.head.seq);
    let own = outbox.database().read(move |rows| {
        Ok::<_, rusqlite::Error>(Own {
            ends: crate::outbox::ends(rows)?,
            id_there: event_id(rows, at)?,
            successor: database::is_successor(rows)?,
            marked: database::is_marked(rows)?,
            replaces: database::replaces(rows)?,
        })
    });
    let own = own.await;
    let own = own.map_err(|error| LogError::lost_because("the outbox cannot be read", error))?;
    Ok(Seen { theirs, own })
}

async fn look_at(stream: &mut impl Stream, head: Head, own: &Ends) -> Result<Theirs, LogError> {
    let last = match head.seq {
        seq if seq < head.first => None,
        seq => record_at(stream, seq)
            .await?
            .map(|record| record.event_id()),
    };
    let joint = match own.seq {
        _ if head.seq <= own.seq => None,
        seq if seq >= head.first => record_at(stream, seq)
            .await?
            .and_then(|record| record.event_id()),
        seq if seq + 1 == head.first => record_at(stream, head.first)
            .await?
            .and_then(|record| record.prev()),
        _ => None,
    };
    Ok(Theirs { head, last, joint })
}

/// The table of cases; docs/reconciliation.md says the same in prose.
pub(super) fn decide(seen: &Seen, first_contact: bool) -> (Case, Verdict) {
    match (compare(seen, first_contact), &seen.theirs) {
        ((_, Verdict::Publish(_)), Some(theirs)) if theirs.head.closed_by.is_some() => {
            let why = "somebody began to replace it and did not finish";
            (Case::Closed, Verdict::Replace(why))
        }
        (decided, _) => decided,
    }
}

fn compare(seen: &Seen, first_contact: bool) -> (Case, Verdict) {
    let Seen { theirs, own } = seen;
    let Some(Theirs { head, last, joint }) = theirs else {
        return (Case::Missing, Verdict::Create);
    };
    let (ours, outbox) = (&own.ends.origin, own.ends.seq);
    if head.origin.database_id != ours.database_id {
        return foreign(head, own);
    }
    let latest = head.latest_epoch();
    if latest > ours.epoch {
        let (theirs, ours) = (latest, ours.epoch);
        let halt = Halt::Superseded { theirs, ours };
        return (Case::LaterEpoch, Verdict::Halt(halt));
    }
    if head.origin.epoch < ours.epoch {
        let why = "it belongs to an earlier epoch of this database";
        return (Case::OlderEpoch, Verdict::Replace(why));
    }
    if head.seq < head.first {
        return match head.first == own.ends.first {
            true => (Case::Fresh, Verdict::Publish(head.clone())),
            false => (Case::Emptied, Verdict::Replace("its events are gone")),
        };
    }
    if head.seq > outbox && !first_contact {
        let stream = head.seq;
        return (
            Case::AheadLater,
            Verdict::Halt(Halt::Rival { stream, outbox }),
        );
    }
    if head.seq > outbox {
        return ahead(head, *joint, own);
    }
    if head.seq < own.ends.first {
        let why = "it ends before the oldest event that the outbox keeps";
        return (Case::BehindTheOutbox, Verdict::Replace(why));
    }
    match *last {
        None => HOLED,
        Some(id) if id.is_none() || id != own.id_there => forked(head.seq, id, own.id_there),
        Some(_) if head.holes > 0 => HOLED,
        Some(_) if head.seq == outbox => (Case::Equal, Verdict::Publish(head.clone())),
        Some(_) => (Case::Behind, Verdict::Publish(head.clone())),
    }
}

fn foreign(head: &Head, own: &Own) -> (Case, Verdict) {
    if own.replaces.as_ref() == Some(&head.incarnation) {
        let why = "it belongs to another database, and a person decided to replace it";
        return (Case::ForeignReplaced, Verdict::Replace(why));
    }
    if own.successor && own.ends.seq == 0 && head.first <= 1 {
        return (Case::DatabaseLost, Verdict::TakeOver(head.origin.clone()));
    }
    let (theirs, ours) = (head.origin.clone(), own.ends.origin.clone());
    let empty = own.ends.seq == 0;
    let halt = Halt::Foreign {
        theirs,
        ours,
        empty,
    };
    (Case::Foreign, Verdict::Halt(halt))
}

/// The stream holds more. It is taken over only on evidence that it goes on from where this file ends.
fn ahead(head: &Head, joint: Option<EventId>, own: &Own) -> (Case, Verdict) {
    let outbox = own.ends.seq;
    if outbox + 1 < head.first {
        let first = head.first;
        let halt = Halt::Unjoinable { first, outbox };
        return (Case::AheadAndTrimmed, Verdict::Halt(halt));
    }
    if joint != own.ends.last {
        return forked(outbox, joint, own.ends.last);
    }
    (Case::AheadAtFirstContact, Verdict::Import(head.clone()))
}

fn forked(seq: u64, theirs: Option<EventId>, ours: Option<EventId>) -> (Case, Verdict) {
    (
        Case::Forked,
        Verdict::Halt(Halt::Forked { seq, theirs, ours }),
    )
}

impl fmt::Display for Halt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign {
                theirs,
                ours,
                empty,
            } => write!(
                f,
                "it was made by database {} (epoch {}), this is {} (epoch {}); {}",
                theirs.database_id,
                theirs.epoch,
                ours.database_id,
                ours.epoch,
                match empty {
                    true =>
                        "this one is empty: adopt-stream makes it that one's successor, with all its events",
                    false =>
                        "start the service on the database that made it, or decide with adopt-stream or new-epoch",
                }
            ),
            Self::Superseded { theirs, ours } => write!(
                f,
                "it is in epoch {theirs}, this file in epoch {ours}: a newer life of this database exists; start that one, or take its log over with adopt-stream"
            ),
            Self::Rival { stream, outbox } => write!(
                f,
                "it ends at {stream}, this database at {outbox}: another relay publishes from a copy of this file; stop the other, then restart this one"
            ),
            Self::Forked {
                seq,
                theirs: None,
                ours,
            } => write!(
                f,
                "at {seq} it holds a message that is no event of ours, this database {}: find out what else may write to the stream, then decide with new-epoch",
                name(*ours)
            ),
            Self::Forked { seq, theirs, ours } => write!(
                f,
                "at {seq} it holds {}, this database {}: both lived on from a common past; stop one of the two, then decide with adopt-stream or new-epoch",
                name(*theirs),
                name(*ours)
            ),
            Self::Unjoinable { first, outbox } => write!(
                f,
                "it begins at {first}, this database ends at {outbox}: this backup is older than the stream keeps; restore a newer one, or decide with new-epoch"
            ),
        }
    }
}

fn name(id: Option<EventId>) -> String {
    id.map_or("no event of ours".to_owned(), |id| id.to_string())
}

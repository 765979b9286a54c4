//! The log: what the outbox, the stream and the in-memory log have in common.
//!
//! A relay copies the tail of one log onto another, a consumer folds one, and recovery is the relay in the other
//! direction; so this contract is all they see of each other. `conformance` proves every implementation alike.

mod position;
pub(crate) mod reader;
mod snapshot;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::error::LogError;
use crate::event::{Envelope, EventId};

pub use position::Position;
pub use reader::{ReadApi, Reader};
pub use snapshot::{Holds, Line, Lines, Producer, Share, Sink, row};

/// Events numbered 1, 2, 3 … without a gap. A value of it is one session: after `Disconnected` it is thrown away.
pub trait Log: Send + Sync + 'static {
    /// Where the log ends, and which log it is. `None`: there is no log here.
    fn head(&mut self) -> impl Future<Output = Result<Option<Head>, LogError>> + Send;

    /// Up to `limit` events after sequence `after`, oldest first; fewer when they are large. Waits at most `wait` for
    /// the first of them; nothing by then is an empty list, not an error. Reading takes nothing away.
    fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> impl Future<Output = Result<Vec<Record>, LogError>> + Send;
}

/// A log that can grow.
pub trait AppendLog: Log {
    /// Appends `records` right after `head`, in order, and answers the new head.
    ///
    /// `Refused` when the log does not end at `head`, or is another incarnation of it. After any error a *prefix* of
    /// the records may be stored: look at the head before going on.
    fn append_after(
        &mut self,
        head: &Head,
        records: &[Record],
    ) -> impl Future<Output = Result<Head, LogError>> + Send;
}

/// A log that can be missing and then be created: what a relay publishes to.
pub trait Stream: AppendLog {
    /// Creates the log, empty, to begin at sequence `first`. `incarnation` is drawn afresh for each: the key to write to it.
    fn create(
        &mut self,
        first: u64,
        origin: &Origin,
        incarnation: &str,
    ) -> impl Future<Output = Result<Head, LogError>> + Send;

    /// Closes the log for good: no append is taken from now on. Stores which epoch of its database did it, and answers
    /// what the log then holds. Another incarnation stays open, and is an error.
    fn close(
        &mut self,
        epoch: u32,
        incarnation: &str,
    ) -> impl Future<Output = Result<Head, LogError>> + Send;

    /// Deletes the log with all it holds. One that is not there is no error; another incarnation stays, and is one.
    fn delete(&mut self, incarnation: &str) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Removes the events before `first`, but never the last one: an empty log proves nothing.
    fn trim(&mut self, first: u64) -> impl Future<Output = Result<(), LogError>> + Send;

    /// Brings a log that an earlier version created up to date, in place, as it was at the last `head`: no event moves and no
    /// reader notices.
    fn refresh(&mut self) -> impl Future<Output = Result<(), LogError>> + Send {
        async { Ok(()) }
    }

    /// How many bytes the log held at the last `head`, and how many it may hold; `None` when it has no limit.
    fn room(&self) -> Option<(u64, u64)> {
        None
    }
}

/// How to reach a log. Each call opens a new session on a new connection: nothing queued in an old one survives it.
pub trait Connect: Send + Sync + 'static {
    /// A connection to the log.
    type Session: Log;

    /// Opens a session. [`LogError::Misconfigured`] ends a relay or a consumer; after any other error it tries again.
    fn connect(&self) -> impl Future<Output = Result<Self::Session, LogError>> + Send;

    /// The log's name, for messages to people: `USERS`.
    fn stream(&self) -> &str;
}

/// One event with its sequence. The bytes are the same in every log that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// `users.created`
    pub subject: String,
    /// The envelope, as the outbox stored it.
    pub bytes: Bytes,
}

impl Record {
    /// The event's id, or `None` when this is no event of Freehold's.
    pub fn event_id(&self) -> Option<EventId> {
        Envelope::parse(&self.bytes).ok().map(|e| e.id)
    }

    /// The id of the event before it, if it names one.
    pub(crate) fn prev(&self) -> Option<EventId> {
        Envelope::parse(&self.bytes).ok()?.prev
    }
}

/// How long an event that the stream has counted may take to arrive: of several nodes, one may lag behind.
pub(crate) const WAIT: Duration = Duration::from_secs(5);

/// The event with this very sequence, if the log has counted to it and can hand it out.
pub(crate) async fn record_at(log: &mut impl Log, seq: u64) -> Result<Option<Record>, LogError> {
    let found = log.read_after(seq - 1, 1, WAIT).await?;
    Ok(found.into_iter().next().filter(|record| record.seq == seq))
}

/// What the log can hand out now. A replica may lag behind: then the leader hands out the first event, within `WAIT`.
pub(crate) async fn read_now(
    log: &mut impl Log,
    after: u64,
    limit: usize,
) -> Result<Vec<Record>, LogError> {
    let mut found = log.read_after(after, limit, Duration::ZERO).await?;
    if found.is_empty() {
        found.extend(record_at(log, after + 1).await?);
    }
    Ok(found)
}

/// The id of the event at this sequence. `None` also when what is there is no event of ours.
pub(crate) async fn id_at(log: &mut impl Log, seq: u64) -> Result<Option<EventId>, LogError> {
    let record = record_at(log, seq).await?;
    Ok(record.and_then(|record| record.event_id()))
}

/// An append is refused before anything is sent when its records are not the very next ones.
pub(crate) fn check_next(head: &Head, records: &[Record]) -> Result<(), LogError> {
    for (record, wanted) in records.iter().zip(head.seq + 1..) {
        if record.seq != wanted {
            let why = format!("{} came where {wanted} belongs", record.seq);
            return Err(LogError::Refused(why));
        }
    }
    Ok(())
}

/// Where a log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last sequence; `first - 1` in an empty log.
    pub seq: u64,
    /// The oldest sequence kept.
    pub first: u64,
    /// Sequences between `first` and `seq` whose events are gone. Freehold never leaves any; a damaged disk can.
    pub holes: u64,
    /// Drawn afresh each time the log is created: the key to write to it. A relay that has not seen it cannot append.
    pub incarnation: String,
    /// Which database writes to it, and in which epoch.
    pub origin: Origin,
    /// The epoch that has closed it, to replace it. Nothing is appended to it any more.
    pub closed_by: Option<u32>,
}

impl Head {
    /// The latest epoch of its database that has written here.
    pub(crate) fn latest_epoch(&self) -> u32 {
        self.closed_by.unwrap_or(0).max(self.origin.epoch)
    }
}

/// Whose log it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Drawn when the database file is created.
    pub database_id: Uuid,
    /// From 1: the operator begins the next one after a fork.
    pub epoch: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database {} (epoch {})", self.database_id, self.epoch)
    }
}

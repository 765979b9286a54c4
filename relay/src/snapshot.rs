//! A snapshot: what a service shares of its state, as of one place in its log. And the question a consumer asks beside
//! the stream: is this event in your log?

use futures::future::BoxFuture;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::database::{Database, Gate};
use crate::envelope::EventId;
use crate::error::{LogError, WriteError, chain};
use crate::outbox;
use crate::reported;

/// A place in a log, and the event there. The number says where, the id says which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub seq: u64,
    pub id: EventId,
}

/// Whether a log holds an event at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    Yes,
    /// Another event is there, or none yet: the asker has read another log.
    No,
    /// The log does not keep this place any more.
    Pruned,
}

/// One line of a snapshot, in JSON: first the position, then rows, at last the end. What has no end is not whole.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Position {
        stream: String,
        epoch: u32,
        /// The last event that is in it; `None` when there is none.
        at: Option<Position>,
        /// Whether the log holds the position that the asker came with.
        holds: Option<Holds>,
    },
    Row(Box<RawValue>),
    End {
        rows: u64,
    },
}

/// Writes one row to a snapshot. False: nobody listens any more, stop.
pub type Sink<'a> = dyn FnMut(Box<RawValue>) -> bool + 'a;

/// Reads what a service shares of its state, in a fixed order: a line of JSON for each row. A consumer that keeps such rows
/// says with the same type what it has, in its producer's order.
pub type Share = fn(&Connection, &mut Sink<'_>) -> rusqlite::Result<()>;

/// A row of a snapshot as JSON.
pub fn row(value: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("rows of plain types always serialize")
}

/// The service that owns a stream, asked directly.
pub trait Producer: Send + Sync + 'static {
    /// Is this event in your log?
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>>;

    /// A reader of your log has applied it up to here, so your retention holds for it. A position that the log does not hold
    /// is answered and not stored. A producer that keeps no such list takes any report.
    fn report(&self, reader: &str, at: Option<Position>) -> BoxFuture<'_, Result<Holds, LogError>> {
        let _unused = (reader, at);
        Box::pin(async { Ok(Holds::Yes) })
    }

    /// Your shared state, line by line. `at` is the position of the asker, if it has one.
    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>>;
}

/// The lines of a snapshot on their way.
pub type Lines = mpsc::Receiver<Result<Line, LogError>>;

/// Lines that may be on their way at a time.
const LINES: usize = 256;

/// A service's own answers. Its HTTP API gives them, and in one process a consumer can ask them at once.
#[derive(Clone)]
pub struct Answers {
    db: Database,
    share: Share,
}

impl Answers {
    pub fn new(db: &Database, share: Share) -> Self {
        let db = db.clone();
        Self { db, share }
    }

    /// Only who has met the stream and may write knows what its log holds.
    fn check_open(&self) -> Result<(), LogError> {
        match self.db.gate() {
            Gate::Open | Gate::Held { .. } if self.db.has_met_its_stream() => Ok(()),
            Gate::Open | Gate::Held { .. } => {
                Err(LogError::lost("this service has not met its stream yet"))
            }
            Gate::MustImport(why) | Gate::Halted(why) => Err(LogError::lost(why)),
        }
    }
}

impl Producer for Answers {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        Box::pin(async move {
            self.check_open()?;
            let answer = self.db.read(move |rows| holds(rows, at)).await;
            answer.map_err(|error| LogError::lost_because("the log cannot be read", error))
        })
    }

    fn report(&self, reader: &str, at: Option<Position>) -> BoxFuture<'_, Result<Holds, LogError>> {
        let reader = reader.to_owned();
        Box::pin(async move {
            self.check_open()?;
            let write = self.db.apply(move |tx| reported::store(tx, &reader, at));
            write.await.map_err(|error| match error {
                WriteError::Work(refused) => refused,
                other => LogError::lost_because("the report cannot be stored", other),
            })
        })
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        Box::pin(async move {
            self.check_open()?;
            let (to, lines) = mpsc::channel(LINES);
            let (share, stream) = (self.share, self.db.stream());
            let (db, failed) = (self.db.clone(), to.clone());
            tokio::spawn(async move {
                let read = db.read_apart(move |rows| send(rows, share, stream, at, &to));
                if let Err(error) = read.await {
                    let _ = failed.send(Err(LogError::lost(chain(&error)))).await;
                }
            });
            Ok(lines)
        })
    }
}

pub(crate) fn holds(rows: &Connection, at: Position) -> rusqlite::Result<Holds> {
    let ends = outbox::ends(rows)?;
    if at.seq < ends.first && at.seq <= ends.seq {
        return Ok(Holds::Pruned);
    }
    match outbox::event_id(rows, at.seq)? == Some(at.id) {
        true => Ok(Holds::Yes),
        false => Ok(Holds::No),
    }
}

/// Everything in one read transaction: the rows are those of the position, however long they take.
fn send(
    rows: &mut Connection,
    share: Share,
    stream: &str,
    at: Option<Position>,
    to: &mpsc::Sender<Result<Line, LogError>>,
) -> rusqlite::Result<()> {
    let tx = rows.transaction()?;
    let ends = outbox::ends(&tx)?;
    let position = Line::Position {
        stream: stream.to_owned(),
        epoch: ends.origin.epoch,
        at: ends.last.map(|id| Position { seq: ends.seq, id }),
        holds: at.map(|at| holds(&tx, at)).transpose()?,
    };
    let mut listening = to.blocking_send(Ok(position)).is_ok();
    let mut count = 0;
    share(&tx, &mut |row| {
        count += 1;
        listening = listening && to.blocking_send(Ok(Line::Row(row))).is_ok();
        listening
    })?;
    if listening {
        let _gone = to.blocking_send(Ok(Line::End { rows: count }));
    }
    Ok(())
}

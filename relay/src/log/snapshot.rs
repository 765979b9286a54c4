//! What a stream's owner can be asked besides the stream: a snapshot of the state it shares, as of one position, and whether
//! its log holds an event.

use futures::future::BoxFuture;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use super::Position;
use crate::error::LogError;

/// Whether a log holds an event at a sequence number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    /// The very event.
    Yes,
    /// Another event is there, or none yet: the caller has read another log.
    No,
    /// The log no longer keeps this sequence.
    Pruned,
}

/// One line of a snapshot, in JSON: first the position, then rows, at last the end. A snapshot without an end is cut off.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The first line: what the rows are as of.
    Position {
        /// The stream of the producer.
        stream: String,
        /// The epoch of the producer.
        epoch: u32,
        /// The last event that is in it; `None` when there is none.
        at: Option<Position>,
        /// Whether the log holds the position that the caller sent.
        holds: Option<Holds>,
    },
    /// One row, as the producer shares it.
    Row(Box<RawValue>),
    /// The last line.
    End {
        /// How many rows there were.
        rows: u64,
    },
}

/// Writes one row to a snapshot. False: the receiver is gone, stop.
pub type Sink<'a> = dyn FnMut(Box<RawValue>) -> bool + 'a;

/// Reads what a service shares of its state, in a fixed order: a line of JSON for each row. A consumer that keeps such rows
/// reads its own with the same type, in its producer's order.
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

    /// Your shared state, line by line. `at` is the caller's position, if it has one.
    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>>;
}

/// The lines of a snapshot on their way.
pub type Lines = mpsc::Receiver<Result<Line, LogError>>;

#![doc = include_str!("../README.md")]

mod backoff;
#[cfg(feature = "testing")]
pub mod conformance;
mod consumer;
mod database;
mod envelope;
mod error;
mod log;
#[cfg(feature = "testing")]
pub mod memory;
mod nats;
mod outbox;
mod panics;
mod relay;

pub use consumer::{
    Consumer, ConsumerStatus, DeadLetter, DeadLetters, Follower, LetterState, Progress, Received,
    Retried,
};
pub use database::{Database, Identity, Options, Rows, Tx};
pub use envelope::{Decode, Envelope, EventId, MAX_ENVELOPE_BYTES, NewEvent, subject_of};
pub use error::{
    ApplyError, Cause, EmitError, Fatal, LogError, OpenError, ReadError, WriteError, chain,
};
pub use log::{AppendLog, Connect, Head, Log, Origin, Record, Stream};
pub use nats::{Nats, NatsReader, NatsStream, ReaderSession, StreamSession};
pub use outbox::Outbox;
pub use relay::{Relay, RelayState, RelayStatus, Step};
pub use rusqlite;
pub use tokio_util::sync::CancellationToken as Stop;

#![doc = include_str!("../README.md")]

mod backoff;
mod beside;
#[cfg(feature = "testing")]
pub mod conformance;
mod consumer;
mod database;
mod decision;
mod doors;
mod envelope;
mod environment;
mod error;
mod fold;
mod log;
#[cfg(feature = "testing")]
pub mod memory;
mod nats;
pub mod outbox;
mod panics;
mod relay;
mod reported;
mod sealed;
mod set_aside;
mod snapshot;
mod trace;
mod verify;

pub use beside::{Audited, Offset, ReadOnly, Report};
pub use consumer::{
    Consumer, ConsumerStatus, DeadLetter, DeadLetters, Follower, LetterState, Progress, Received,
    Retried, Retry, Start,
};
pub use database::{
    BackupError, Database, DiskHealth, Gate, Manifest, OnDiskFailure, Options, Restored, Rows, Tx,
    backup, check_backup, key_in_use, real_path, restore,
};
pub use decision::{DecisionError, Plan, adopt_stream, new_epoch, plan_adoption, plan_new_epoch};
pub use doors::{Doors, Reader};
pub use envelope::{Decode, Envelope, EventId, MAX_ENVELOPE_BYTES, NewEvent, subject_of};
pub use environment::{Environment, System};
pub use error::{
    ApplyError, Cause, EmitError, Fatal, LogError, OpenError, ReadError, WriteError, chain,
};
pub use fold::Fold;
pub use log::{AppendLog, Connect, Head, Log, Origin, Record, Stream};
pub use nats::{
    DEFAULT_STREAM_BYTES, Import, Nats, NatsReader, NatsStream, ReaderSession, StreamSession,
};
pub use outbox::Outbox;
pub use relay::{Case, Relay, RelayState, RelayStatus, Retention, Step};
pub use reported::{ReportedReader, is_reader_name};
pub use rusqlite;
pub use sealed::{Keys, KeysError};
pub use set_aside::{FoundIn, SetAside};
pub use snapshot::{Answers, Holds, Line, Lines, Position, Producer, Share, Sink, row};
pub use tokio_util::sync::CancellationToken as Stop;
pub use trace::{Trace, traced, written};
pub use verify::{Verified, verify_cache, verify_stream};

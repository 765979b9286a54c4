#![doc = include_str!("../README.md")]
//!
//! # Floors
//!
//! Each folder stands on those before it: every `use` points down, and `tests/it/house.rs` holds it.
//! [`error`], `environment` < [`event`] < [`log`] < [`database`] < [`outbox`] < [`consume`] < [`publish`] < [`operate`];
//! [`nats`] and [`testing`] are logs.

mod backoff;
pub mod consume;
pub mod database;
mod environment;
pub mod error;
pub mod event;
pub mod log;
pub mod nats;
pub mod operate;
pub mod outbox;
mod panics;
pub mod publish;
#[cfg(feature = "testing")]
pub mod testing;

pub use consume::{
    Consumer, ConsumerStatus, DeadLetter, Follower, LetterState, Progress, Retried, Start,
};
pub use database::{
    Database, DiskHealth, Fold, Gate, OnDiskFailure, Options, Rows, Tx, key_in_use, real_path,
};
pub use environment::{Environment, System};
pub use error::{
    ApplyError, Cause, EmitError, Fatal, LogError, OpenError, ReadError, Refusal, WriteError, chain,
};
pub use event::{
    Envelope, Event, EventId, Keys, KeysError, KeysProblem, MAX_ENVELOPE_BYTES, Received, Trace,
    subject_of, traced, written,
};
pub use freehold_event::events;
pub use log::{
    AppendLog, Connect, Head, Holds, Line, Lines, Log, Origin, Position, Producer, ReadApi, Reader,
    Record, Share, Sink, Stream, row,
};
pub use nats::{
    DEFAULT_STREAM_BYTES, Import, Nats, NatsReader, NatsStream, ReaderSession, StreamSession,
};
pub use operate::{
    Audited, BackupError, DecisionError, Manifest, Offset, Plan, ReadOnly, Report, Restored,
    SetAside, Verified, adopt_stream, backup, check_backup, new_epoch, plan_adoption,
    plan_new_epoch, restore, verify_cache, verify_stream,
};
pub use outbox::{Outbox, quarantine::FoundIn};
pub use publish::{
    Answers, Case, Relay, RelayState, RelayStatus, ReportedReader, Retention, Step, is_reader_name,
};
pub use rusqlite;
#[cfg(feature = "testing")]
pub use testing::{conformance, memory};
pub use tokio_util::sync::CancellationToken as Stop;

#![doc = include_str!("../README.md")]
//!
//! # Floors
//!
//! Each folder stands on those before it: every `use` points down, and `tests/it/circles.rs` holds it. On the ground lie
//! [`error`], [`environment`], `backoff` and `panics`; then [`event`] < [`log`] < [`database`] < [`outbox`] < [`consume`] <
//! [`publish`] < [`operate`]. [`nats`] and [`testing`] are logs.

#![warn(missing_docs, clippy::missing_errors_doc)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod backoff;
pub mod consume;
pub mod database;
pub mod environment;
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

pub use consume::Consumer;
pub use database::{Database, Fold, Options, Rows, Tx};
pub use error::{ApplyError, EmitError, WriteError};
pub use event::{Event, Keys, Received};
pub use freehold_event::events;
pub use nats::Nats;
pub use publish::Relay;
pub use rusqlite;
pub use tokio_util::sync::CancellationToken as Stop;

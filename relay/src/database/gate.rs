//! The gate: whether a database takes new writes. Reads, and what others tell it, always pass.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::WriteError;

/// How long writes wait for a connection to the broker at the start, and then for a look at the stream, at most: longer
/// than either takes while the broker is well, shorter than clients wait.
pub(super) const HOLD: Duration = Duration::from_secs(1);

/// Whether a database takes new writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It does.
    Open,
    /// The relay is looking whether this file is older than its stream: writes wait in the queue until it knows, or until
    /// then. Without a broker they do not wait.
    Held {
        /// When they are let through without an answer.
        until: Instant,
    },
    /// The file may be an older copy of itself, for this reason: it imports from its stream before it writes.
    MustImport(String),
    /// The stream and this file disagree. A person must decide.
    Halted(String),
}

impl Gate {
    /// Why writes are refused, if they are.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Open | Self::Held { .. } => None,
            Self::MustImport(reason) | Self::Halted(reason) => Some(reason),
        }
    }

    pub(super) fn refusal<E>(&self) -> Option<WriteError<E>> {
        match self {
            Self::Open | Self::Held { .. } => None,
            Self::MustImport(reason) => Some(WriteError::MustImport(reason.clone())),
            Self::Halted(reason) => Some(WriteError::Halted(reason.clone())),
        }
    }
}

//! What one step of a consumer comes to: progress, or trouble sorted by what happens next.

use super::position::Break;
use crate::error::{ApplyError, Fatal, LogError, ReadError, WriteError, chain};

/// What one step did.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// There is a session, and the stream continues at the offset.
    Connected,
    /// The offset moved by so many events.
    Applied(usize),
    /// No new event came.
    Idle,
    /// The cache was loaded from a snapshot of so many rows.
    Rebuilt(u64),
    /// The stream had forked, and the reaction goes on after this sequence.
    Resumed(u64),
}

/// Why a step did not succeed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// Connect again and check again.
    #[error("{0}")]
    Again(String),
    /// The next event cannot be applied yet. The session stays.
    #[error("{0}")]
    Later(String),
    /// The stream does not continue at this consumer's position.
    #[error(transparent)]
    Broken(#[from] Break),
    /// The process must stop.
    #[error("{0}")]
    Fatal(String),
}

impl From<LogError> for Trouble {
    fn from(error: LogError) -> Self {
        Self::Again(chain(&error))
    }
}

impl From<ReadError<rusqlite::Error>> for Trouble {
    fn from(error: ReadError<rusqlite::Error>) -> Self {
        Self::Again(chain(&error))
    }
}

impl From<WriteError<ApplyError>> for Trouble {
    fn from(error: WriteError<ApplyError>) -> Self {
        match error {
            WriteError::Work(ApplyError::Fatal(why)) => Self::Fatal(why),
            WriteError::Work(other) => Self::Again(other.to_string()),
            other => Self::Again(chain(&other)),
        }
    }
}

impl From<Trouble> for Fatal {
    fn from(trouble: Trouble) -> Self {
        Self(trouble.to_string())
    }
}

//! The gate: whether a database takes new writes. Reads, and what others tell it, always pass.

use crate::error::WriteError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    Open,
    /// The file may be an older copy of itself, for this reason: it imports from its stream before it writes.
    MustImport(String),
    /// The stream and this file disagree. A person must decide.
    Halted(String),
}

impl Gate {
    /// Why writes are refused, if they are.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Open => None,
            Self::MustImport(reason) | Self::Halted(reason) => Some(reason),
        }
    }

    pub(super) fn refusal<E>(&self) -> Option<WriteError<E>> {
        match self {
            Self::Open => None,
            Self::MustImport(reason) => Some(WriteError::MustImport(reason.clone())),
            Self::Halted(reason) => Some(WriteError::Halted(reason.clone())),
        }
    }
}

//! Snapshots over HTTP: the owner's side, the asker's side.

pub(crate) mod answers;
pub(crate) mod producer;

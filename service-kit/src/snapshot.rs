//! Snapshots and reports of positions over HTTP: the owner's side, the reader's side.

pub(crate) mod answers;
pub(crate) mod producer;

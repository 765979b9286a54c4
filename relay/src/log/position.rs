//! The position: a sequence number and the event that is there.

use serde::{Deserialize, Serialize};

use crate::event::EventId;

/// A sequence number of a log and the id of the event there. The number says where, the id says which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Its sequence.
    pub seq: u64,
    /// Its id: after a fork another event may have that sequence.
    pub id: EventId,
}

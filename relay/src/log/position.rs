//! The position: a sequence number and the event that is there.

use serde::{Deserialize, Serialize};

use crate::event::EventId;

/// A sequence number of a log and the id of the event there. The number says where, the id says which log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    pub seq: u64,
    pub id: EventId,
}

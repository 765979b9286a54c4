//! An intent as this device stores it: what the driver did, and what the owner decided about it.

use event_schema::sync::{Delivery, Kind};
use event_schema::{IntentId, Version};
use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Deserialize)]
pub struct LocalIntent {
    pub intent_id: IntentId,
    /// The lane: the id of the order that the intent changes.
    pub order_id: String,
    pub kind: Kind,
    pub arguments: Value,
    /// Of a decision: the intent in conflict.
    pub about: Option<IntentId>,
    pub base_version: Version,
    pub device_time_ms: i64,
    pub state: State,
    pub tries: u32,
    /// The owner lost its verdict, so the delivery may show its effect already.
    pub asked_again: bool,
    pub verdict: Option<Verdict>,
    pub code: Option<String>,
    pub detail: Option<String>,
    /// Of a conflict: the order as the owner had it.
    pub current: Option<Delivery>,
    pub decision: Option<String>,
    /// The driver still needs to see it.
    pub open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Unsent,
    /// It may have arrived; no reply confirms it yet.
    Sent,
    Answered,
    /// Sending it failed too often. It has no verdict; the driver retries or discards it.
    GaveUp,
}

/// A verdict that the owner does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Applied,
    Superseded,
    Rejected,
    Conflict,
}

impl LocalIntent {
    /// Is it still in the queue?
    pub fn is_unanswered(&self) -> bool {
        matches!(self.state, State::Unsent | State::Sent)
    }

    /// It has no verdict: it is in the queue, or failed and blocks its lane.
    pub fn is_undecided(&self) -> bool {
        self.is_unanswered() || self.state == State::GaveUp
    }

    /// Does the driver see its effect on top of the owner's state? A failed intent counts until the driver discards it,
    /// because the intents behind it depend on it.
    pub fn is_pending(&self) -> bool {
        let had_effect = matches!(self.verdict, Some(Verdict::Applied | Verdict::Superseded));
        self.is_undecided() || had_effect
    }

    pub fn is_refused(&self) -> bool {
        self.verdict == Some(Verdict::Rejected) || self.state == State::GaveUp
    }
}

//! The retry policy: how often and how long an event is tried again that could not be applied yet.

use std::time::Duration;

use crate::backoff::Backoff;

/// What a consumer does about an event that its function answers with [`Transient`](crate::ApplyError::Transient). Events
/// after it wait meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Before the second attempt; doubled, with jitter, for each one after it.
    pub first_delay: Duration,
    pub longest_delay: Duration,
    /// After so many attempts the event becomes a dead letter. `None`: it is tried for as long as it takes.
    pub attempts: Option<u32>,
}

impl Retry {
    pub(super) fn delays(self) -> Backoff {
        Backoff::between(self.first_delay, self.longest_delay)
    }
}

/// From 50 ms to 2 s, for as long as it takes.
impl Default for Retry {
    fn default() -> Self {
        Self {
            first_delay: Duration::from_millis(50),
            longest_delay: Duration::from_secs(2),
            attempts: None,
        }
    }
}

/// The event that could not be applied yet, and how often it was tried. A restart counts anew.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tried {
    seq: u64,
    times: u32,
}

impl Tried {
    /// One more attempt failed; answers whether it was the event's first.
    pub(super) fn again(&mut self, seq: u64) -> bool {
        let is_new = self.seq != seq;
        let times = if is_new { 0 } else { self.times };
        *self = Self {
            seq,
            times: times + 1,
        };
        is_new
    }

    /// How often this event was tried, the attempt under way included.
    pub(super) fn times(self, seq: u64) -> u32 {
        let before = if self.seq == seq { self.times } else { 0 };
        before + 1
    }

    /// Whether that is as often as it may be.
    pub(super) fn is_enough(self, policy: Retry, seq: u64) -> bool {
        policy.attempts.is_some_and(|most| self.times(seq) >= most)
    }
}

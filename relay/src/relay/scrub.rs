//! The scrub: compares the stream with the outbox, a little at every quiet contact, round and round.
//!
//! A contact looks at the head and at the broker's own counts. A broker that was stopped, had a block damaged, and
//! trusts its index afterwards counts messages that it cannot hand out; nobody but a reader would ever notice.

use std::time::Duration;

use crate::error::LogError;
use crate::log::{Head, Log, WAIT};
use crate::outbox::Outbox;

/// Events one contact compares, at most.
const EVENTS: usize = 500;

/// How far this round has come.
#[derive(Default)]
pub(super) struct Scrub {
    after: u64,
}

impl Scrub {
    /// Compares the next events up to `head`. False: the stream does not hold what the outbox holds.
    pub(super) async fn step(
        &mut self,
        outbox: &mut Outbox,
        stream: &mut impl Log,
        head: &Head,
    ) -> Result<bool, LogError> {
        if self.after >= head.seq {
            self.after = 0;
        }
        self.after = self.after.max(head.first.saturating_sub(1));
        let mut ours = outbox
            .read_after(self.after, EVENTS, Duration::ZERO)
            .await?;
        ours.retain(|record| record.seq <= head.seq);
        let Some(first) = ours.first() else {
            return Ok(true);
        };
        let after = first.seq - 1; // the outbox may keep less than the stream
        let theirs = stream.read_after(after, ours.len(), WAIT).await?;
        let same = !theirs.is_empty() && theirs.iter().zip(&ours).all(|(their, our)| their == our);
        self.after = after + theirs.len() as u64;
        Ok(same)
    }
}

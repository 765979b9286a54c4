//! The scrub: compares the stream with the outbox, a little at every quiet contact, round and round.
//!
//! A contact looks at the head and at the broker's own counts. A broker that was stopped, had a block damaged, and
//! trusts its index afterwards counts messages that it cannot hand out; without a scrub only a reader would notice.

use std::time::Duration;

use crate::error::LogError;
use crate::log::{Head, Log, read_now};
use crate::outbox::Outbox;

/// Events that are compared between two contacts, at most, and in one step: it takes about a millisecond.
const EVENTS: usize = 500;
const STEP_EVENTS: usize = 50;
/// Bytes of one step, at most; one event is always compared.
const STEP_BYTES: usize = 256 * 1024;

/// How far this round has come.
#[derive(Default)]
pub(super) struct Scrub {
    after: u64,
    /// Events that are still to be compared before the next contact.
    left: usize,
}

/// What a step has found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Scrubbed {
    /// All is the same so far; there is more to compare now.
    More,
    /// All is the same; enough for now.
    Done,
    /// The stream does not hold what the outbox holds.
    Differs,
}

impl Scrub {
    /// After a contact.
    pub(super) fn begin(&mut self) {
        self.left = EVENTS;
    }

    /// Compares the next events up to `head`.
    pub(super) async fn step(
        &mut self,
        outbox: &mut Outbox,
        stream: &mut impl Log,
        head: &Head,
    ) -> Result<Scrubbed, LogError> {
        self.after = self.after.max(head.first.saturating_sub(1));
        let limit = self.left.min(STEP_EVENTS);
        let mut ours = outbox.read_after(self.after, limit, Duration::ZERO).await?;
        let mut bytes = 0;
        let fits = ours.iter().take_while(|record| {
            let is_first = bytes == 0;
            bytes += record.bytes.len();
            record.seq <= head.seq && (is_first || bytes <= STEP_BYTES)
        });
        let fits = fits.count();
        ours.truncate(fits);
        let Some(first) = ours.first().map(|record| record.seq) else {
            self.after = 0; // from the beginning, next time
            return Ok(Scrubbed::Done);
        };
        let theirs = read_now(stream, first - 1, ours.len()).await?;
        if theirs.is_empty() || theirs.iter().zip(&ours).any(|(their, our)| their != our) {
            let now = stream.head().await?;
            return Ok(match now.is_some_and(|now| now.first > first) {
                true => Scrubbed::Done, // trimmed meanwhile; the next contact knows from where on it is kept
                false => Scrubbed::Differs,
            });
        }
        self.after = first - 1 + theirs.len() as u64;
        self.left = self.left.saturating_sub(theirs.len());
        match self.left {
            0 => Ok(Scrubbed::Done),
            _ => Ok(Scrubbed::More),
        }
    }
}

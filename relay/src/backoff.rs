//! How long to wait before trying again: doubling with jitter up to a longest delay, for as long as it takes.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    longest: Duration,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// From 50 ms to 2 s.
    pub(crate) fn new() -> Self {
        Self::between(FIRST, LONGEST)
    }

    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        Self {
            builder,
            longest,
            delays: builder.build(),
        }
    }

    /// After a success the next trouble starts from the beginning.
    pub(crate) fn reset(&mut self) {
        self.delays = self.builder.build();
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.longest)
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }
}

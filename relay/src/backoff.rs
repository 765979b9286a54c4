//! How long to wait before trying again: doubling with jitter up to a longest delay, for as long as it takes.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// From 50 ms to 2 s.
    pub(crate) fn new() -> Self {
        Self::between(Duration::from_millis(50), Duration::from_secs(2))
    }

    pub(crate) fn between(first: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(longest)
            .without_max_times()
            .with_jitter();
        let delays = builder.build();
        Self { builder, delays }
    }

    /// After a success the next failure starts from the first delay.
    pub(crate) fn reset(&mut self) {
        self.delays = self.builder.build();
    }

    pub(crate) fn next_delay(&mut self) -> Duration {
        self.delays.next().expect("without max times it never ends")
    }

    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.next_delay()).await;
    }
}

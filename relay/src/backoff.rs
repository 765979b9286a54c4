//! How long to wait before trying again: from 50 ms, doubling with jitter, to 2 s, for as long as it takes.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

pub(crate) struct Backoff(ExponentialBackoff);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(
            ExponentialBuilder::new()
                .with_min_delay(Duration::from_millis(50))
                .with_max_delay(Duration::from_secs(2))
                .without_max_times()
                .with_jitter()
                .build(),
        )
    }

    /// After a success the next trouble starts from the beginning.
    pub(crate) fn reset(&mut self) {
        *self = Self::new();
    }

    pub(crate) async fn wait(&mut self) {
        let delay = self.0.next().unwrap_or(Duration::from_secs(2));
        tokio::time::sleep(delay).await;
    }
}

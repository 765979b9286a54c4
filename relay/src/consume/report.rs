//! A consumer reports its position to its producer, so that the producer's retention keeps what it has not applied. It
//! reports in the background: a failed report does not stop the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::Consumer;
use crate::error::chain;
use crate::log::{Holds, Position, Producer};

/// Often enough for a producer that drops readers after days, and next to nothing for both.
const EVERY: Duration = Duration::from_secs(60);
/// How long one report may take. The next one comes later than that.
const MAX_TIME: Duration = Duration::from_secs(30);

/// When the next report is due. A consumer without a producer reports to no one.
#[derive(Default)]
pub(super) struct Reports {
    last: Option<Instant>,
    /// Whether the last one failed: a failure is logged once.
    failing: Arc<AtomicBool>,
}

impl Reports {
    /// Reports in the background, if it is time.
    pub(super) fn step(&mut self, consumer: &Consumer, at: Option<Position>) {
        let due = self.last.is_none_or(|last| last.elapsed() >= EVERY);
        let Some(producer) = consumer.producer.clone().filter(|_| due) else {
            return;
        };
        self.last = Some(Instant::now());
        let (name, failing) = (consumer.name.clone(), self.failing.clone());
        tokio::spawn(async move {
            let failure = report(&*producer, &name, at).await.err();
            let was_failing = failing.swap(failure.is_some(), Ordering::Relaxed);
            if let (Some(why), false) = (failure, was_failing) {
                tracing::warn!(consumer = &*name, %why, "the producer does not know this consumer's position, so it may remove events that are not applied here yet");
            }
        });
    }
}

async fn report(producer: &dyn Producer, name: &str, at: Option<Position>) -> Result<(), String> {
    let no_answer = |_| format!("no answer in {MAX_TIME:?}");
    let answer = timeout(MAX_TIME, producer.report(name, at)).await;
    match answer.map_err(no_answer)?.map_err(|error| chain(&error))? {
        Holds::Yes => Ok(()),
        Holds::No => Err("its log does not hold the event applied last here".to_owned()),
        Holds::Pruned => Err("its log no longer keeps the event applied last here".to_owned()),
    }
}

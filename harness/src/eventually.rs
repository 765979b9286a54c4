//! Waits for a result with a deadline instead of sleeping for it, and reports why it did not come.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::panic::Location;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Asks `check` until it answers `Ok`; panics with its last reason after `deadline`. For tests.
#[track_caller]
pub fn eventually<T, E: Display>(
    what: &str,
    deadline: Duration,
    mut check: impl AsyncFnMut() -> Result<T, E>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let mut patience = Patience::of(deadline);
        loop {
            match patience.hear(check()).await {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(Ok(value)) => return value,
                ControlFlow::Break(Err(reason)) => {
                    panic!(
                        "waited {deadline:?} at {caller}, but not: {what}\n  last reason: {reason}"
                    )
                }
            }
        }
    }
}

/// The same for programs: answers the last reason instead of panicking.
///
/// It takes a closure that makes futures, not an async closure: what waits here can be spawned (the compiler cannot yet
/// see that of async closures).
pub async fn within<T, E, F>(deadline: Duration, mut check: impl FnMut() -> F) -> Result<T, String>
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let mut patience = Patience::of(deadline);
    loop {
        if let ControlFlow::Break(answer) = patience.hear(check()).await {
            return answer;
        }
    }
}

/// How long we go on asking, how long we pause in between, and why we still ask.
struct Patience {
    end: Instant,
    pause: Duration,
    reason: String,
}

impl Patience {
    fn of(deadline: Duration) -> Patience {
        let reason = "the first check did not answer".to_owned();
        Patience {
            end: Instant::now() + deadline,
            pause: FIRST_PAUSE,
            reason,
        }
    }

    /// Breaks with a value, or with the last reason once the time is up; a check that hangs is cancelled then.
    async fn hear<T, E: Display>(
        &mut self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> ControlFlow<Result<T, String>> {
        match timeout_at(self.end, answer).await {
            Ok(Ok(value)) => return ControlFlow::Break(Ok(value)),
            Ok(Err(error)) => self.reason = error.to_string(),
            Err(_) => {
                return ControlFlow::Break(Err(format!(
                    "{} (and the next check hung)",
                    self.reason
                )));
            }
        }
        if Instant::now() + self.pause >= self.end {
            return ControlFlow::Break(Err(std::mem::take(&mut self.reason)));
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        ControlFlow::Continue(())
    }
}

/// `seconds(5)` reads better in a test than `Duration::from_secs(5)`.
pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn it_waits_until_the_check_agrees() {
        let mut asked = 0;
        let answer = eventually("three", seconds(5), async || {
            asked += 1;
            if asked == 3 {
                Ok(asked)
            } else {
                Err("not yet")
            }
        });
        assert_eq!(answer.await, 3);
    }

    #[tokio::test]
    async fn it_returns_the_last_reason_at_the_deadline() {
        let mut asked = 0;
        let answer = within(Duration::from_millis(30), || {
            asked += 1;
            ready(Err::<(), _>(format!("no {asked}")))
        });
        let reason = answer.await.expect_err("it never agrees");
        assert!(reason.starts_with("no ") && reason != "no 1", "{reason}");
    }

    #[tokio::test]
    async fn a_check_that_hangs_does_not_hang_us() {
        let answer = within(Duration::from_millis(30), || {
            pending::<Result<(), String>>()
        });
        assert!(answer.await.is_err());
    }

    #[tokio::test]
    #[should_panic(expected = "last reason: the moon is not full")]
    async fn in_a_test_it_panics_with_the_last_reason() {
        eventually("full moon", Duration::from_millis(10), async || {
            Err::<(), _>("the moon is not full")
        })
        .await;
    }
}

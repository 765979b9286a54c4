//! Limits the log lines that callers can cause: a caller in a loop would fill the disk. The metrics count every request.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Allows so many lines of each kind in a minute.
#[derive(Default)]
pub(crate) struct Sampled(Mutex<HashMap<Kind, Minute>>);

/// A route, and the status of its answer. There are few of both.
type Kind = (String, u16);

struct Minute {
    began: Instant,
    lines: u32,
    withheld: u64,
}

/// Lines a minute of one kind of failure that requests cause.
const MAX_FAILURES_LOGGED: u32 = 60;
const MINUTE: Duration = Duration::from_secs(60);

impl Sampled {
    /// Whether to write the next line of this kind, and how many were withheld since the last one that says so.
    pub(crate) fn next(&self, kind: Kind, most: u32, now: Instant) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = kinds.entry(kind).or_insert_with(|| Minute::from(now));
        if now.duration_since(minute.began) >= MINUTE {
            let before = std::mem::replace(minute, Minute::from(now));
            minute.lines = 1;
            return Some(before.withheld);
        }
        if minute.lines < most {
            minute.lines += 1;
            return Some(0);
        }
        minute.withheld += 1;
        None
    }
}

/// Whether to write one more line about this kind of failure, which requests cause, and how many were withheld since the
/// last one that says so. It is one count for the whole process.
pub fn may_log(failure: &'static str) -> Option<u64> {
    static FAILURES: LazyLock<Sampled> = LazyLock::new(Sampled::default);
    FAILURES.next((failure.to_owned(), 0), MAX_FAILURES_LOGGED, Instant::now())
}

impl From<Instant> for Minute {
    fn from(began: Instant) -> Self {
        Self {
            began,
            lines: 0,
            withheld: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_writes_a_few_lines_a_minute_and_the_next_one_says_how_many_are_missing() {
        let (sampled, start) = (Sampled::default(), Instant::now());
        let line = |status, after_s| {
            let now = start + Duration::from_secs(after_s);
            sampled.next((String::new(), status), 3, now)
        };
        let written = (0..1000).filter_map(|_| line(401, 0)).count();
        assert_eq!(written, 3);
        assert_eq!(line(429, 1), Some(0), "another kind has its own");
        assert_eq!(line(401, 59), None);
        assert_eq!(line(401, 60), Some(998));
        assert_eq!(line(401, 61), Some(0));
    }

    #[test]
    fn failures_that_requests_cause_write_a_few_lines() {
        let lines = || (0..1000).filter_map(|_| may_log("of a test")).count();
        assert_eq!(lines(), 60);
        assert_eq!(may_log("another of a test"), Some(0));
    }
}

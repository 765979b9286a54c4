//! How many log lines callers can cause. A caller in a loop would fill the disk; the metrics count every request all the same.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many lines of each kind in a minute, and no more.
#[derive(Default)]
pub(crate) struct Sampled(Mutex<HashMap<Kind, Minute>>);

/// A route, and the status of its answer. There are few of both.
type Kind = (String, u16);

struct Minute {
    began: Instant,
    lines: u32,
    withheld: u64,
}

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
}

//! The circuit breaker: after several failures in a row no call is made for a while, and then one call tries. Tests pass the
//! time in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::Limits;

pub(super) struct Breaker {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In a row.
    failures: u32,
    /// The first of these failures.
    since: Option<Timestamp>,
    /// When the last one opened the breaker.
    opened_at: Option<Timestamp>,
    /// One call is trying. The others are refused until its outcome.
    probing: bool,
}

/// A permit for one call. Dropped without an outcome, because the client went away, it lets the next call try.
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
}

impl Breaker {
    pub(super) fn new(limits: Limits) -> Self {
        let state = Mutex::default();
        Self { limits, state }
    }

    pub(super) fn admit(&self, now: Timestamp) -> Option<Permit<'_>> {
        let mut state = self.state();
        let is_open = state.opened_at.is_some();
        if is_open && (state.probing || !self.has_rested(&state, now)) {
            return None;
        }
        state.probing = is_open;
        Some(Permit {
            breaker: self,
            is_probe: is_open,
        })
    }

    /// A clock that was set back does not say how long it was: rather one call too many.
    fn has_rested(&self, state: &State, now: Timestamp) -> bool {
        let opened_at = state.opened_at.unwrap_or(now);
        let gone = now.duration_since(opened_at);
        Duration::try_from(gone).is_ok_and(|gone| gone >= self.limits.open_for)
            || gone.is_negative()
    }

    /// The first of the failures in a row, if the last call failed.
    pub(super) fn failing_since(&self) -> Option<Timestamp> {
        self.state().since
    }

    /// Each change of the state is complete, so a panic elsewhere leaves it valid.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    pub(super) fn succeeded(self) {
        let before = std::mem::take(&mut *self.breaker.state());
        if before.opened_at.is_some() {
            tracing::info!("user-service answers again");
        }
    }

    pub(super) fn failed(self, now: Timestamp) {
        let mut state = self.breaker.state();
        state.failures = state.failures.saturating_add(1);
        state.since.get_or_insert(now);
        let opens = state.failures >= self.breaker.limits.failures;
        if opens && state.opened_at.replace(now).is_none() {
            tracing::warn!("user-service fails repeatedly; no calls are made for a while");
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.breaker.state().probing = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(Limits {
            failures: 3,
            open_for: Duration::from_millis(100),
            ..Limits::default()
        })
    }

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    fn fail(breaker: &Breaker, ms: i64) {
        breaker.admit(at(ms)).unwrap().failed(at(ms));
    }

    fn open_at(ms: i64) -> Breaker {
        let breaker = breaker();
        (0..3).for_each(|_| fail(&breaker, ms));
        breaker
    }

    #[test]
    fn it_opens_at_the_third_failure_in_a_row_and_remembers_the_first() {
        let breaker = breaker();
        fail(&breaker, 1);
        fail(&breaker, 2);
        breaker.admit(at(3)).unwrap().succeeded();
        assert_eq!(breaker.failing_since(), None);
        (10..=12).for_each(|ms| fail(&breaker, ms));
        assert_eq!(breaker.failing_since(), Some(at(10)));
        for ms in [12, 50, 111] {
            assert!(breaker.admit(at(ms)).is_none(), "{ms}");
        }
    }

    #[test]
    fn after_a_while_one_call_may_try_and_an_answer_closes_it() {
        let breaker = open_at(10);
        let probe = breaker.admit(at(110)).unwrap();
        assert!(breaker.admit(at(110)).is_none(), "one is enough");
        assert_eq!(breaker.failing_since(), Some(at(10)));
        probe.succeeded();
        assert_eq!(breaker.failing_since(), None);
        fail(&breaker, 121);
        assert!(
            breaker.admit(at(121)).is_some(),
            "it counts from the beginning"
        );
    }

    #[test]
    fn a_try_that_fails_opens_it_again_and_keeps_the_first_failure() {
        let breaker = open_at(10);
        fail(&breaker, 110);
        assert_eq!(breaker.failing_since(), Some(at(10)));
        assert!(breaker.admit(at(209)).is_none());
        assert!(breaker.admit(at(210)).is_some());
    }

    #[test]
    fn a_try_whose_client_goes_away_lets_the_next_one_try() {
        let breaker = open_at(10);
        drop(breaker.admit(at(110)).unwrap());
        assert_eq!(breaker.failing_since(), Some(at(10)));
        breaker.admit(at(111)).unwrap().succeeded();
        assert_eq!(breaker.failing_since(), None);
    }

    #[test]
    fn a_clock_that_is_set_back_refuses_no_call() {
        assert!(open_at(1_000_000).admit(at(5)).is_some());
    }
}

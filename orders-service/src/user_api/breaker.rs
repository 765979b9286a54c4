//! The circuit breaker: who fails again and again is left alone for a while, and then tried with one call. Pure: it is
//! told the time and never asks for it.

use std::time::Duration;

pub(super) struct Breaker {
    state: State,
    /// Counts changes of the state. A call that began before the last one says nothing about what is now.
    round: u64,
    failures: u32,
    open_for_ms: u64,
}

/// Allows one call, and is handed back with its outcome.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pass(u64);

/// No call now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Whatever the answer, there was one.
    Answered,
    Failed,
    /// Nobody waited for it any more.
    Unknown,
}

/// All times are Unix milliseconds; `since_ms` is the first failure of those in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Failing {
        since_ms: u64,
        count: u32,
    },
    Open {
        since_ms: u64,
        opened_at_ms: u64,
    },
    /// One call is under way to see whether it helps.
    HalfOpen {
        since_ms: u64,
        opened_at_ms: u64,
    },
}

impl Breaker {
    /// Opens at so many failures in a row, at least one.
    pub(super) fn new(failures: u32, open_for: Duration) -> Self {
        Self {
            state: State::Closed,
            round: 0,
            failures: failures.max(1),
            open_for_ms: u64::try_from(open_for.as_millis()).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn admit(&mut self, now_ms: u64) -> Result<Pass, Refused> {
        match self.state {
            State::Closed | State::Failing { .. } => {}
            State::Open {
                since_ms,
                opened_at_ms,
            } if self.is_over(opened_at_ms, now_ms) => self.turn(State::HalfOpen {
                since_ms,
                opened_at_ms,
            }),
            State::Open { .. } | State::HalfOpen { .. } => return Err(Refused),
        }
        Ok(Pass(self.round))
    }

    pub(super) fn report(&mut self, Pass(round): Pass, outcome: Outcome, now_ms: u64) {
        if round != self.round {
            return;
        }
        match (outcome, self.state) {
            (Outcome::Answered, State::HalfOpen { .. }) => self.turn(State::Closed),
            (Outcome::Answered, _) => self.state = State::Closed,
            (Outcome::Failed, state) => self.fail(state, now_ms),
            // The next one may try at once.
            (
                Outcome::Unknown,
                State::HalfOpen {
                    since_ms,
                    opened_at_ms,
                },
            ) => self.turn(State::Open {
                since_ms,
                opened_at_ms,
            }),
            (Outcome::Unknown, _) => {}
        }
    }

    /// The first failure of those in a row, if the last call failed.
    pub(super) fn failing_since_ms(&self) -> Option<u64> {
        match self.state {
            State::Closed => None,
            State::Failing { since_ms, .. }
            | State::Open { since_ms, .. }
            | State::HalfOpen { since_ms, .. } => Some(since_ms),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed | State::Failing { .. })
    }

    fn fail(&mut self, state: State, now_ms: u64) {
        let (since_ms, count) = match state {
            State::Closed => (now_ms, 1),
            State::Failing { since_ms, count } => (since_ms, count + 1),
            State::Open { since_ms, .. } | State::HalfOpen { since_ms, .. } => {
                (since_ms, self.failures)
            }
        };
        match count >= self.failures {
            true => self.turn(State::Open {
                since_ms,
                opened_at_ms: now_ms,
            }),
            false => self.state = State::Failing { since_ms, count },
        }
    }

    fn turn(&mut self, to: State) {
        self.state = to;
        self.round += 1;
    }

    /// A clock that was set back says nothing about how long it was: better one call too many.
    fn is_over(&self, opened_at_ms: u64, now_ms: u64) -> bool {
        let gone_ms = now_ms.checked_sub(opened_at_ms);
        gone_ms.is_none_or(|gone_ms| gone_ms >= self.open_for_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome::{Answered, Failed, Unknown};
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(3, Duration::from_millis(100))
    }

    /// A call that is let through, and how it went.
    fn call(breaker: &mut Breaker, outcome: Outcome, now_ms: u64) {
        let pass = breaker.admit(now_ms).unwrap();
        breaker.report(pass, outcome, now_ms);
    }

    fn open_at(now_ms: u64) -> Breaker {
        let mut breaker = breaker();
        (0..3).for_each(|_| call(&mut breaker, Failed, now_ms));
        breaker
    }

    #[test]
    fn it_opens_at_the_third_failure_in_a_row_and_knows_the_first() {
        let mut breaker = breaker();
        call(&mut breaker, Failed, 1);
        call(&mut breaker, Failed, 2);
        call(&mut breaker, Answered, 3);
        assert_eq!(breaker.failing_since_ms(), None);
        for now_ms in [10, 11, 12] {
            assert!(breaker.is_closed());
            call(&mut breaker, Failed, now_ms);
        }
        assert_eq!(breaker.failing_since_ms(), Some(10));
        for now_ms in [12, 50, 111] {
            assert_eq!(breaker.admit(now_ms), Err(Refused), "{now_ms}");
        }
    }

    #[test]
    fn after_a_while_one_call_may_try_and_an_answer_closes_it() {
        let mut breaker = open_at(10);
        let pass = breaker.admit(110).unwrap();
        assert_eq!(breaker.admit(110), Err(Refused), "one is enough");
        assert_eq!(breaker.failing_since_ms(), Some(10));
        breaker.report(pass, Answered, 120);
        assert!(breaker.is_closed());
        assert_eq!(breaker.failing_since_ms(), None);
        call(&mut breaker, Failed, 121);
        assert!(breaker.is_closed(), "it counts from the beginning again");
    }

    #[test]
    fn a_try_that_fails_opens_it_anew_and_the_trouble_began_when_it_began() {
        let mut breaker = open_at(10);
        call(&mut breaker, Failed, 110);
        assert_eq!(breaker.failing_since_ms(), Some(10));
        assert_eq!(breaker.admit(209), Err(Refused));
        assert!(breaker.admit(210).is_ok());
    }

    #[test]
    fn a_try_that_nobody_waited_for_leaves_the_way_to_the_next() {
        let mut breaker = open_at(10);
        call(&mut breaker, Unknown, 110);
        assert!(!breaker.is_closed());
        call(&mut breaker, Answered, 111);
        assert!(breaker.is_closed());
    }

    #[test]
    fn what_began_before_it_opened_says_nothing_about_now() {
        let mut breaker = breaker();
        let early: Vec<Pass> = (0..5).map(|_| breaker.admit(1).unwrap()).collect();
        for (pass, outcome) in early
            .into_iter()
            .zip([Failed, Failed, Failed, Answered, Failed])
        {
            breaker.report(pass, outcome, 2);
        }
        assert!(!breaker.is_closed(), "the answer came too late to count");
        let probe = breaker.admit(102).unwrap();
        breaker.report(probe, Answered, 103);
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_clock_that_is_set_back_shuts_nobody_out() {
        let mut breaker = open_at(1_000_000);
        assert!(breaker.admit(5).is_ok());
    }
}

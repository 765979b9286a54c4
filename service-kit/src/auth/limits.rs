//! How often each caller may send a request. A caller that sends too many waits; the others do not notice.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::auth::principal::{ANONYMOUS, Kind, OPERATOR, Principal};
use crate::auth::token::TokenHash;

/// A bucket for each caller. Clones share them.
#[derive(Clone)]
pub struct Limits {
    rate_of: fn(&Kind, u32) -> Rate,
    a_second: u32,
    /// When each bucket will be full again.
    buckets: Arc<Mutex<Moments<Key>>>,
    /// Until when a token that was sent too often is refused before its owner is looked up, which may cost a read.
    waiting: Arc<Mutex<Moments<TokenHash>>>,
    under_way: Arc<Mutex<HashMap<Principal, Arc<Semaphore>>>>,
}

/// One request in this time, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    every: Duration,
    burst: u32,
}

/// Whose bucket. It names callers, so it is never a label or a log line.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Known(Principal),
    /// A caller without a token, by address.
    Address(Option<IpAddr>),
    /// The same, on a route that gives out tokens.
    Newcomer(Option<IpAddr>),
    /// The same, from the page of a program that is open to all: other callers must not stop the page.
    Page(Option<IpAddr>),
    /// All callers beyond the limit of buckets.
    Rest,
}

/// A bounded map of deadlines. Expired ones are evicted when it is full.
struct Moments<K> {
    of: HashMap<K, Instant>,
    room: usize,
}

/// Callers whose buckets are not full, and tokens that are refused, at a time.
const ROOM: usize = 16_384;

impl Limits {
    /// The requests an operator or a service may send in a second, unless a setting says otherwise.
    pub const DEFAULT: u32 = 5_000;

    /// `a_second` is what each operator and each service may send; other kinds may send a fraction of it.
    pub fn of(a_second: u32) -> Self {
        Self::with(Rate::of, a_second, ROOM)
    }

    /// Two at once for each caller, and then one in an hour: a test sees the end without waiting for it.
    #[cfg(feature = "testing")]
    pub fn two() -> Self {
        let two = |_: &Kind, _| Rate {
            every: Duration::from_secs(3600),
            burst: 2,
        };
        Self::with(two, 0, ROOM)
    }

    fn with(rate_of: fn(&Kind, u32) -> Rate, a_second: u32, room: usize) -> Self {
        Self {
            rate_of,
            a_second,
            buckets: Arc::new(Mutex::new(Moments::up_to(room))),
            waiting: Arc::new(Mutex::new(Moments::up_to(ROOM))),
            under_way: Arc::default(),
        }
    }

    /// A place for one more request of this caller. `None`: all its places are taken.
    pub(crate) fn begin(&self, caller: &Principal, most: usize) -> Option<OwnedSemaphorePermit> {
        let mut under_way = locked(&self.under_way);
        under_way.retain(|_, places| Arc::strong_count(places) > 1); // each permit holds one
        let places = under_way.entry(caller.clone());
        let places = places.or_insert_with(|| Arc::new(Semaphore::new(most)));
        places.clone().try_acquire_owned().ok()
    }

    /// How much longer this token is refused, if it is.
    pub(crate) fn too_early(&self, token: TokenHash, now: Instant) -> Option<Duration> {
        let until = *locked(&self.waiting).of.get(&token)?;
        until.checked_duration_since(now)
    }

    /// Its bucket is empty, so every request before the end of the wait would be refused.
    pub(crate) fn keep_waiting(&self, token: TokenHash, wait: Duration, now: Instant) {
        let mut waiting = locked(&self.waiting);
        if waiting.has_room(&token, now) {
            waiting.of.insert(token, now + wait);
        }
    }

    /// Takes one request from the bucket, or says how long to wait for the next.
    pub(crate) fn take(&self, key: Key, now: Instant) -> Result<(), Duration> {
        let kind = match &key {
            Key::Known(caller) => caller.kind,
            Key::Newcomer(_) | Key::Page(_) => OPERATOR,
            Key::Address(_) | Key::Rest => ANONYMOUS,
        };
        let rate = (self.rate_of)(kind, self.a_second);
        locked(&self.buckets).take(key, rate, now)
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(Self::DEFAULT)
    }
}

impl Rate {
    fn of(kind: &Kind, a_second: u32) -> Self {
        let a_second = (a_second / kind.rate_divisor).max(1);
        Self {
            every: Duration::from_secs(1) / a_second,
            burst: a_second.saturating_mul(kind.burst_s),
        }
    }
}

impl<K: Eq + Hash> Moments<K> {
    fn up_to(room: usize) -> Self {
        let of = HashMap::new();
        Self { of, room }
    }

    /// Whether there is room for this one, if need be by forgetting those that have passed.
    fn has_room(&mut self, key: &K, now: Instant) -> bool {
        if self.of.len() >= self.room && !self.of.contains_key(key) {
            self.of.retain(|_, moment| *moment > now);
        }
        self.of.len() < self.room || self.of.contains_key(key)
    }
}

impl Moments<Key> {
    /// What is missing from a bucket is the time until it is full. One more may be taken while that stays within its size.
    fn take(&mut self, key: Key, rate: Rate, now: Instant) -> Result<(), Duration> {
        let key = if self.has_room(&key, now) {
            key
        } else {
            Key::Rest
        };
        let full_at = self.of.entry(key).or_insert(now);
        let taken = (*full_at).max(now) + rate.every;
        let over = (taken - now).saturating_sub(rate.every * rate.burst);
        if over > Duration::ZERO {
            return Err(over);
        }
        *full_at = taken;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(name: &str) -> Key {
        Key::Known(Principal::new(OPERATOR, name))
    }

    fn two_at_once(room: usize) -> Limits {
        let two = |_: &Kind, _| Rate {
            every: Duration::from_secs(10),
            burst: 2,
        };
        Limits::with(two, 0, room)
    }

    #[test]
    fn a_burst_then_one_at_a_time_and_each_caller_for_itself() {
        let (limits, start) = (two_at_once(8), Instant::now());
        let after = |s| start + Duration::from_secs(s);
        assert!(limits.take(operator("ada"), start).is_ok());
        assert!(limits.take(operator("ada"), start).is_ok());
        let wait = limits.take(operator("ada"), after(1)).unwrap_err();
        assert_eq!(wait, Duration::from_secs(9));
        assert!(limits.take(operator("bob"), after(1)).is_ok());
        assert!(limits.take(operator("ada"), after(10)).is_ok());
        assert!(limits.take(operator("ada"), after(10)).is_err());
        for _ in 0..2 {
            assert!(limits.take(operator("ada"), after(100)).is_ok());
        }
        assert!(limits.take(operator("ada"), after(100)).is_err());
    }

    #[test]
    fn the_buckets_have_an_end_and_a_caller_without_room_shares_one() {
        let (limits, start) = (two_at_once(4), Instant::now());
        let later = start + Duration::from_secs(60);
        let take = |name: usize, now| limits.take(operator(&name.to_string()), now).is_ok();
        let let_in = (0..100).filter(|name| take(*name, start)).count();
        assert_eq!(let_in, 4 + 2, "the last two from the bucket of the rest");
        let kept = || limits.buckets.lock().unwrap().of.len();
        assert_eq!(kept(), 4 + 1);
        assert!(take(100, later), "the old ones are full again");
        assert_eq!(kept(), 1);
    }

    #[test]
    fn one_figure_scales_all() {
        const SLOW: Kind = Kind {
            rate_divisor: 100,
            burst_s: 4,
            ..*OPERATOR
        };
        let rates = |a_second| {
            [OPERATOR, &SLOW, ANONYMOUS].map(|kind| {
                let Rate { every, burst } = Rate::of(kind, a_second);
                (every, burst)
            })
        };
        let us = Duration::from_micros;
        assert_eq!(
            rates(Limits::DEFAULT),
            [(us(200), 10_000), (us(20_000), 200), (us(10_000), 200)]
        );
        let s = us(1_000_000);
        assert_eq!(rates(1), [(s, 2), (s, 4), (s, 2)]);
    }
}

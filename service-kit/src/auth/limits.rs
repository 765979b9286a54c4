//! How often each caller may come. One who comes too often waits; the others do not notice.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::auth::{Caller, TokenHash};

/// A bucket for each caller. Clones share them.
#[derive(Clone)]
pub struct Limits {
    rates: Rates,
    buckets: Arc<Mutex<Buckets>>,
    under_way: Arc<Mutex<HashMap<Caller, usize>>>,
    /// Until when a token that came too often is refused without a look at whose it is. Such a look may cost a read.
    waiting: Arc<Mutex<HashMap<[u8; 32], Instant>>>,
}

/// Held while a device's request is under way.
pub(crate) struct UnderWay {
    all: Arc<Mutex<HashMap<Caller, usize>>>,
    caller: Caller,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rates {
    /// Operators and services: people who know what they do, and programs of ours.
    trusted: Rate,
    device: Rate,
    anonymous: Rate,
}

/// So many a second, and so many at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rate {
    every: Duration,
    burst: u32,
}

/// Whose bucket. A name is never a label or a log line: it stays in here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Known(Caller),
    /// Whoever has no token, by address.
    Address(Option<IpAddr>),
    /// The same, where strangers become known.
    Newcomer(Option<IpAddr>),
    /// The same, from the page of a program that is for everybody: what else calls it must not stop the page.
    Page(Option<IpAddr>),
    /// All for whom there was no room.
    Rest,
}

/// When each bucket will be full again. One whose moment has passed is as good as none, so it needs no place.
struct Buckets {
    full_at: HashMap<Key, Instant>,
    room: usize,
}

/// Requests of one device that may be under way: it follows one feed, and sends a few intents meanwhile. Strangers need no such
/// limit, since their connections make room for others; operators and services are trusted.
pub const MAX_UNDER_WAY_OF_DEVICE: usize = 16;
/// Callers that may be on their way back to a full bucket at a time.
const ROOM: usize = 16_384;

impl Limits {
    /// What operators and services may send in a second when nothing is said.
    pub const DEFAULT: u32 = 5_000;

    /// So many for each operator and each service, a hundredth for each device, a fiftieth for those without a token.
    pub fn of(a_second: u32) -> Self {
        let at_least_one = |rate: u32| rate.max(1);
        Self::with(
            Rates {
                trusted: Rate::new(at_least_one(a_second), 2),
                device: Rate::new(at_least_one(a_second / 100), 4),
                anonymous: Rate::new(at_least_one(a_second / 50), 2),
            },
            ROOM,
        )
    }

    /// Two at once for anybody, and then one in an hour: a test sees the end without waiting for it.
    #[cfg(feature = "testing")]
    pub fn two() -> Self {
        let two = Rate {
            every: Duration::from_secs(3600),
            burst: 2,
        };
        Self::with(Rates::all(two), ROOM)
    }

    fn with(rates: Rates, room: usize) -> Self {
        let full_at = HashMap::new();
        let buckets = Arc::new(Mutex::new(Buckets { full_at, room }));
        Self {
            rates,
            buckets,
            under_way: Arc::default(),
            waiting: Arc::default(),
        }
    }

    /// A place for one more request of this device.
    pub(crate) fn begin(&self, caller: &Caller) -> Option<UnderWay> {
        let mut all = locked(&self.under_way);
        let of_caller = all.entry(caller.clone()).or_default();
        if *of_caller >= MAX_UNDER_WAY_OF_DEVICE {
            return None;
        }
        *of_caller += 1;
        Some(UnderWay {
            all: self.under_way.clone(),
            caller: caller.clone(),
        })
    }

    /// How much longer this token is refused, if it is.
    pub(crate) fn too_early(&self, token: TokenHash, now: Instant) -> Option<Duration> {
        let until = *locked(&self.waiting).get(token.as_bytes())?;
        until.checked_duration_since(now)
    }

    /// Its bucket was found empty: there is no use in asking again before the wait is over.
    pub(crate) fn keep_waiting(&self, token: TokenHash, wait: Duration, now: Instant) {
        let mut waiting = locked(&self.waiting);
        if waiting.len() >= ROOM {
            waiting.retain(|_, until| *until > now);
        }
        if waiting.len() < ROOM {
            waiting.insert(*token.as_bytes(), now + wait);
        }
    }

    /// Takes one, or says how long to wait for the next.
    pub(crate) fn take(&self, key: Key, now: Instant) -> Result<(), Duration> {
        let rate = match &key {
            Key::Known(Caller::Operator(_) | Caller::Service(_))
            | Key::Newcomer(_)
            | Key::Page(_) => self.rates.trusted,
            Key::Known(Caller::Device { .. }) | Key::Rest => self.rates.device,
            Key::Known(Caller::Anonymous) | Key::Address(_) => self.rates.anonymous,
        };
        locked(&self.buckets).take(key, rate, now)
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut all = locked(&self.all);
        if let Some(of_caller) = all.get_mut(&self.caller) {
            *of_caller -= 1;
            if *of_caller == 0 {
                all.remove(&self.caller);
            }
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::of(Self::DEFAULT)
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rates.fmt(f)
    }
}

#[cfg(any(test, feature = "testing"))]
impl Rates {
    fn all(rate: Rate) -> Self {
        Self {
            trusted: rate,
            device: rate,
            anonymous: rate,
        }
    }
}

impl Rate {
    fn new(a_second: u32, burst: u32) -> Self {
        Self {
            every: Duration::from_secs(1) / a_second,
            burst: a_second.saturating_mul(burst),
        }
    }
}

impl Buckets {
    /// What is missing from a bucket is the time until it is full. One more may be taken while that stays within its size.
    fn take(&mut self, key: Key, rate: Rate, now: Instant) -> Result<(), Duration> {
        let key = self.place(key, now);
        let full_at = self.full_at.entry(key).or_insert(now);
        let taken = (*full_at).max(now) + rate.every;
        let over = (taken - now).saturating_sub(rate.every * rate.burst);
        if over > Duration::ZERO {
            return Err(over);
        }
        *full_at = taken;
        Ok(())
    }

    /// Room for one more, if need be by forgetting the full ones.
    fn place(&mut self, key: Key, now: Instant) -> Key {
        if self.full_at.contains_key(&key) || self.full_at.len() < self.room {
            return key;
        }
        self.full_at.retain(|_, full_at| *full_at > now);
        match self.full_at.len() < self.room {
            true => key,
            false => Key::Rest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(name: &str) -> Key {
        Key::Known(Caller::Operator(name.to_owned()))
    }

    fn two_at_once(room: usize) -> Limits {
        let two = Rate {
            every: Duration::from_secs(10),
            burst: 2,
        };
        Limits::with(Rates::all(two), room)
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
    fn the_buckets_have_an_end_and_who_finds_no_room_shares_one() {
        let (limits, start) = (two_at_once(4), Instant::now());
        let later = start + Duration::from_secs(60);
        let take = |name: usize, now| limits.take(operator(&name.to_string()), now).is_ok();
        let let_in = (0..100).filter(|name| take(*name, start)).count();
        assert_eq!(let_in, 4 + 2, "the last two from the bucket of the rest");
        let kept = || limits.buckets.lock().unwrap().full_at.len();
        assert_eq!(kept(), 4 + 1);
        assert!(take(100, later), "the old ones are full again");
        assert_eq!(kept(), 1);
    }

    #[test]
    fn one_figure_scales_all() {
        let rates = |a_second| {
            let Rates {
                trusted,
                device,
                anonymous,
            } = Limits::of(a_second).rates;
            [trusted, device, anonymous].map(|rate| (rate.every, rate.burst))
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

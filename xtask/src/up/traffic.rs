//! Sample traffic: people register, rename themselves and place orders, at a set rate.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freehold_tests::chance;
use freehold_tests::http::{OrderApi, Reply, UserApi};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::interval;

use super::system::Urls;

/// Runs until dropped.
pub(super) struct Traffic {
    task: JoinHandle<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Answered with an error, or not at all.
    pub(super) failed: AtomicU64,
}

/// More at a time would only queue inside the services.
const AT_ONCE: usize = 64;
/// Renames and orders draw from the latest of these.
const REMEMBERED: usize = 1000;
/// Names in many scripts: they must come through byte for byte.
const NAMES: [&str; 12] = [
    "Ada Lovelace",
    "Zoë Müller",
    "Søren Ørsted",
    "李小龍",
    "Ольга Иванова",
    "محمد علي",
    "אריאל שרון",
    "さくら",
    "Nguyễn Văn An",
    "Γιώργος Σεφέρης",
    "अनिल कुमार",
    "O'Brien-Łukasz",
];

impl Traffic {
    pub(super) fn start(rate: f64, urls: &Urls) -> Traffic {
        let counts = Arc::new(Counts::default());
        let people = People {
            users: UserApi::new(&urls.users, Some(urls.operator.clone())),
            orders: OrderApi::new(&urls.orders, Some(urls.operator.clone())),
            known: Mutex::default(),
            counts: Arc::clone(&counts),
        };
        Traffic {
            task: tokio::spawn(flow(rate, Arc::new(people))),
            counts,
        }
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Each tick one event; a slow service slows the traffic down instead of piling it up.
async fn flow(rate: f64, people: Arc<People>) {
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        ticks.tick().await;
        let Ok(place) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let people = Arc::clone(&people);
        tokio::spawn(async move {
            people.act().await;
            drop(place);
        });
    }
}

struct People {
    users: UserApi,
    orders: OrderApi,
    known: Mutex<Vec<String>>,
    counts: Arc<Counts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Register,
    Rename,
    Order,
}

impl People {
    async fn act(&self) {
        let reply = match (deed(chance::number()), self.somebody()) {
            (Deed::Rename, Some(user)) => self.users.rename(&user, name()).await,
            (Deed::Order, Some(user)) => self.orders.place(&user, amount(), "EUR").await,
            _ => self.register().await,
        };
        if !reply.is_success() {
            self.counts.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn register(&self) -> Reply {
        let email = format!("u{:016x}@example.org", chance::number());
        let reply = self.users.register(name(), &email).await;
        if reply.status == 201 {
            self.remember(reply.id());
        }
        reply
    }

    fn remember(&self, id: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < REMEMBERED {
            known.push(id.to_owned());
        } else {
            let place = pick(known.len());
            known[place] = id.to_owned();
        }
    }

    fn somebody(&self) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_empty() {
            None
        } else {
            known.get(pick(known.len())).cloned()
        }
    }
}

/// Four in ten register, two rename, four order.
fn deed(drawn: u64) -> Deed {
    match drawn % 10 {
        0..4 => Deed::Register,
        4..6 => Deed::Rename,
        _ => Deed::Order,
    }
}

fn name() -> &'static str {
    NAMES[pick(NAMES.len())]
}

fn amount() -> i64 {
    i64::from(chance::in_range(100..10_000))
}

/// A place in a list that is not empty. Lists here are short enough for 16 bits.
fn pick(length: usize) -> usize {
    usize::from(chance::in_range(
        0..u16::try_from(length).unwrap_or(u16::MAX),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deed_has_its_share() {
        let count = |wanted| (0..10).filter(|drawn| deed(*drawn) == wanted).count();
        assert_eq!(
            [Deed::Register, Deed::Rename, Deed::Order].map(count),
            [4, 2, 4]
        );
    }
}

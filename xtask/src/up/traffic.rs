//! Sample traffic: people register, rename themselves and place orders, at a set rate; an office gives the orders to
//! drivers, and they deliver them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_tests::http::{OrderApi, Reply, UserApi};
use freehold_tests::{Office, chance};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::crew::Driver;
use super::desk::Desk;
use super::hands::{drive, travel};
use super::system::Urls;
use crate::console::Console;

/// Runs until dropped.
pub(super) struct Traffic {
    _tasks: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Answered with an error, or not at all.
    pub(super) failed: AtomicU64,
}

/// Orders of sample customers that no driver has yet, the oldest first.
#[derive(Debug)]
pub(super) struct Waiting {
    orders: Mutex<VecDeque<Placed>>,
    room: usize,
}

/// An order, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) order_id: String,
    pub(super) user_id: String,
}

/// More at a time would only queue inside the services.
const AT_ONCE: usize = 64;
/// Renames and orders draw from the latest of these.
const REMEMBERED: usize = 1000;
/// While so many orders wait for a driver, nobody places another one: drivers are slower than customers.
const ROOM: usize = 8;
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
    /// Without drivers, orders are placed all the same, as many as there come.
    pub(super) fn start(
        rate: f64,
        urls: &Urls,
        office: Office,
        drivers: &[Driver],
        console: &Arc<Console>,
    ) -> Traffic {
        let counts = Arc::new(Counts::default());
        let waiting = Arc::new(Waiting::with(if drivers.is_empty() { 0 } else { ROOM }));
        let people = People {
            users: UserApi::new(&urls.users, Some(urls.operator.clone())),
            orders: OrderApi::new(&urls.orders, Some(urls.operator.clone())),
            known: Mutex::default(),
            waiting: Arc::clone(&waiting),
            counts: Arc::clone(&counts),
        };
        let mut tasks = JoinSet::new();
        let desk = Desk {
            office,
            users: people.users.clone(),
            drivers: drivers.to_vec(),
            waiting,
            counts: Arc::clone(&counts),
            console: Arc::clone(console),
        };
        if !drivers.is_empty() {
            tasks.spawn(desk.work());
        }
        let simulated = || drivers.iter().filter(|driver| !driver.played);
        for driver in simulated() {
            let others = simulated().filter(|other| other.number != driver.number);
            tasks.spawn(travel(driver.clone(), others.cloned().collect()));
            tasks.spawn(drive(driver.clone(), Arc::clone(&counts)));
        }
        tasks.spawn(flow(rate, Arc::new(people)));
        Traffic {
            _tasks: tasks,
            counts,
        }
    }

    pub(super) fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }
}

impl Counts {
    /// That somebody else was faster, or that somebody has left, is an ordinary answer.
    pub(super) fn note(&self, reply: &Reply) {
        if !reply.is_success() && !matches!(reply.status, 404 | 409 | 412 | 422) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Waiting {
    /// With no room at all, orders are not remembered, and never too many.
    fn with(room: usize) -> Waiting {
        Waiting {
            orders: Mutex::default(),
            room,
        }
    }

    pub(super) fn take(&self) -> Option<Placed> {
        self.orders().pop_front()
    }

    fn is_full(&self) -> bool {
        self.room > 0 && self.orders().len() >= self.room
    }

    fn put(&self, placed: Placed) {
        if self.room > 0 {
            self.orders().push_back(placed);
        }
    }

    fn orders(&self) -> MutexGuard<'_, VecDeque<Placed>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
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
    waiting: Arc<Waiting>,
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
        let deed = match deed(chance::number()) {
            Deed::Order if self.waiting.is_full() => Deed::Rename,
            deed => deed,
        };
        let reply = match (deed, self.somebody()) {
            (Deed::Rename, Some(user)) => self.rename(&user).await,
            (Deed::Order, Some(user)) => self.order(&user).await,
            _ => self.register().await,
        };
        self.counts.note(&reply);
    }

    /// Whoever has left is forgotten.
    async fn rename(&self, user: &str) -> Reply {
        let reply = self.users.rename(user, name()).await;
        if reply.status == 404 {
            self.forget(user);
        }
        reply
    }

    async fn order(&self, user: &str) -> Reply {
        let reply = self.orders.place(user, amount(), "EUR").await;
        match reply.status {
            201 => self.waiting.put(Placed {
                order_id: reply.id().to_owned(),
                user_id: user.to_owned(),
            }),
            422 => self.forget(user),
            _ => {}
        }
        reply
    }

    async fn register(&self) -> Reply {
        let email = format!("u{:016x}@example.org", chance::number());
        let reply = self.users.register(name(), &email).await;
        if reply.status == 201 {
            self.remember(reply.id());
        }
        reply
    }

    fn known(&self) -> MutexGuard<'_, Vec<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, id: &str) {
        self.known().retain(|known| known != id);
    }

    fn remember(&self, id: &str) {
        let mut known = self.known();
        if known.len() < REMEMBERED {
            known.push(id.to_owned());
        } else {
            let place = pick(known.len());
            known[place] = id.to_owned();
        }
    }

    fn somebody(&self) -> Option<String> {
        let known = self.known();
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
pub(super) fn pick(length: usize) -> usize {
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

    #[test]
    fn orders_wait_in_turn_and_there_is_no_end_of_room_without_drivers() {
        let placed = |id: &str| Placed {
            order_id: id.to_owned(),
            user_id: String::new(),
        };
        let waiting = Waiting::with(2);
        waiting.put(placed("a"));
        assert!(!waiting.is_full());
        waiting.put(placed("b"));
        assert!(waiting.is_full());
        assert_eq!(waiting.take(), Some(placed("a")));

        let nobody_drives = Waiting::with(0);
        nobody_drives.put(placed("a"));
        assert!(!nobody_drives.is_full() && nobody_drives.take().is_none());
    }
}

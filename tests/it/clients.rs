//! Clients that keep writing through every fault, and record every answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::future::ready;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use freehold_tests::OrderApi;
use freehold_tests::UserApi;
use freehold_tests::http::Reply;
use freehold_tests::observer::StoredEvent;
use freehold_tests::users::{Users, users_in};
use freehold_tests::{World, eventually, outbox, seconds, within};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::applied::versions;

/// How much they write.
#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub(crate) clients: u64,
    /// Of all of them.
    pub(crate) writes: u64,
    /// Some writes are orders of this user.
    pub(crate) customer: Option<String>,
    pub(crate) seed: u64,
}

/// Clients at work.
pub(crate) struct Clients {
    answered: Arc<AtomicU64>,
    pub(crate) losses: Losses,
    tasks: Vec<JoinHandle<Told>>,
}

/// Every acknowledged write.
#[derive(Debug, Default)]
pub(crate) struct Told {
    users: BTreeSet<UserWrite>,
    /// The last acknowledged state of each user.
    known: Users,
    orders: BTreeSet<String>,
}

/// One change of one user. Each has a unique name, so it can be recognised.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct UserWrite {
    id: String,
    version: u64,
    name: String,
}

/// Writes reported as lost with a destroyed file, and the state of each user without them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses(Arc<Mutex<Lost>>);

#[derive(Debug, Default)]
struct Lost {
    users: HashMap<UserWrite, Option<(String, u64)>>,
    orders: HashSet<String>,
}

impl Load {
    pub(crate) fn start(&self, world: &World) -> Clients {
        let (answered, losses) = (Arc::<AtomicU64>::default(), Losses::default());
        let client = |number| Client {
            users_api: world.users(),
            orders_api: world.orders(),
            number,
            customer: self.customer.clone(),
            random: StdRng::seed_from_u64(self.seed ^ (number << 32)),
            users: Vec::new(),
            losses: losses.clone(),
            told: Told::default(),
        };
        let tasks = (0..self.clients)
            .map(|number| {
                tokio::spawn(client(number).run(self.writes / self.clients, answered.clone()))
            })
            .collect();
        Clients {
            answered,
            losses,
            tasks,
        }
    }
}

impl Clients {
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    pub(crate) async fn until_answered(&self, share: u64) {
        eventually("the clients get on", seconds(120), async || {
            match self.answered() {
                count if count >= share => Ok(()),
                count => Err(format!("{count} of {share}")),
            }
        })
        .await;
    }

    /// Waits until all clients have finished; returns the acknowledged writes and the reported losses.
    pub(crate) async fn finish(self) -> (Told, Losses) {
        let mut all = Told::default();
        for task in self.tasks {
            let told = task.await.expect("a client");
            all.users.extend(told.users);
            all.known.extend(told.known);
            all.orders.extend(told.orders);
        }
        (all, self.losses)
    }
}

impl Losses {
    /// Reports these events, the last of a destroyed file, as lost.
    pub(crate) fn report(&self, destroyed: &Path, lost: &[StoredEvent]) {
        let Some(first) = lost.first() else { return };
        let mut all = outbox::read_all(destroyed).expect("read");
        all.truncate(usize::try_from(first.seq - 1).expect("small"));
        let left: HashMap<_, _> = all
            .iter()
            .filter_map(user_write)
            .map(|write| (write.id.clone(), (write.name, write.version)))
            .collect();
        let mut reported = self.0.lock().expect("no holder panics");
        for event in lost {
            if let Some(write) = user_write(event) {
                let before = left.get(&write.id).cloned();
                reported.users.insert(write, before);
            }
            let order = &data(event)["order_id"];
            reported.orders.extend(order.as_str().map(str::to_owned));
        }
    }

    /// The user's state before the destroyed file's last events, if this write is one of them.
    fn before(&self, write: &UserWrite) -> Option<Option<(String, u64)>> {
        self.0
            .lock()
            .expect("no holder panics")
            .users
            .get(write)
            .cloned()
    }
}

impl Told {
    /// Every acknowledged write is in its owner's log or was reported as lost; every user has the last acknowledged state.
    /// Returns how many were lost.
    pub(crate) fn check_found_or_reported(mut self, world: &World, losses: &Losses) -> usize {
        let lost = losses.0.lock().expect("no holder panics");
        let users = outbox::read_all(&world.user_service.database).expect("read");
        let users: HashSet<_> = users.iter().filter_map(user_write).collect();
        let orders =
            outbox::rows(&world.orders_service.database, "select id from orders").expect("read");
        let orders: HashSet<_> = orders.into_iter().flatten().filter_map(text).collect();
        let mut gone = 0;
        for write in &self.users {
            let reported = lost.users.contains_key(write);
            assert!(
                reported || users.contains(write),
                "{write:?} was acknowledged, and is gone without a word"
            );
            gone += usize::from(reported);
        }
        for order in &self.orders {
            let reported = lost.orders.contains(order);
            assert!(
                reported || orders.contains(order),
                "order {order} was acknowledged, and is gone without a word"
            );
            gone += usize::from(reported);
        }
        self.take_back(&lost);
        let owned = users_in(&world.user_service.database, "users").expect("they are read");
        for (id, seen) in &self.known {
            assert_eq!(
                owned.get(id),
                Some(seen),
                "user {id} is not as it was acknowledged"
            );
        }
        versions_have_no_gap(&world.user_service.database, &owned);
        gone
    }

    pub(crate) fn users(&self) -> usize {
        self.known.len()
    }

    /// The last acknowledged write, if it was lost afterwards, was never followed by another write.
    fn take_back(&mut self, lost: &Lost) {
        for id in self.known.keys().cloned().collect::<Vec<_>>() {
            while let Some((name, version)) = self.known.get(&id).cloned()
                && let Some(before) = lost.users.get(&UserWrite {
                    id: id.clone(),
                    version,
                    name,
                })
            {
                match before.clone() {
                    Some(before) => self.known.insert(id.clone(), before),
                    None => self.known.remove(&id),
                };
            }
        }
    }
}

/// One client, with users of its own.
struct Client {
    users_api: UserApi,
    orders_api: OrderApi,
    number: u64,
    customer: Option<String>,
    random: StdRng,
    users: Vec<String>,
    losses: Losses,
    told: Told,
}

impl Client {
    /// Sends writes until this many were acknowledged.
    async fn run(mut self, writes: u64, answered: Arc<AtomicU64>) -> Told {
        for write in 0..writes {
            let renames = !self.users.is_empty() && self.random.random_bool(0.6);
            let orders = self.customer.is_some() && self.random.random_bool(0.3);
            match (orders, renames) {
                (true, _) => self.place_order().await,
                (_, true) => self.rename(write).await,
                (_, false) => self.register(write).await,
            }
            answered.fetch_add(1, Ordering::Relaxed);
        }
        self.told
    }

    /// A registration whose answer was lost may have happened: then the address is taken, and another one is used.
    async fn register(&mut self, write: u64) {
        for attempt in 0.. {
            let email = format!("c{}-{write}-{attempt}@example.org", self.number);
            let name = format!("client {} user {write}", self.number);
            let reply = self.users_api.register(&name, &email).await;
            if reply.is_success() {
                self.users.push(reply.id().to_owned());
                return self.learn(&reply);
            }
            unavailable(&reply).await;
        }
    }

    /// A rename whose answer was lost may have happened: so may each one before it.
    async fn rename(&mut self, write: u64) {
        let index = self.random.random_range(0..self.users.len());
        let id = self.users[index].clone();
        for attempt in 0.. {
            let name = format!("renamed {write} {attempt}");
            let reply = self.users_api.rename(&id, &name).await;
            if is_unavailable(&reply) {
                unavailable(&reply).await;
                continue;
            }
            if !self.follows(&id, &reply, attempt) {
                self.hear_of_the_loss(&id, &reply).await;
                if !self.told.known.contains_key(&id) {
                    self.users.swap_remove(index);
                    return;
                }
                let known = &self.told.known[&id];
                assert!(
                    self.follows(&id, &reply, attempt),
                    "after {known:?}: {}",
                    reply.body
                );
            }
            return self.learn(&reply);
        }
    }

    /// One write, one version.
    fn follows(&self, id: &str, reply: &Reply, unanswered: u64) -> bool {
        let known = self.told.known[id].1;
        reply.is_success() && (known + 1..=known + 1 + unanswered).contains(&reply.version())
    }

    /// The user does not have the acknowledged state, so the fault must have reported a loss.
    async fn hear_of_the_loss(&mut self, id: &str, reply: &Reply) {
        let (name, version) = self.told.known[id].clone();
        let told = UserWrite {
            id: id.to_owned(),
            version,
            name,
        };
        let reported = within(seconds(60), || {
            ready(
                self.losses
                    .before(&told)
                    .ok_or("it was not reported as lost"),
            )
        });
        let before = reported.await.unwrap_or_else(|why| {
            panic!(
                "{told:?} was acknowledged, {why}, and now: {} {}",
                reply.status, reply.body
            )
        });
        match before {
            Some(before) => self.told.known.insert(id.to_owned(), before),
            None => self.told.known.remove(id),
        };
    }

    async fn place_order(&mut self) {
        let customer = self.customer.clone().expect("asked before");
        loop {
            let reply = self.orders_api.place(&customer, 100, "EUR").await;
            if reply.is_success() {
                self.told.orders.insert(reply.id().to_owned());
                return;
            }
            unavailable(&reply).await;
        }
    }

    fn learn(&mut self, reply: &Reply) {
        let name = reply.body["name"].as_str().expect("a name").to_owned();
        let (id, version) = (reply.id().to_owned(), reply.version());
        self.told.known.insert(id.clone(), (name.clone(), version));
        self.told.users.insert(UserWrite { id, version, name });
    }
}

/// Killed services give no answer, starting ones a 503.
fn is_unavailable(reply: &Reply) -> bool {
    [Reply::NONE, 503].contains(&reply.status)
}

/// Anything else is a fault.
async fn unavailable(reply: &Reply) {
    assert!(
        is_unavailable(reply),
        "answered {} {}",
        reply.status,
        reply.body
    );
    tokio::time::sleep(Duration::from_millis(10)).await; // the pace of a client's retries
}

/// Per user the events are versions 1, 2, … up to the user's own, and no event id comes twice.
fn versions_have_no_gap(database: &Path, users: &Users) {
    let (mut last, mut ids) = (BTreeMap::<String, u64>::new(), HashSet::new());
    for event in outbox::read_all(database).expect("the outbox is read") {
        let json = envelope(&event);
        let user = json["subject"].as_str().expect("a subject").to_owned();
        let version = last.entry(user).or_default();
        *version += 1;
        assert_eq!(json["data"]["version"], *version, "at {}", event.seq);
        assert!(
            ids.insert(json["id"].to_string()),
            "the id of {} comes twice",
            event.seq
        );
    }
    assert_eq!(last, versions(users));
}

fn user_write(event: &StoredEvent) -> Option<UserWrite> {
    let data = data(event);
    Some(UserWrite {
        id: data["user_id"].as_str()?.to_owned(),
        version: data["version"].as_u64()?,
        name: data["name"].as_str()?.to_owned(),
    })
}

fn data(event: &StoredEvent) -> Value {
    let mut envelope = envelope(event);
    envelope["data"].take()
}

fn envelope(event: &StoredEvent) -> Value {
    serde_json::from_slice(&event.bytes).expect("an envelope")
}

fn text(value: rusqlite::types::Value) -> Option<String> {
    match value {
        rusqlite::types::Value::Text(text) => Some(text),
        _ => None,
    }
}

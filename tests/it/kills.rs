//! 20,000 writes from 32 clients while everything is killed at random: nothing acknowledged is lost, nothing is
//! applied twice or out of order.
//!
//! `FREEHOLD_SEED` repeats a run's choices.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freehold_tests::http::{Reply, UserApi};
use freehold_tests::outbox::{Users, users_in};
use freehold_tests::{Part, World, eventually, outbox, seconds};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::applied::{count_every_application, everything_arrived_once, versions};

const WRITES: u64 = 20_000;
const CLIENTS: u64 = 32;
const KILLS: u64 = 15;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_and_nothing_is_applied_twice_whatever_is_killed() {
    let seed = freehold_tests::chance::seed();
    println!("FREEHOLD_SEED={seed}");
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            let client = Client::new(world.users(), number, seed, answered.clone());
            tokio::spawn(client.run(WRITES / CLIENTS))
        })
        .collect();

    let mut random = StdRng::seed_from_u64(seed);
    let mut killed = [0_u64; 3];
    for kill in 1..=KILLS {
        let share = WRITES * kill / (KILLS + 1);
        until_answered(&answered, share).await;
        killed[kill_one(&mut world, &mut random).await] += 1;
    }
    let mut acknowledged = Users::new();
    for client in clients {
        acknowledged.extend(client.await.expect("a client"));
    }
    println!(
        "{WRITES} writes answered, {} users; kills: user-service {}, orders-service {}, broker {}",
        acknowledged.len(),
        killed[0],
        killed[1],
        killed[2]
    );

    let owned = users_in(&world.user_service.database, "users").expect("they are read");
    for (id, seen) in &acknowledged {
        assert_eq!(
            owned.get(id),
            Some(seen),
            "user {id} is not as it was acknowledged"
        );
    }
    versions_have_no_gap(&world.user_service.database, &owned);
    everything_arrived_once(&mut world).await;
}

/// One of `CLIENTS`, with users of its own.
struct Client {
    api: UserApi,
    number: u64,
    random: StdRng,
    answered: Arc<AtomicU64>,
    users: Vec<String>,
    /// What the service told us last of each.
    known: Users,
}

impl Client {
    fn new(api: UserApi, number: u64, seed: u64, answered: Arc<AtomicU64>) -> Self {
        Self {
            api,
            number,
            random: StdRng::seed_from_u64(seed ^ (number << 32)),
            answered,
            users: Vec::new(),
            known: Users::new(),
        }
    }

    /// Sends writes until so many were answered; tells what was acknowledged.
    async fn run(mut self, writes: u64) -> Users {
        for write in 0..writes {
            let renames = !self.users.is_empty() && self.random.random_bool(0.6);
            match renames {
                true => self.rename(write).await,
                false => self.register(write).await,
            }
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
        self.known
    }

    /// A registration whose answer was lost may have happened: then the address is taken, and another one is used.
    async fn register(&mut self, write: u64) {
        for attempt in 0.. {
            let email = format!("c{}-{write}-{attempt}@example.org", self.number);
            let name = format!("client {} user {write}", self.number);
            let reply = self.api.register(&name, &email).await;
            if reply.is_success() {
                self.users.push(reply.id().to_owned());
                self.learn(&reply);
                return;
            }
            unavailable(&reply).await;
        }
    }

    /// A rename whose answer was lost may have happened: the service is asked what is true now.
    async fn rename(&mut self, write: u64) {
        let index = self.random.random_range(0..self.users.len());
        let id = self.users[index].clone();
        for attempt in 0.. {
            let name = format!("renamed {write} {attempt}");
            let reply = self.api.rename(&id, &name).await;
            if reply.is_success() {
                assert_eq!(
                    reply.version(),
                    self.known[&id].1 + 1,
                    "one write, one version"
                );
                return self.learn(&reply);
            }
            unavailable(&reply).await;
            self.ask(&id, &name).await;
        }
    }

    async fn ask(&mut self, id: &str, tried: &str) {
        let reply = loop {
            let reply = self.api.user(id).await;
            if reply.is_success() {
                break reply;
            }
            unavailable(&reply).await;
        };
        let (name, version) = self.known[id].clone();
        let unchanged = reply.body["name"] == name.as_str() && reply.version() == version;
        let changed = reply.body["name"] == tried && reply.version() == version + 1;
        assert!(
            unchanged || changed,
            "{} is neither {name} at {version} nor {tried} at the next",
            reply.body
        );
        self.learn(&reply);
    }

    fn learn(&mut self, reply: &Reply) {
        let name = reply.body["name"].as_str().expect("a name").to_owned();
        self.known
            .insert(reply.id().to_owned(), (name, reply.version()));
    }
}

/// Killed services give no answer, starting ones a 503. Anything else is a fault.
async fn unavailable(reply: &Reply) {
    let expected = [Reply::NONE, 503].contains(&reply.status);
    assert!(expected, "answered {} {}", reply.status, reply.body);
    tokio::time::sleep(Duration::from_millis(10)).await; // the pace of a client's retries
}

async fn until_answered(answered: &AtomicU64, share: u64) {
    eventually(
        "the clients get on",
        seconds(120),
        async || match answered.load(Ordering::Relaxed) {
            count if count >= share => Ok(()),
            count => Err(format!("{count} of {share}")),
        },
    )
    .await;
}

/// SIGKILL, a moment of absence, and a new start. Answers whose turn it was.
async fn kill_one(world: &mut World, random: &mut StdRng) -> usize {
    let victim = random.random_range(0..3);
    let absence = Duration::from_millis(random.random_range(0..400));
    match victim {
        0 => kill_and_start(&mut world.user_service, absence).await,
        1 => kill_and_start(&mut world.orders_service, absence).await,
        _ => kill_and_start(&mut world.broker, absence).await,
    }
    victim
}

async fn kill_and_start(part: &mut impl Part, absence: Duration) {
    part.kill();
    tokio::time::sleep(absence).await; // the fault itself, not a wait for a result
    part.start().await.expect("it starts again");
}

/// Per user the events are versions 1, 2, … up to the user's own, and no event id comes twice.
fn versions_have_no_gap(database: &Path, users: &Users) {
    let (mut last, mut ids) = (BTreeMap::<String, u64>::new(), HashSet::new());
    for event in outbox::read_all(database).expect("the outbox is read") {
        let json: serde_json::Value = serde_json::from_slice(&event.bytes).expect("an envelope");
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

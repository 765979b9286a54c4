//! Copies of databases and of the broker's store are restored while clients keep writing, each of three ages: every acknowledged
//! write is there, or was unpublished in the destroyed file and is reported one by one.
//!
//! `FREEHOLD_SEED` repeats a run's choices.

use freehold_tests::{Part, World};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::applied::{count_every_application, everything_arrived_once, register};
use crate::clients::{Clients, Load};
use crate::older::{How, Whose, copy_of, put_back, put_back_killed, until_published};
use crate::states::is_ready;

const CLIENTS: u64 = 16;
const WRITES: u64 = 4_000;
/// When each copy is taken and restored, in percent of all writes; each some percent later.
const AGES: [(u64, u64, &str); 3] = [
    (5, 30, "early"),
    (35, 55, "middle"),
    (70, 70, "just before"),
];

#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_of_the_producer_loses_only_unpublished_events() {
    let mut run = Run::start().await;
    let mut lost = Vec::new();
    for (age, how) in AGES
        .into_iter()
        .zip([How::SwappedAndKilled, How::Restored, How::Swapped])
    {
        lost.push(run.round(Whose::UserService, how, age).await);
    }
    lost.push(run.with_the_broker_away().await);
    assert!(lost[3] > 0, "some were to be lost: {lost:?}");
    run.end("user-service", &lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_database_of_the_consumer_applies_every_missing_event_once() {
    let mut run = Run::start().await;
    let mut lost = Vec::new();
    for (age, how) in AGES
        .into_iter()
        .zip([How::Restored, How::SwappedAndKilled, How::Swapped])
    {
        lost.push(run.round(Whose::OrdersService, how, age).await);
    }
    run.end("orders-service", &lost).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_store_of_the_broker_is_refilled() {
    let mut run = Run::start().await;
    let mut lost = Vec::new();
    for age in AGES {
        lost.push(run.round(Whose::Broker, How::Swapped, age).await);
    }
    assert_eq!(lost, [0, 0, 0], "the outboxes hold it all");
    run.end("the broker", &lost).await;
}

/// A world under load.
struct Run {
    world: World,
    clients: Clients,
    random: StdRng,
    seed: u64,
}

impl Run {
    async fn start() -> Run {
        let seed = freehold_tests::chance::seed();
        println!("FREEHOLD_SEED={seed}");
        let mut world = World::start().await;
        count_every_application(&mut world).await;
        let customer = register(&world, 0..1).await.remove(0);
        let load = Load {
            clients: CLIENTS,
            writes: WRITES,
            customer: Some(customer),
            seed,
        };
        let clients = load.start(&world);
        let random = StdRng::seed_from_u64(seed);
        Run {
            world,
            clients,
            random,
            seed,
        }
    }

    /// Takes and restores one copy. Returns how many events were lost with the replaced file.
    async fn round(
        &mut self,
        whose: Whose,
        how: How,
        (taken, put, name): (u64, u64, &str),
    ) -> usize {
        self.until_about(taken).await;
        let copy = copy_of(&mut self.world, whose, how, name).await;
        if put > taken {
            self.until_about(put).await;
        }
        put_back(&mut self.world, whose, how, &copy, &self.clients.losses).await
    }

    /// The producer's disk dies while the broker is away, so that some acknowledged writes are unpublished.
    async fn with_the_broker_away(&mut self) -> usize {
        let (whose, how) = (Whose::UserService, How::Restored);
        until_published(&self.world).await;
        let copy = copy_of(&mut self.world, whose, how, "unpublished").await;
        self.world.broker.kill();
        let more = self.clients.answered() + self.random.random_range(20..100);
        self.clients.until_answered(more).await;
        self.world.user_service.kill();
        self.world.broker.start().await.expect("it starts");
        put_back_killed(&mut self.world, whose, how, &copy, &self.clients.losses).await
    }

    /// Waits until this percentage of the writes is acknowledged, plus a random moment.
    async fn until_about(&mut self, percent: u64) {
        let chance = self.random.random_range(0..WRITES / 20);
        self.clients
            .until_answered(WRITES * percent / 100 + chance)
            .await;
    }

    async fn end(mut self, what: &str, lost: &[usize]) {
        let (told, losses) = self.clients.finish().await;
        is_ready(&self.world.user_service).await;
        is_ready(&self.world.orders_service).await;
        let users = told.users();
        let gone = told.check_found_or_reported(&self.world, &losses);
        everything_arrived_once(&mut self.world).await;
        println!(
            "{what} put back at {} ages: {WRITES} writes answered, {users} users; events that had not left the destroyed files: {lost:?}, of which acknowledged {gone}; FREEHOLD_SEED={}",
            AGES.len(),
            self.seed
        );
    }
}

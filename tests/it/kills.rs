//! 20,000 writes from 32 clients while every part is killed at random or restored from older copies: no acknowledged write is lost
//! unless it was unpublished in a destroyed file, and no event is applied twice or out of order.
//!
//! `FREEHOLD_SEED` repeats a run's choices.

use std::path::PathBuf;
use std::time::Duration;

use freehold_tests::{Part, World};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::applied::{count_every_application, everything_arrived_once};
use crate::clients::{Clients, Load};
use crate::older::{How, Whose, copy_of, put_back, until_published};
use crate::states::is_ready;

const WRITES: u64 = 20_000;
const CLIENTS: u64 = 32;
const FAULTS: u64 = 18;
/// Every this many faults a part is restored from an older copy.
const OLDER_EACH: u64 = 3;
const PARTS: [Whose; 3] = [Whose::UserService, Whose::OrdersService, Whose::Broker];

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_write_is_lost_and_no_event_is_applied_twice_whatever_is_killed() {
    let seed = freehold_tests::chance::seed();
    println!("FREEHOLD_SEED={seed}");
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    let load = Load {
        clients: CLIENTS,
        writes: WRITES,
        customer: None,
        seed,
    };
    let clients = load.start(&world);

    let mut random = StdRng::seed_from_u64(seed);
    let (mut killed, mut put, mut lost) = ([0_u64; 3], [0_u64; 3], 0);
    let mut copies = copies(&mut world).await;
    for fault in 1..=FAULTS {
        clients.until_answered(WRITES * fault / (FAULTS + 1)).await;
        let part = random.random_range(0..PARTS.len());
        if fault % OLDER_EACH == 0 {
            lost += older(&mut world, part, &copies, &clients).await;
            put[part] += 1;
        } else {
            kill_one(&mut world, PARTS[part], &mut random).await;
            killed[part] += 1;
        }
        if random.random_bool(0.3) {
            let name = format!("copy-{fault}-{part}");
            copies[part] = copy_of(&mut world, PARTS[part], How::Swapped, &name).await;
        }
    }
    let (told, losses) = clients.finish().await;
    is_ready(&world.user_service).await;
    let users = told.users();
    let gone = told.check_found_or_reported(&world, &losses);
    println!(
        "{WRITES} writes answered, {users} users; user-service, orders-service, broker: killed {killed:?}, put back older {put:?}; events that had not left a destroyed file: {lost}, of which acknowledged {gone}; FREEHOLD_SEED={seed}"
    );
    everything_arrived_once(&mut world).await;
}

/// One of each part, from the first moments.
async fn copies(world: &mut World) -> [PathBuf; 3] {
    [
        copy_of(world, PARTS[0], How::Swapped, "first-users.db").await,
        copy_of(world, PARTS[1], How::Swapped, "first-orders.db").await,
        copy_of(world, PARTS[2], How::Swapped, "first-store").await,
    ]
}

/// Returns how many events were only in the destroyed file. Stream and outbox are never destroyed together.
async fn older(world: &mut World, part: usize, copies: &[PathBuf; 3], clients: &Clients) -> usize {
    until_published(world).await;
    put_back(
        world,
        PARTS[part],
        How::Swapped,
        &copies[part],
        &clients.losses,
    )
    .await
}

/// SIGKILL, a moment of absence, and a restart.
async fn kill_one(world: &mut World, whose: Whose, random: &mut StdRng) {
    let absence = Duration::from_millis(random.random_range(0..400));
    match whose {
        Whose::UserService => kill_and_start(&mut world.user_service, absence).await,
        Whose::OrdersService => kill_and_start(&mut world.orders_service, absence).await,
        Whose::Broker => kill_and_start(&mut world.broker, absence).await,
    }
}

async fn kill_and_start(part: &mut impl Part, absence: Duration) {
    part.kill();
    tokio::time::sleep(absence).await; // the fault itself, not a wait for a result
    part.start().await.expect("it starts again");
}

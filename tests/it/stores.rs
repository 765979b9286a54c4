//! The broker comes back on a store that is older than it was, or damaged.

use freehold_tests::broker::Block;
use freehold_tests::{Part, World, eventually, outbox, seconds};

use crate::applied::{count_every_application, everything_arrived_once, register};
use crate::owner::Owner;

/// A broker with a stream of a hundred events, stopped.
async fn stopped_broker() -> World {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let mut world = world.start().await;
    let mut owner = Owner::of_users(&world.broker).await;
    owner.create_stream().await;
    owner.publish_batch(100).await;
    world.broker.stop().await.expect("it stops");
    world
}

async fn events(world: &mut World) -> usize {
    world.broker.start().await.expect("it starts");
    let events = world.observer().read_all("USERS").await;
    events.expect("read").len()
}

/// These three test the harness' own faults.
#[tokio::test]
async fn a_copy_of_a_store_can_be_restored_repeatedly() {
    let mut world = stopped_broker().await;
    let copy = world.folder().join("copy");
    world.broker.copy_store(&copy).expect("copied");
    for _ in 0..2 {
        assert_eq!(events(&mut world).await, 100);
        let mut owner = Owner::of_users(&world.broker).await;
        assert_eq!(owner.publish("created").await, 101);
        world.broker.stop().await.expect("it stops");
        world.broker.swap_store(&copy).expect("swapped");
    }
    assert_eq!(events(&mut world).await, 100);
}

#[tokio::test]
async fn a_truncated_block_loses_its_last_event() {
    let mut world = stopped_broker().await;
    world
        .broker
        .truncate_block("USERS", Block::Last, 5)
        .expect("cut");
    assert_eq!(events(&mut world).await, 99);
}

#[tokio::test]
async fn a_flipped_block_loses_events() {
    let mut world = stopped_broker().await;
    world
        .broker
        .flip_block("USERS", Block::Last, 8)
        .expect("flipped");
    let left = events(&mut world).await;
    assert!(left < 100, "{left}");
}

#[tokio::test]
async fn an_older_store_is_refilled_with_the_same_sequences_and_consumers_continue() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..30).await;
    world.until_applied(30).await;
    let older = world.folder().join("older");
    world.broker.stop().await.expect("it stops");
    world.broker.copy_store(&older).expect("copied");
    world.broker.start().await.expect("it starts");
    register(&world, 30..60).await;
    world.until_applied(60).await;
    let before = world.observer().read_all("USERS").await.expect("read");

    world.user_service.pause();
    world.broker.stop().await.expect("it stops");
    world.broker.swap_store(&older).expect("swapped");
    world.broker.start().await.expect("it starts");
    let left = world.observer().read_all("USERS").await.expect("read");
    assert_eq!(left, before[..30], "it is the older one");
    world.user_service.resume();

    register(&world, 60..70).await;
    everything_arrived_once(&mut world).await;
    let after = world.observer().read_all("USERS").await.expect("read");
    assert_eq!(after[..60], before, "the same events at the same numbers");
}

#[tokio::test]
async fn a_truncated_block_while_the_broker_was_killed_is_refilled() {
    let mut world = short_stream().await;
    world.broker.kill();
    let cut = world.broker.truncate_block("USERS", Block::Last, 5);
    cut.expect("cut");
    what_was_lost_is_refilled(world).await;
}

/// After a graceful stop the broker remembers the last sequence: it is used up, and no message has it.
#[tokio::test]
async fn a_truncated_block_while_the_broker_was_stopped_is_refilled() {
    let mut world = short_stream().await;
    world.broker.stop().await.expect("it stops");
    let cut = world.broker.truncate_block("USERS", Block::Last, 5);
    cut.expect("cut");
    what_was_lost_is_refilled(world).await;
}

#[tokio::test]
async fn a_flipped_block_is_refilled() {
    let mut world = short_stream().await;
    world.broker.kill();
    let flipped = world.broker.flip_block("USERS", Block::Last, 8);
    flipped.expect("flipped");
    what_was_lost_is_refilled(world).await;
}

/// The first of two blocks, so the head is as it was and the events in the middle are missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_in_a_long_stream_is_refilled() {
    let mut world = long_stream().await;
    world.broker.kill();
    let flipped = world.broker.flip_block("USERS", Block::First, 8);
    flipped.expect("flipped");
    what_was_lost_is_refilled(world).await;
}

/// After a graceful stop the broker does not read its older blocks: it counts every event and returns fewer.
#[tokio::test(flavor = "multi_thread")]
async fn a_hole_that_the_broker_does_not_count_is_refilled() {
    let mut world = long_stream().await;
    world.broker.stop().await.expect("it stops");
    let flipped = world.broker.flip_block("USERS", Block::First, 8);
    flipped.expect("flipped");
    what_was_lost_is_refilled(world).await;
}

/// A hundred events that orders-service has not read yet. Both services are paused: no event is refilled or read
/// before the test has seen which are missing.
async fn short_stream() -> World {
    let world = readers_behind().await;
    register(&world, 0..100).await;
    standing_still(world, 100).await
}

/// More than 8 MB, so that the broker keeps them in two blocks: long names, and clients side by side.
async fn long_stream() -> World {
    const CLIENTS: u64 = 32;
    const RENAMES: u64 = 230;
    let world = readers_behind().await;
    let users = register(&world, 0..CLIENTS).await;
    let clients = users.into_iter().map(|user| {
        let api = world.users();
        tokio::spawn(async move {
            for number in 0..RENAMES {
                let name = format!("{number} {}", "🦀".repeat(190));
                api.rename(&user, &name).await.expect_status(200);
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client");
    }
    standing_still(world, CLIENTS * (RENAMES + 1)).await
}

async fn readers_behind() -> World {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    world.orders_service.pause();
    world
}

async fn standing_still(world: World, head: u64) -> World {
    eventually("everything is published", seconds(60), async || {
        let info = world.observer().stream_info("USERS").await;
        match info.map(|info| info.last_seq) {
            Ok(last) if last == head => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.user_service.pause();
    world
}

/// The outbox has them all.
async fn what_was_lost_is_refilled(mut world: World) {
    world.broker.start().await.expect("it starts");
    let emitted = outbox::read_all(&world.user_service.database).expect("read");
    let left = world.observer().read_all("USERS").await.expect("read");
    let info = world.observer().stream_info("USERS").await.expect("there");
    println!(
        "{} of {} are left; the broker counts {} up to {}",
        left.len(),
        emitted.len(),
        info.messages,
        info.last_seq
    );
    assert!(left.len() < emitted.len(), "nothing was lost");
    world.user_service.resume();
    world.orders_service.resume();
    register(&world, 1000..1010).await;
    everything_arrived_once(&mut world).await;
}

//! An operator deletes, purges or trims a stream by hand, while all clients are connected.

use freehold_tests::{World, eventually, seconds};

use crate::applied::{count_every_application, everything_arrived_once, register};
use crate::owner::Owner;

/// The harness' own promise.
#[tokio::test]
async fn a_stream_is_trimmed_emptied_and_deleted_through_the_wire() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = world.start().await;
    let mut owner = Owner::of_users(&world.broker).await;
    owner.create_stream().await;
    for _ in 0..10 {
        owner.publish("created").await;
    }
    let broker = &world.broker;
    let numbers = async || {
        let info = world.observer().stream_info("USERS").await;
        info.map(|info| (info.first_seq, info.last_seq, info.messages))
    };
    assert_eq!(broker.trim_stream("USERS", 4).await.expect("trimmed"), 3);
    assert_eq!(numbers().await.expect("there"), (4, 10, 7));
    broker
        .trim_stream("USERS", 4)
        .await
        .expect_err("nothing to trim");
    assert_eq!(broker.purge_stream("USERS").await.expect("purged"), 7);
    assert_eq!(numbers().await.expect("there"), (11, 10, 0));
    broker.delete_stream("USERS").await.expect("deleted");
    numbers().await.expect_err("gone");
}

#[tokio::test]
async fn a_deleted_stream_is_recreated_and_filled_with_the_same_sequences() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..50).await;
    world.until_applied(50).await;
    let before = world.observer().read_all("USERS").await.expect("read");

    world.broker.delete_stream("USERS").await.expect("deleted");
    register(&world, 50..60).await;
    everything_arrived_once(&mut world).await;
    let after = world.observer().read_all("USERS").await.expect("read");
    assert_eq!(after[..50], before, "the same events at the same numbers");
}

#[tokio::test]
async fn a_purged_stream_is_recreated_and_filled_with_the_same_sequences() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..50).await;
    world.until_applied(50).await;
    let before = world.observer().read_all("USERS").await.expect("read");

    let purged = world.broker.purge_stream("USERS").await.expect("purged");
    assert_eq!(purged, 50);
    eventually("it is filled again", seconds(30), async || {
        match world.observer().read_all("USERS").await {
            Ok(left) if left == before => Ok(()),
            Ok(left) => Err(format!("it holds {}", left.len())),
            Err(error) => Err(format!("{error:#}")),
        }
    })
    .await;
    register(&world, 50..60).await;
    everything_arrived_once(&mut world).await;
}

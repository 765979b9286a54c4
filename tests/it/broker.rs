//! The harness' own promises about its broker: same port and store after a kill, nothing left after a wipe.

use freehold_tests::{Part, World};

use crate::owner::Owner;

async fn broker_alone() -> World {
    World::builder()
        .without_user_service()
        .without_orders_service()
        .start()
        .await
}

#[tokio::test]
async fn a_killed_broker_restarts_on_its_port_with_every_acknowledged_message() {
    let mut world = broker_alone().await;
    let mut owner = Owner::of_users(&world.broker).await;
    owner.create_stream().await;
    owner.publish("created").await;
    let (url, before) = (
        world.broker.url(),
        world.observer().read_all("USERS").await.expect("one event"),
    );

    world.broker.kill();
    world
        .observer()
        .stream_info("USERS")
        .await
        .expect_err("no responders");
    world.broker.start().await.expect("it starts again");

    assert_eq!(world.broker.url(), url);
    assert_eq!(
        world
            .observer()
            .read_all("USERS")
            .await
            .expect("still there"),
        before
    );
    assert_eq!(before.len(), 1);
}

#[tokio::test]
async fn a_wiped_broker_has_no_stream() {
    let mut world = broker_alone().await;
    Owner::of_users(&world.broker).await.create_stream().await;
    world.broker.stop().await.expect("it stops in time");
    world.broker.wipe_store().expect("wiped");
    world.broker.start().await.expect("it starts again");
    let missing = world
        .observer()
        .stream_info("USERS")
        .await
        .expect_err("gone")
        .to_string();
    assert!(missing.contains("10059"), "{missing}");
}

#[tokio::test]
async fn two_worlds_do_not_meet() {
    let (one, two) = tokio::join!(broker_alone(), broker_alone());
    assert_ne!(one.broker.url(), two.broker.url());
    Owner::of_users(&one.broker).await.create_stream().await;
    one.observer()
        .stream_info("USERS")
        .await
        .expect("made here");
    two.observer()
        .stream_info("USERS")
        .await
        .expect_err("not made there");
}

#[tokio::test]
async fn a_broker_that_cannot_start_says_why() {
    let mut world = World::builder()
        .without_broker()
        .without_user_service()
        .without_orders_service()
        .start()
        .await;
    world.broker.config = world.folder().join("missing.conf");
    let failure = world
        .broker
        .start()
        .await
        .expect_err("there is no such file");
    assert!(
        failure.status.is_some_and(|status| !status.success()),
        "{failure}"
    );
    assert!(failure.log.contains("missing.conf"), "{failure}");
}

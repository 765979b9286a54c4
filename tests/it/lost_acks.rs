//! The connection is cut between publish and acknowledgement: the event is stored, but its owner gets no answer.

use freehold_tests::wire::Wire;
use freehold_tests::{Part, Proxy, World, eventually, seconds};
use serde_json::Value;

use crate::applied::{count_every_application, everything_arrived_once, register};
use crate::owner::Owner;
use crate::owner::User;

/// The proxy's own promise.
#[tokio::test]
async fn an_armed_proxy_lets_one_event_in_and_cuts_before_its_acknowledgement() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = world.start().await;
    let proxy = Proxy::start(world.broker.address(), "USERS").expect("a free port");
    let login = User::Users.login(&world.broker);
    let connect = || Wire::connect(proxy.address(), &login);
    let mut owner = Owner::of_users(&world.broker).await;
    owner.wire = connect().await.expect("through the proxy");

    proxy.lose_acks(1);
    owner.create_stream().await; // a request to JetStream is no event
    let (door, stored) = (owner.door("created"), async || owner_sees(&world).await);
    let unanswered = owner.wire.request(&door, b"{}").await;
    let unanswered = unanswered.expect_err("the connection is cut").to_string();
    assert!(unanswered.contains("no answer"), "{unanswered}");
    assert_eq!((proxy.lost_acks().len(), stored().await), (1, 1));

    owner.wire = connect().await.expect("through the proxy again");
    assert_eq!(
        owner.publish("created").await,
        2,
        "disarmed, it only forwards"
    );
    assert_eq!(owner.publish_batch(20).await, 22);
    assert_eq!((proxy.lost_acks().len(), stored().await), (1, 22));
}

async fn owner_sees(world: &World) -> u64 {
    let stream = world.observer().stream_info("USERS").await;
    stream.expect("the stream is there").last_seq
}

#[tokio::test]
async fn an_event_whose_acknowledgement_is_lost_is_not_published_twice() {
    let mut world = World::builder().with_proxy().start().await;
    count_every_application(&mut world).await;
    for number in 0..4 {
        world.proxy().lose_acks(1);
        register(&world, number..number + 1).await;
        let lost = until_lost(&world, number + 1).await;
        assert_eq!(lost["seq"], number + 1, "{lost}");
    }
    everything_arrived_once(&mut world).await;
}

/// A backlog is published as an atomic batch with one answer.
#[tokio::test]
async fn a_batch_whose_acknowledgement_is_lost_is_not_published_twice() {
    let mut world = World::builder().with_proxy().start().await;
    count_every_application(&mut world).await;
    for round in 1..=3 {
        world.broker.kill();
        register(&world, (round - 1) * 100..round * 100).await;
        world.proxy().lose_acks(1);
        world.broker.start().await.expect("it starts again");
        let lost = until_lost(&world, round).await;
        assert_eq!(lost["count"], 100, "a batch: {lost}");
    }
    everything_arrived_once(&mut world).await;
}

/// Returns the last lost acknowledgement.
async fn until_lost(world: &World, count: u64) -> Value {
    eventually("it is lost", seconds(30), async || {
        let lost = world.proxy().lost_acks();
        match lost.last() {
            Some(last) if lost.len() as u64 == count => Ok(last.clone()),
            _ => Err(format!("{} of {count}", lost.len())),
        }
    })
    .await
}

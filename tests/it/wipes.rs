//! The broker is a cache of the logs: its disk can be thrown away.

use freehold_tests::observer::StoredEvent;
use freehold_tests::{Part, World};

#[tokio::test]
async fn a_wiped_broker_is_refilled_with_the_same_sequences_and_consumers_continue() {
    let mut world = World::start().await;
    let mut users = Vec::new();
    for number in 0..50 {
        let email = format!("user-{number}@example.org");
        let user = world
            .users()
            .register("Ada", &email)
            .await
            .expect_status(201);
        users.push(user.id().to_owned());
    }
    world
        .orders()
        .place(&users[0], 5, "EUR")
        .await
        .expect_status(201);
    world.check().await; // both streams hold everything
    let before = streams(&world).await;
    let orders_pid = world.orders_service.pid();

    world.broker.stop().await.expect("it stops");
    world.broker.wipe_store().expect("wiped");
    // Written while there is no broker at all.
    world
        .users()
        .rename(&users[7], "Countess")
        .await
        .expect_status(200);
    world.broker.start().await.expect("it starts again");

    world.until_applied(51).await;
    world.check().await;
    let after = streams(&world).await;
    assert_eq!(
        after.0[..50],
        before.0,
        "the same events at the same numbers"
    );
    assert_eq!(after.1, before.1);
    assert_eq!(
        world.orders_service.pid(),
        orders_pid,
        "the consumer was not restarted"
    );
    let order = world
        .orders()
        .place(&users[7], 5, "EUR")
        .await
        .expect_status(201);
    let view = world.orders().order_with_user(order.id()).await;
    assert_eq!(view.body["user"]["from"], "cache");
    assert_eq!(view.body["user"]["name"], "Countess");
}

/// USERS and ORDERS as the broker stores them.
async fn streams(world: &World) -> (Vec<StoredEvent>, Vec<StoredEvent>) {
    let observer = world.observer();
    let users = observer.read_all("USERS").await.expect("it is read");
    (
        users,
        observer.read_all("ORDERS").await.expect("it is read"),
    )
}

//! The main job: an event that one service commits soon takes effect in the other, durably and once.

use freehold_tests::{Part, World, eventually, seconds};
use serde_json::Value;

#[tokio::test]
async fn a_registered_user_appears_in_orders_by_name_without_a_request() {
    let world = World::start().await;
    let user = world.users().register("Ada", "ada@example.org").await;
    let user = user.expect_status(201);
    // The first order may ask the User API; the view comes from the cache alone.
    let order = world.orders().place(user.id(), 1250, "EUR").await;
    let order = order.expect_status(201);
    let seen = shows(&world, order.id(), "Ada", 1).await;
    assert_eq!(seen["user"]["id"], user.id());
    assert_eq!(seen["amount_minor"], 1250);
    assert_eq!(seen["currency"], "EUR");
    assert_eq!(seen["status"], "placed");

    world
        .users()
        .rename(user.id(), "Countess")
        .await
        .expect_status(200);
    shows(&world, order.id(), "Countess", 2).await;
}

#[tokio::test]
async fn names_in_every_script_arrive_byte_for_byte() {
    let world = World::start().await;
    let names = [
        "Ζωή",
        "李小龙",
        "عبد الرحمن",
        "O'Brien \"Bob\" <b>",
        "👩‍👩‍👧‍👦",
        " two  spaces ",
        "e\u{301}é",
    ];
    for (index, name) in names.into_iter().enumerate() {
        let email = format!("person-{index}@example.org");
        let user = world
            .users()
            .register(name, &email)
            .await
            .expect_status(201);
        assert_eq!(user.body["name"], name);
        let order = world
            .orders()
            .place(user.id(), 1, "EUR")
            .await
            .expect_status(201);
        shows(&world, order.id(), name, 1).await;
    }
}

#[tokio::test]
async fn without_a_broker_writes_are_acknowledged_and_published_later() {
    let mut world = World::start().await;
    world.broker.kill();
    let user = world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    world
        .users()
        .is_ready()
        .await
        .expect("readiness does not depend on the broker");
    world
        .orders()
        .is_ready()
        .await
        .expect("readiness does not depend on the broker");
    // Not in the cache, so the owner is asked.
    let order = world
        .orders()
        .place(user.id(), 99, "USD")
        .await
        .expect_status(201);
    let view = world.orders().order_with_user(order.id()).await.body;
    assert_eq!(view["user"]["name"], "Ada", "{view}");
    assert_eq!(view["user"]["from"], "owner", "{view}");
    assert_eq!(view["freshness"]["users"]["stale"], true, "{view}");

    world.broker.start().await.expect("it starts again");
    shows(&world, order.id(), "Ada", 1).await;
}

#[tokio::test]
async fn an_order_for_an_unknown_user_is_refused_and_without_the_owner_it_is_not_guessed() {
    let mut world = World::start().await;
    let known = world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    let order = world
        .orders()
        .place(known.id(), 5, "EUR")
        .await
        .expect_status(201);
    shows(&world, order.id(), "Ada", 1).await;
    let unknown = "0191d1a0-0000-7000-8000-000000000000";
    let refused = world
        .orders()
        .place(unknown, 5, "EUR")
        .await
        .expect_status(422);
    assert_eq!(refused.problem(), Some("unknown_user"));

    world.user_service.kill();
    let unsure = world
        .orders()
        .place(unknown, 5, "EUR")
        .await
        .expect_status(503);
    assert_eq!(unsure.problem(), Some("users_unavailable"));
    assert!(unsure.header("retry-after").is_some());
    world
        .orders()
        .place(known.id(), 5, "EUR")
        .await
        .expect_status(201); // in the cache: no request to the owner
}

#[tokio::test]
async fn a_deleted_user_leaves_the_cache() {
    let world = World::start().await;
    let user = world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    let order = world
        .orders()
        .place(user.id(), 5, "EUR")
        .await
        .expect_status(201);
    shows(&world, order.id(), "Ada", 1).await;
    world.users().delete(user.id()).await.expect_status(204);
    eventually("the name is gone", seconds(10), async || {
        let view = world.orders().order_with_user(order.id()).await.body;
        match view["user"]["missing"] == "deleted_or_never_known" {
            true => Ok(()),
            false => Err(format!("it still shows {}", view["user"])),
        }
    })
    .await;
    world
        .orders()
        .place(user.id(), 5, "EUR")
        .await
        .expect_status(422);
}

#[tokio::test]
async fn a_graceful_stop_ends_with_zero_and_leaves_no_wal() {
    let mut world = World::start().await;
    world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    for part in [&mut world.user_service, &mut world.orders_service] {
        let ended = part
            .stop()
            .await
            .expect("it stops in time")
            .expect("it ran");
        assert!(ended.success(), "{ended}");
        let wal = part.database.with_extension("db-wal");
        assert!(!wal.exists(), "{} is left", wal.display());
    }
}

/// Waits until the order's view shows this name and version of its user, without asking user-service.
async fn shows(world: &World, order_id: &str, name: &str, version: u64) -> Value {
    eventually("the order shows its user", seconds(20), async || {
        let view = world.orders().order_with_user(order_id).await.body;
        let user = &view["user"];
        match user["name"] == name && user["version"] == version && user["from"] == "cache" {
            true => Ok(view),
            false => Err(view.to_string()),
        }
    })
    .await
}

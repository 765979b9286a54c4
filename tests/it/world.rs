//! The harness' promises about a whole world: it works, it survives kills, and the final check detects disorder.

use std::panic::{AssertUnwindSafe, catch_unwind};

use freehold_tests::{Part, World, eventually, seconds};
use rusqlite::Connection;

#[tokio::test]
async fn a_user_arrives_in_the_order_view_though_every_part_is_killed_on_the_way() {
    let mut world = World::start().await;
    let user = world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);

    world.broker.kill();
    world
        .users()
        .rename(user.id(), "Countess")
        .await
        .expect_status(200);
    world.user_service.kill();
    world.orders_service.kill();
    world.broker.start().await.expect("it starts again");
    world.user_service.start().await.expect("it starts again");
    world.orders_service.start().await.expect("it starts again");

    let order = world
        .orders()
        .place(user.id(), 1250, "EUR")
        .await
        .expect_status(201);
    eventually("the order shows the new name", seconds(20), async || {
        let view = world.orders().order_with_user(order.id()).await.body;
        let user = &view["user"];
        if user["name"] == "Countess" && user["from"] == "cache" {
            Ok(())
        } else {
            Err(format!("it shows {user}"))
        }
    })
    .await;
    world.check().await;
}

#[tokio::test]
async fn the_final_check_starts_stopped_parts() {
    let mut world = World::start().await;
    world.broker.kill();
    world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    world.user_service.kill();
    world.orders_service.pause();
    world.check().await;
    assert_eq!(
        world
            .observer()
            .read_all("USERS")
            .await
            .expect("the stream")
            .len(),
        1
    );
}

#[tokio::test]
async fn an_outbox_that_differs_from_its_stream_in_one_byte_is_noticed_when_the_world_is_dropped() {
    let mut world = World::start().await;
    for name in ["Ada", "Bob"] {
        world
            .users()
            .register(name, &format!("{name}@example.org"))
            .await
            .expect_status(201);
    }
    world.find_disorder().await.expect("all is well before");

    world.user_service.kill();
    tamper(&world);

    let disorder = world
        .find_disorder()
        .await
        .expect_err("one byte differs")
        .to_string();
    assert!(
        disorder.starts_with("USERS: the outbox has 1 users.created"),
        "{disorder}"
    );
    catch_unwind(AssertUnwindSafe(|| drop(world))).expect_err("dropping it complains too");
}

#[tokio::test]
async fn a_service_that_cannot_start_says_why_in_its_own_words() {
    let mut world = World::builder().without_orders_service().start().await;
    world.user_service.stop().await.expect("it stops in time");
    let nowhere = world.folder().join("no/such/folder/users.db");
    let good = std::mem::replace(&mut world.user_service.database, nowhere);
    let failure = world
        .user_service
        .start()
        .await
        .expect_err("there is no such folder");
    assert!(
        failure.status.is_some_and(|status| !status.success()) && !failure.log.is_empty(),
        "{failure}"
    );
    world.user_service.database = good;
}

#[tokio::test]
async fn what_a_service_says_of_itself_can_be_read() {
    let world = World::start().await;
    world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    eventually("the head is published", seconds(10), async || {
        let metrics = world.users().metrics().await?;
        let heads = (
            metrics.get("freehold_outbox_head"),
            metrics.get("freehold_stream_head"),
        );
        if heads == (Some(1.0), Some(1.0)) {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{heads:?}"))
        }
    })
    .await;
    eventually("the cache has it", seconds(10), async || {
        let metrics = world.orders().metrics().await?;
        let offset = metrics.labelled("freehold_consumer_offset", "consumer", "orders-user-cache");
        if offset == Some(1.0) {
            Ok(())
        } else {
            Err(anyhow::anyhow!("{offset:?}"))
        }
    })
    .await;
}

/// Triggers may protect the outbox; a damaged disk bypasses them.
fn tamper(world: &World) {
    let connection = Connection::open(&world.user_service.database).expect("the file is there");
    let triggers: Vec<String> = connection
        .prepare(
            "select name from sqlite_schema where type = 'trigger' and tbl_name = 'relay_outbox'",
        )
        .and_then(|mut query| query.query_map([], |row| row.get(0))?.collect())
        .expect("a list");
    for trigger in triggers {
        connection
            .execute(&format!("drop trigger {trigger}"), [])
            .expect("dropped");
    }
    let changed = connection.execute(
        "update relay_outbox set envelope = cast(envelope || x'20' as blob) where seq = 1",
        [],
    );
    assert_eq!(changed, Ok(1));
}

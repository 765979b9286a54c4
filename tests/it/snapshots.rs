//! orders-service cannot follow stream USERS any more, or never did: it becomes complete from user-service's snapshot and the
//! tail of the stream, while writes continue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_tests::{Part, World, eventually, outbox, seconds};

use crate::applied::register;
use crate::clients::{Clients, Load};
use crate::older::until_published;
use crate::states::{cache_is_its_owners, is_between, logged, rebuilt, says};

const CLIENTS: u64 = 4;
const WRITES: u64 = 800;
const CACHE: &str = "orders-user-cache";

fn writing(world: &World) -> Clients {
    let seed = freehold_tests::chance::seed();
    println!("FREEHOLD_SEED={seed}");
    let load = Load {
        clients: CLIENTS,
        writes: WRITES,
        customer: None,
        seed,
    };
    load.start(world)
}

/// All writes are done, the cache equals the owner's users, and no event was lost.
async fn all_is_there(mut world: World, clients: Clients) {
    let (told, losses) = clients.finish().await;
    assert_eq!(told.check_found_or_reported(&world, &losses), 0);
    cache_is_its_owners(&world).await;
    world.check().await;
}

/// orders-service stopped, and a stream of which only the last hundred events are left.
async fn behind_a_trimmed_stream() -> World {
    let mut world = World::start().await;
    register(&world, 0..10).await;
    world.until_applied(10).await;
    world.orders_service.stop().await.expect("it stops");
    register(&world, 10..150).await;
    until_published(&world).await;
    assert_eq!(
        world
            .broker
            .trim_stream("USERS", 51)
            .await
            .expect("trimmed"),
        50
    );
    world.expect_trimmed_streams();
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_becomes_complete_behind_a_trimmed_stream() {
    let mut world = behind_a_trimmed_stream().await;
    world
        .orders_service
        .delete_database_and_lock()
        .expect("deleted");
    let clients = writing(&world);
    world.orders_service.start().await.expect("it starts");
    clients.until_answered(WRITES / 2).await;
    says(&world.orders_service, "the cache is loaded").await;
    assert_eq!(rebuilt(&world).await, 1);
    all_is_there(world, clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_stopped_while_the_stream_was_trimmed_past_it_becomes_complete() {
    let mut world = behind_a_trimmed_stream().await;
    let clients = writing(&world);
    world.orders_service.start().await.expect("it starts");
    says(&world.orders_service, "the cache is loaded").await;
    assert_eq!(rebuilt(&world).await, 1);
    all_is_there(world, clients).await;
}

/// Each end is killed during its first snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_interrupted_at_either_end_starts_again() {
    let mut world = World::start().await;
    world.orders_service.stop().await.expect("it stops");
    let users = Load {
        clients: 32,
        writes: 6_000,
        customer: None,
        seed: freehold_tests::chance::seed(),
    };
    let (told, losses) = users.start(&world).finish().await;
    until_published(&world).await;
    world
        .broker
        .trim_stream("USERS", 5_000)
        .await
        .expect("trimmed");
    world.expect_trimmed_streams();
    let rows = i64::try_from(told.users()).expect("small");
    // Once it is loaded there is nothing to hit any more.
    let staged = "select count(*) + (select count(*) from user_cache) from relay_snapshot";

    world.orders_service.start().await.expect("it starts");
    let hit = is_between(&world.orders_service.database, staged, 0, rows).await;
    world.orders_service.kill();
    let left = outbox::rows(&world.orders_service.database, staged).expect("read");
    world.orders_service.start().await.expect("it starts");
    let hit_too = is_between(&world.orders_service.database, staged, 0, rows).await;
    world.user_service.kill();
    println!(
        "the cache's owner was killed with {left:?} of {rows} rows on its side ({hit}), then the producer ({hit_too})"
    );
    world.user_service.start().await.expect("it starts");
    assert_eq!(told.check_found_or_reported(&world, &losses), 0);
    cache_is_its_owners(&world).await;
    world.check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_is_rebuilt_by_command_while_everything_runs_and_stays_readable() {
    let world = World::start().await;
    let user = register(&world, 0..1).await.remove(0);
    world.until_applied(1).await;
    let order = world
        .orders()
        .place(&user, 1, "EUR")
        .await
        .expect_status(201);
    let clients = writing(&world);
    let done = Arc::new(AtomicBool::new(false));
    let (api, id, over) = (world.orders(), order.id().to_owned(), done.clone());
    let reading = tokio::spawn(async move {
        while !over.load(Ordering::Relaxed) {
            let seen = api.order_with_user(&id).await.expect_status(200);
            assert_eq!(seen.body["user"]["name"], "Ada", "{}", seen.body);
            assert_eq!(seen.body["user"]["from"], "cache", "{}", seen.body);
        }
    });
    for round in 1..=3 {
        clients.until_answered(WRITES * round / 4).await;
        let said = world
            .orders_service
            .command(&["rebuild", CACHE, "--json"])
            .await;
        assert_eq!(said.expect_code(0).json()["done"], true);
        assert_eq!(rebuilt(&world).await, round);
    }
    done.store(true, Ordering::Relaxed);
    reading.await.expect("a reader");
    all_is_there(world, clients).await;
}

/// Also if the cause is a mistake of the program or its file, which ends the service.
#[tokio::test]
async fn a_snapshot_that_cannot_be_loaded_says_why_at_once() {
    let mut world = World::start().await;
    world.waive_final_check(); // its cache is gone
    register(&world, 0..1).await;
    world.until_applied(1).await;
    let rows = rusqlite::Connection::open(&world.orders_service.database).expect("it opens");
    rows.execute_batch("drop table user_cache")
        .expect("dropped");
    drop(rows);
    let said = world.orders_service.command(&["rebuild", CACHE]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("no such table"), "{said:?}");
    eventually(
        "the service ends: no event fits its schema",
        seconds(30),
        async || {
            (!world.orders_service.is_running())
                .then_some(())
                .ok_or("it runs")
        },
    )
    .await;

    let refused = world.orders_service.start().await.expect_err("no table");
    let why = "orders-user-cache keeps its cache in table user_cache, which no migration";
    assert!(refused.to_string().contains(why), "{refused}");
}

#[tokio::test]
async fn a_snapshot_whose_owner_is_stopped_says_so_at_once() {
    let mut world = World::start().await;
    register(&world, 0..1).await;
    world.until_applied(1).await;
    world.user_service.stop().await.expect("it stops");
    let said = world.orders_service.command(&["rebuild", CACHE]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.stderr.contains("was not loaded"), "{said:?}");
}

/// The stream is complete, so no snapshot is needed; the orders are imported, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_database_of_the_consumer_is_filled_from_the_streams() {
    let mut world = World::start().await;
    let users = register(&world, 0..20).await;
    let mut orders = Vec::new();
    for user in &users {
        let placed = world
            .orders()
            .place(user, 7, "EUR")
            .await
            .expect_status(201);
        orders.push(placed.id().to_owned());
    }
    world.check().await;
    world.orders_service.kill();
    world.orders_service.delete_database().expect("deleted");
    let clients = writing(&world);
    world.orders_service.start().await.expect("it starts");
    crate::states::is_ready(&world.orders_service).await;
    for order in &orders {
        world.orders().order(order).await.expect_status(200);
    }
    assert_eq!(rebuilt(&world).await, 0);
    world
        .orders()
        .place(&users[0], 8, "EUR")
        .await
        .expect_status(201);
    all_is_there(world, clients).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_with_a_wrong_token_says_so_and_waits_for_the_right_one() {
    let mut world = behind_a_trimmed_stream().await;
    let right = world.orders_service.env.clone();
    let wrong = (
        "FREEHOLD_USERS_READ_TOKEN".to_owned(),
        "pWRONGWRONGWRONGWRONG".to_owned(),
    );
    world.orders_service.env.push(wrong);
    world.orders_service.start().await.expect("it starts");
    eventually("it says which token", seconds(60), async || {
        let said = world.orders_service.command(&["status", "--json"]).await;
        let state = said.json()["state"].clone();
        match state["consumers"][0]["trouble"].as_str() {
            Some(why) if why.contains("give both the same FREEHOLD_USERS_READ_TOKEN") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let _unwell = world
        .orders_service
        .command(&["status"])
        .await
        .expect_code(3);
    assert!(
        !logged(&world.orders_service).contains("pWRONG"),
        "the token is in the log"
    );
    assert_eq!(rebuilt(&world).await, 0);
    world
        .orders()
        .is_ready()
        .await
        .expect("it serves what it has");

    world.orders_service.stop().await.expect("it stops");
    world.orders_service.env = right;
    let clients = writing(&world);
    world.orders_service.start().await.expect("it starts");
    all_is_there(world, clients).await;
}

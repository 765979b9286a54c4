//! `verify` reports that everything is equal, or names the first event or row that differs.

use freehold_tests::observer::StoredEvent;
use freehold_tests::{Part, Service, World, eventually, outbox, seconds};
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::applied::register;
use crate::owner::{User, connect};

const EQUAL: i32 = 0;
const DIFFERS: i32 = 3;

async fn world_of_fifty() -> World {
    let mut world = World::start().await;
    let users = register(&world, 0..49).await;
    world
        .orders()
        .place(&users[0], 1, "EUR")
        .await
        .expect_status(201);
    world
        .users()
        .rename(&users[7], "Countess")
        .await
        .expect_status(200);
    world.check().await;
    world
}

/// Its result for the first or the second comparison.
async fn verified(service: &Service, code: i32, check: usize) -> Value {
    let said = service
        .command(&["verify", "--json"])
        .await
        .expect_code(code)
        .json();
    said["checks"][check].clone()
}

/// The test tampers with a file that no process has open.
fn tamper(service: &mut Service, sql: &str) {
    assert!(!service.is_running());
    let rows = Connection::open(&service.database).expect("the database opens");
    rows.execute_batch(sql).expect("tampered");
    assert!(rows.changes() > 0, "nothing was changed");
}

#[tokio::test]
async fn a_healthy_world_is_equal() {
    let world = world_of_fifty().await;
    let stream = verified(&world.user_service, EQUAL, 0).await;
    assert_eq!(
        stream,
        json!({"what": "stream USERS", "result": "equal", "compared": 50})
    );
    let orders = verified(&world.orders_service, EQUAL, 0).await;
    assert_eq!(
        orders,
        json!({"what": "stream ORDERS", "result": "equal", "compared": 1})
    );
    let cache = verified(&world.orders_service, EQUAL, 1).await;
    assert_eq!(
        cache,
        json!({"what": "cache orders-user-cache", "result": "equal", "compared": 49})
    );
}

#[tokio::test]
async fn an_event_that_was_changed_in_the_outbox_is_named() {
    let mut world = world_of_fifty().await;
    world.user_service.stop().await.expect("it stops");
    tamper(
        &mut world.user_service,
        "drop trigger relay_outbox_is_final;
         update relay_outbox set envelope = cast(replace(cast(envelope as text), '\"Ada\"', '\"Eve\"') as blob) where seq in (23, 31)",
    );
    let stream = verified(&world.user_service, DIFFERS, 0).await;
    assert_eq!(
        stream["why"],
        "event 23 has other bytes in the stream than in the outbox"
    );
    world.waive_final_check(); // it would find the same
}

#[tokio::test]
async fn a_row_that_was_changed_in_the_cache_is_named() {
    let mut world = world_of_fifty().await;
    world.orders_service.stop().await.expect("it stops");
    tamper(
        &mut world.orders_service,
        "update user_cache set name = 'Eve' where name = 'Countess'",
    );
    let cache = verified(&world.orders_service, DIFFERS, 1).await;
    let why = cache["why"].as_str().expect("a text");
    assert!(
        why.starts_with("where the producer shares {") && why.contains("Countess"),
        "{why}"
    );
}

#[tokio::test]
async fn a_row_too_many_in_the_cache_is_named() {
    let mut world = world_of_fifty().await;
    world.orders_service.stop().await.expect("it stops");
    let ghost =
        "insert into user_cache values ('01999999-0000-7000-8000-000000000000', 'Ghost', 1)";
    tamper(&mut world.orders_service, ghost);
    let cache = verified(&world.orders_service, DIFFERS, 1).await;
    let why = cache["why"].as_str().expect("a text");
    assert!(
        why.contains("the cache has {") && why.contains("Ghost"),
        "{why}"
    );
}

#[tokio::test]
async fn a_message_that_was_replaced_in_the_stream_is_named_and_then_healed() {
    let mut world = world_of_fifty().await;
    world.user_service.stop().await.expect("it stops");
    let right = world.observer().read_all("USERS").await.expect("read");
    let mut events = right.clone();
    events[11].bytes = events[12].bytes.clone();
    replace_stream(&world, &events).await;
    let ids: Vec<_> = outbox::rows(
        &world.user_service.database,
        "select event_id from relay_outbox where seq in (12, 13)",
    )
    .expect("read");
    let stream = verified(&world.user_service, DIFFERS, 0).await;
    let rusqlite::types::Value::Text(twelve) = &ids[0][0] else {
        panic!("{ids:?}")
    };
    let why = stream["why"].as_str().expect("a text");
    assert!(
        why.starts_with(&format!("event 12 is {twelve} in the outbox and ")),
        "{why}"
    );

    world.user_service.start().await.expect("it starts");
    eventually("the scrub has found it", seconds(60), async || {
        let now = world.observer().read_all("USERS").await;
        let now = now.map_err(|error| format!("{error:#}"))?;
        (now == right)
            .then_some(())
            .ok_or(format!("{} events", now.len()))
    })
    .await;
    world.check().await;
}

/// An operator recreates the stream with other messages.
async fn replace_stream(world: &World, events: &[StoredEvent]) {
    let config = world
        .observer()
        .stream_info("USERS")
        .await
        .expect("there")
        .config;
    world.broker.delete_stream("USERS").await.expect("deleted");
    let mut wire = connect(&world.broker, User::Users).await;
    wire.request_json("$JS.API.STREAM.CREATE.USERS", &config)
        .await
        .expect("made");
    let door = config["subjects"][0].as_str().expect("a subject");
    let door = door.strip_suffix('>').expect("a wildcard");
    for event in events {
        let (_, name) = event.subject.split_once('.').expect("two words");
        let answer = wire
            .request(&format!("{door}{name}"), &event.bytes)
            .await
            .expect("answered");
        assert!(answer.text().contains("\"seq\""), "{}", answer.text());
    }
}

//! The log comes home: an empty file becomes the one that wrote it.

use std::fs;
use std::path::Path;

use event_schema::UserId;
use orders_service::config;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use relay::rusqlite::types::Value;
use relay::{AppendLog, Database, Log, Record};
use service_kit::testing::{come_home, rows};

use crate::world::{FakeUsers, World};

const ORDERS: &str = "select * from orders order by id";

#[tokio::test]
async fn the_log_makes_the_same_orders_again() {
    for seed in 0..4 {
        println!("seed {seed}");
        let world = World::start(FakeUsers::Answer(404)).await;
        live(&world, &mut SmallRng::seed_from_u64(seed)).await;
        let lived = rows(&world.db, ORDERS).await;
        assert!(!lived.is_empty());

        let (home, _folder) = empty().await;
        come_home(&world.db, &home).await.unwrap();
        assert_eq!(rows(&home, ORDERS).await, lived, "seed {seed}");
    }
}

/// Users order through the API; some orders are refused, as in life.
async fn live(world: &World, random: &mut SmallRng) {
    let users = [
        world.cached_user("Ada").await,
        world.cached_user("Eve").await,
        UserId::new(),
    ];
    for _ in 0..50 {
        let user = *users.choose(random).unwrap();
        let amount = random.random_range(-1..=1_000_000_000_001);
        let currency = ["EUR", "JPY", "eur"].choose(random).unwrap();
        let placed = world.place(user, amount, currency).await;
        assert!([201, 422].contains(&placed.status), "{placed:?}");
    }
}

#[tokio::test]
async fn an_order_whose_event_does_not_say_when_is_as_old_as_the_event() {
    let (home, _folder) = empty().await;
    append(&home, "orders.placed.v1").await;
    append(&home, "orders.placed.v1.created_at_ms").await;
    let found = rows(
        &home,
        "select status, created_at_ms from orders order by id",
    )
    .await;
    let order = |at_ms: i64| vec![Value::from("placed".to_owned()), at_ms.into()];
    assert_eq!(found, [order(1_753_866_910_778), order(1_759_655_712_345)]);
}

async fn empty() -> (Database, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    (
        Database::open(path, config::database()).await.unwrap(),
        folder,
    )
}

/// Appends the next event of the log as it was recorded.
async fn append(db: &Database, fixture: &str) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../event-schema/fixtures");
    let bytes = fs::read(fixtures.join(format!("{fixture}.json"))).unwrap();
    let mut outbox = db.outbox();
    let head = outbox.head().await.unwrap().unwrap();
    let record = Record {
        seq: head.seq + 1,
        subject: "orders.placed".to_owned(),
        bytes: bytes.trim_ascii().to_vec().into(),
    };
    outbox.append_after(&head, &[record]).await.unwrap();
}

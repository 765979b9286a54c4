//! Files of the first version stay usable: their streams are updated in place, and no reader starts over.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use freehold_tests::{Part, Service, World, eventually, outbox, seconds};
use serde_json::json;

/// Broker store and databases with 14 events on USERS (12 users, a rename, a deletion) and 9 on ORDERS, read to their ends.
fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/first")
}

#[tokio::test]
async fn a_store_of_the_first_version_is_followed_without_a_gap() {
    let mut world = World::start().await;
    world.orders_service.stop().await.expect("it stops");
    world.user_service.stop().await.expect("it stops");
    world.broker.stop().await.expect("it stops");
    world
        .broker
        .swap_store(&recorded().join("store"))
        .expect("copied");
    put(&world.user_service, "users.db");
    put(&world.orders_service, "orders.db");
    world.broker.start().await.expect("the broker starts");
    let before = world.observer().read_all("USERS").await.expect("read");
    let old = world.observer().stream_info("USERS").await.expect("shown");
    assert_eq!((before.len(), old.config.get("republish")), (14, None));
    assert_eq!(old.all["state"]["consumer_count"], 2);

    world.user_service.start().await.expect("it starts");
    world.orders_service.start().await.expect("it starts");
    let new = eventually("USERS is up to date", seconds(30), async || {
        let info = world.observer().stream_info("USERS").await;
        let info = info.map_err(|error| format!("{error:#}"))?;
        match info.all["state"]["consumer_count"] == 0 {
            true => Ok(info),
            false => Err(format!("{}", info.all)),
        }
    });
    let new = new.await;
    let wanted = json!({"src": "users.>", "dest": "live.users.>"});
    assert_eq!(new.config["republish"], wanted);
    assert_eq!(new.config["metadata"], old.config["metadata"]);

    let user = world.users().register("Zoe", "zoe@example.org").await;
    let user = user.expect_status(201);
    world.until_applied(15).await;
    let after = world.observer().read_all("USERS").await.expect("read");
    assert_eq!((&after[..14], after.len()), (&before[..], 15));
    let order = world.orders().place(user.id(), 100, "EUR").await;
    order.expect_status(201);
    for consumer in ["orders-user-cache", "orders-of-deleted-users"] {
        let at = outbox::offset(&world.orders_service.database, consumer);
        assert_eq!(at.expect("read"), 15, "{consumer}");
    }
    let metrics = world.orders().metrics().await.expect("shown");
    let rebuilt =
        |consumer| metrics.labelled("freehold_consumer_rebuilt_total", "consumer", consumer);
    assert_eq!(rebuilt("orders-user-cache"), Some(0.0));
}

/// The database, its keys and its lock file, readable by their owner alone, as they were.
fn put(service: &Service, name: &str) {
    for end in ["", ".keys", ".lock"] {
        let mut to = service.database.as_os_str().to_owned();
        to.push(end);
        fs::copy(recorded().join(format!("{name}{end}")), &to).expect("copied");
        fs::set_permissions(&to, Permissions::from_mode(0o600)).expect("set");
    }
}

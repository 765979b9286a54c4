//! A stream without atomic batches: events are published one by one, each with its expected sequence, in one pipeline.

use freehold_tests::World;
use relay::log::Log;
use relay::publish::Step;
use relay::testing::AnyEvent;
use relay::{Database, EmitError, Options, Relay, Tx};
use serde_json::{Value, json};

use crate::logs::owner;
use crate::owner::Owner;

fn emit(tx: &Tx<'_>, number: u64) -> Result<u64, EmitError> {
    tx.emit(&AnyEvent::new(
        "users.counted.v1",
        &number.to_string(),
        &json!({"number": number}),
    ))
}

#[tokio::test]
async fn without_atomic_batches_a_backlog_is_published_one_by_one_in_order() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = world.start().await;
    let options = Options::new("user-service", "USERS", &[]);
    let db = Database::open(world.folder().join("users.db"), options)
        .await
        .expect("it opens");
    let mut wire = Owner::of_users(&world.broker).await.wire;
    let head = db.outbox().head().await.expect("it is read");
    let origin = head.expect("a database has a log").origin;
    let config = json!({
        "name": "USERS", "subjects": ["users.t0.>"], "subject_transform": {"src": "users.t0.>", "dest": "users.>"},
        "retention": "limits", "storage": "file", "discard": "new", "max_bytes": 1_000_000_000, "allow_direct": true,
        "metadata": {
            "freehold.database_id": origin.database_id.to_string(),
            "freehold.epoch": origin.epoch.to_string(),
            "freehold.incarnation": "t0",
        },
    });
    wire.request_json("$JS.API.STREAM.CREATE.USERS", &config)
        .await
        .expect("it is made");

    let write = db.write(|tx| (0..200).try_for_each(|number| emit(tx, number).map(drop)));
    write.await.expect("it is written");
    let mut relay = Relay::new(&db, owner(&world.broker).stream("USERS"));
    assert_eq!(relay.step().await.expect("a contact"), Step::Connected);
    assert_eq!(
        relay.step().await.expect("all rows go out"),
        Step::Published(200)
    );

    let kept = world
        .observer()
        .read_all("USERS")
        .await
        .expect("it is read");
    assert_eq!(kept.len(), 200);
    for (event, seq) in kept.iter().zip(1..) {
        let json: Value = serde_json::from_slice(&event.bytes).expect("an envelope");
        assert_eq!(
            (event.seq, json["data"]["number"].as_u64()),
            (seq, Some(seq - 1))
        );
    }
}

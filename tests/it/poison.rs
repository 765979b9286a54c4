//! An event that orders-service cannot read: it blocks its own user and no other, and after the fix every event is applied in order.
//! Real broker, real service; the library simulates the producer, since user-service would not emit such an event.

use event_schema::{Event, UserEvent};
use freehold_tests::users::users_in;
use freehold_tests::{Part, World};
use orders_service::cache::users;
use relay::consume::{DeadLetter, LetterState};
use relay::publish::RelayState;
use relay::testing::AnyEvent;
use relay::{ApplyError, Consumer, Database, Options, Received, Relay, Rows, Stop};
use schemars::Schema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::logs::owner;

const ADA: &str = "0191d1a0-0000-7000-8000-00000000000a";
const BOB: &str = "0191d1a0-0000-7000-8000-00000000000b";

#[tokio::test]
async fn a_poison_event_parks_its_user_and_no_other_and_the_fix_applies_all_in_order() {
    let mut world = World::builder().without_user_service().start().await;
    let producer = Database::open(
        world.folder().join("users.db"),
        Options::new("user-service", "USERS", &[]),
    );
    world.expect_dead_letters(); // of the reaction to deleted users, which reads the same stream and is not cured
    let producer = producer.await.expect("it opens");
    let relay = Relay::new(&producer, owner(&world.broker).stream("USERS"));
    let (status, stop) = (relay.status(), Stop::new());
    let publishing = tokio::spawn(relay.run(stop.clone()));

    emit(
        &producer,
        "created",
        BOB,
        json!({"user_id": BOB, "name": "Bob", "version": 1}),
    )
    .await;
    emit(
        &producer,
        "renamed",
        BOB,
        json!({"user_id": BOB, "version": 2}),
    )
    .await; // no name: no consumer can read it
    emit(
        &producer,
        "renamed",
        BOB,
        json!({"user_id": BOB, "name": "Bobby", "version": 3}),
    )
    .await;
    emit(
        &producer,
        "created",
        ADA,
        json!({"user_id": ADA, "name": "Ada", "version": 1}),
    )
    .await;
    emit(
        &producer,
        "renamed",
        ADA,
        json!({"user_id": ADA, "name": "Countess", "version": 2}),
    )
    .await;
    world.until_applied(5).await;
    let metrics = world.orders().metrics().await.expect("metrics");
    assert_eq!(
        metrics.labelled("freehold_dead_letters", "consumer", users::CONSUMER),
        Some(2.0)
    );
    world
        .orders()
        .is_ready()
        .await
        .expect("one bad event makes no service unready");
    assert_eq!(
        known(&world),
        [
            (ADA.into(), "Countess".into(), 2),
            (BOB.into(), "Bob".into(), 1)
        ]
    );

    // The cure: a reader that knows what to make of a missing name. It runs while the service is stopped.
    world.orders_service.stop().await.expect("it stops");
    let db = Database::open(
        &world.orders_service.database,
        orders_service::service().options(),
    );
    let db = db.await.expect("it opens");
    let cured = Consumer::projection(users::CONSUMER, apply_leniently);
    let listed = db.read(|rows| DeadLetter::list(rows, users::CONSUMER, 10));
    let listed = listed.await.expect("it is listed");
    let states: Vec<_> = listed
        .iter()
        .map(|letter| (letter.seq, letter.state))
        .collect();
    assert_eq!(states, [(2, LetterState::Dead), (3, LetterState::Parked)]);
    assert!(
        listed[0].reason.contains("missing field `name`"),
        "{}",
        listed[0].reason
    );
    let retried = cured.retry(&db, BOB).await.expect("it is retried");
    assert_eq!((retried.applied, retried.stopped_at), (2, None));
    db.close().await;

    world.orders_service.start().await.expect("it starts");
    emit(
        &producer,
        "renamed",
        BOB,
        json!({"user_id": BOB, "name": "Robert", "version": 4}),
    )
    .await;
    world.until_applied(6).await;
    assert_eq!(
        known(&world),
        [
            (ADA.into(), "Countess".into(), 2),
            (BOB.into(), "Robert".into(), 4)
        ]
    );

    assert_eq!(status.borrow().state, RelayState::Publishing);
    stop.cancel();
    publishing
        .await
        .expect("it does not panic")
        .expect("it stops when asked");
    producer.close().await;
}

/// Emits any event, readable or not.
async fn emit(db: &Database, what: &'static str, user_id: &'static str, data: Value) {
    let write =
        db.write(move |tx| tx.emit(&AnyEvent::new(&format!("users.{what}.v1"), user_id, &data)));
    write.await.expect("it is emitted");
}

fn apply_leniently(rows: &Rows<'_>, received: &Received<Lenient>) -> Result<(), ApplyError> {
    let Received { seq, id, .. } = *received;
    let received = Received {
        seq,
        id,
        aggregate: received.aggregate.clone(),
        time: received.time.clone(),
        event: received.event.0.clone(),
        sealed: None,
    };
    users::apply(rows, &received)
}

/// A user's event that may lack a name.
#[derive(Serialize)]
struct Lenient(UserEvent);

impl Event for Lenient {
    const STREAM: &'static str = UserEvent::STREAM;

    fn event_type(&self) -> &str {
        self.0.event_type()
    }

    fn aggregate(&self) -> String {
        self.0.aggregate()
    }

    fn decode(event_type: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        let mut data: Value = serde_json::from_slice(data)?;
        if data.get("name").is_none() {
            data["name"] = "(unknown)".into();
        }
        let event = UserEvent::decode(event_type, data.to_string().as_bytes())?;
        Ok(event.map(Self))
    }

    fn schemas() -> Vec<(&'static str, Schema)> {
        UserEvent::schemas()
    }
}

/// The users in the cache: id, name, version.
fn known(world: &World) -> Vec<(String, String, u64)> {
    let users = users_in(&world.orders_service.database, "user_cache").expect("it is read");
    users
        .into_iter()
        .map(|(id, (name, version))| (id, name, version))
        .collect()
}

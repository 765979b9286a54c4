//! Two relays on copies of one database, against a real broker: one line of events, and the other says what it saw.

use freehold_tests::{Part, World, eventually, seconds};
use relay::{Database, EmitError, NewEvent, Options, Relay, RelayState, Step, Tx};
use serde::{Deserialize, Serialize};

use crate::logs::owner;

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
}

fn emit(tx: &Tx<'_>, name: &str) -> Result<u64, EmitError> {
    tx.emit(NewEvent {
        event_type: "users.named.v1",
        aggregate: name.to_owned(),
        data: &Named {
            name: name.to_owned(),
        },
        decode: |_, data| serde_json::from_slice(data).map(Some),
    })
}

async fn named(db: &Database, name: &'static str) {
    db.write(move |tx| emit(tx, name))
        .await
        .expect("it is written");
}

#[tokio::test]
async fn the_broker_refuses_a_relay_on_a_copy_and_nothing_in_the_stream_changes() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = world.start().await;
    let options = || Options::new("user-service", "USERS", &[]);
    let (file, copied) = (
        world.folder().join("original.db"),
        world.folder().join("copy.db"),
    );
    let way = || owner(&world.broker).stream("USERS", &["orders-user-cache"]);

    let db = Database::open(&file, options()).await.expect("it opens");
    named(&db, "one").await;
    let mut relay = Relay::new(&db, way());
    assert_eq!(
        relay.step().await.expect("the stream is made"),
        Step::Connected
    );
    assert_eq!(
        relay.step().await.expect("the row goes out"),
        Step::Published(1)
    );
    db.close().await;
    std::fs::copy(&file, &copied).expect("copied");

    let db = Database::open(&file, options()).await.expect("it opens");
    let copy = Database::open(&copied, options()).await.expect("it opens");
    let (mut relay, mut rival) = (Relay::new(&db, way()), Relay::new(&copy, way()));
    assert_eq!(relay.step().await.expect("a contact"), Step::Connected);
    assert_eq!(rival.step().await.expect("a contact"), Step::Connected);
    named(&db, "two").await;
    assert_eq!(
        relay.step().await.expect("the row goes out"),
        Step::Published(1)
    );
    let stream = world
        .observer()
        .read_all("USERS")
        .await
        .expect("it is read");

    named(&copy, "another two").await;
    let refused = rival
        .step()
        .await
        .expect_err("the broker refuses a second event 2");
    assert!(
        refused.to_string().contains("wrong last sequence"),
        "{refused}"
    );
    assert_eq!(rival.step().await.expect("a contact"), Step::Halted);
    let RelayState::Halted(reason) = rival.status().borrow().state.clone() else {
        panic!("it did not halt");
    };
    assert!(
        reason.contains("at 2 it holds") && reason.contains("stop one of the two"),
        "{reason}"
    );
    assert!(
        copy.write(|_| Ok::<_, ()>(())).await.is_err(),
        "a halted database takes no writes"
    );

    assert_eq!(
        world
            .observer()
            .read_all("USERS")
            .await
            .expect("it is read"),
        stream
    );
    named(&db, "three").await;
    assert_eq!(
        relay.step().await.expect("the original goes on"),
        Step::Published(1)
    );
}

/// The same with the real program: it serves reads, refuses writes, and says why.
#[tokio::test]
async fn a_service_started_on_an_older_copy_halts_before_it_publishes() {
    let mut world = World::start().await;
    let user = world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    world.user_service.stop().await.expect("it stops");
    let older = world.folder().join("older.db");
    std::fs::copy(&world.user_service.database, &older).expect("copied");
    world.user_service.start().await.expect("it starts");
    world
        .users()
        .rename(user.id(), "Countess")
        .await
        .expect_status(200);
    world.check().await;
    let stream = world
        .observer()
        .read_all("USERS")
        .await
        .expect("it is read");
    world.user_service.stop().await.expect("it stops");
    std::fs::copy(&older, &world.user_service.database).expect("copied");
    world
        .user_service
        .start()
        .await
        .expect("it starts, if only to be read");

    let reason = eventually("it halts", seconds(20), async || {
        let reply = world.users().get("/readyz").await;
        match reply.status {
            503 => Ok(reply.body.to_string()),
            status => Err(format!("it answers {status}")),
        }
    })
    .await;
    assert!(reason.contains("ends at 2, this database at 1"), "{reason}");
    let refused = world.users().rename(user.id(), "Somebody else").await;
    assert_eq!(refused.expect_status(503).problem(), Some("writes_halted"));
    world.users().user(user.id()).await.expect_status(200);
    assert_eq!(
        world
            .observer()
            .read_all("USERS")
            .await
            .expect("it is read"),
        stream
    );
    world.waive_final_check(); // the outbox is an older copy on purpose
}

//! Two relays on copies of one database, against a real broker: the log has one line, and the second relay halts with a reason.

use freehold_tests::{Part, World, eventually, seconds};
use relay::publish::{RelayState, Step};
use relay::testing::AnyEvent;
use relay::{Database, EmitError, Options, Relay, Tx};
use serde::{Deserialize, Serialize};

use crate::logs::owner;

#[derive(Serialize, Deserialize)]
struct Named {
    name: String,
}

fn emit(tx: &Tx<'_>, name: &str) -> Result<u64, EmitError> {
    tx.emit(&AnyEvent::new(
        "users.named.v1",
        name,
        &Named {
            name: name.to_owned(),
        },
    ))
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
    let way = || owner(&world.broker).stream("USERS");

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

/// An older copy of the file is no second writer: it imports the newer events of the stream, and continues.
#[tokio::test]
async fn a_service_started_on_an_older_copy_imports_the_tail_before_it_writes() {
    let mut world = World::start().await;
    let user = world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    let older = world.folder().join("older.db");
    world.user_service.copy_database(&older).expect("copied");
    let renamed = world.users().rename(user.id(), "Countess").await;
    let renamed = renamed.expect_status(200).body.clone();
    world.check().await;
    world.user_service.stop().await.expect("it stops");
    world.user_service.swap_database(&older).expect("swapped");
    world.user_service.start().await.expect("it starts");
    eventually("it has met its stream", seconds(20), async || {
        world.users().is_ready().await
    })
    .await;
    let home = world.users().user(user.id()).await.expect_status(200).body;
    assert_eq!(home, renamed, "the address too, which travelled sealed");
    world
        .users()
        .rename(user.id(), "Lovelace")
        .await
        .expect_status(200);
    world.check().await;
}

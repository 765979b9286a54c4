//! One contract, three logs: the conformance suite over a real broker. Over the outbox and the in-memory log it runs in
//! `relay/tests/it/conformance.rs`, with its planted bugs.

use std::fs;

use freehold_tests::{Broker, Part, World, eventually, seconds};
use relay::Nats;
use relay::error::LogError;
use relay::log::{AppendLog, Connect, Log, Origin, Stream};
use relay::nats::{ReaderSession, StreamSession};
use relay::testing::conformance::{Logs, chain, stream_suite, suite};
use tokio::sync::Mutex;

/// The rules of the suite; a rule that silently stops running is a lost test.
const RULES: usize = 11;
const STREAM_RULES: usize = 7;

/// The writers log in as user-service, the reader as orders-service: through nats.conf, as in production.
#[tokio::test]
async fn nats_keeps_every_rule() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = Mutex::new(world.start().await);
    let fresh = async || {
        let mut world = world.lock().await;
        empty(&mut world.broker).await;
        logs(&world.broker).await
    };
    assert_eq!(suite(fresh).await, Ok(RULES));
    assert_eq!(Box::pin(stream_suite(fresh)).await, Ok(STREAM_RULES));
}

#[tokio::test]
async fn a_stream_is_not_created_with_an_invalid_token() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = world.start().await;
    let to = owner(&world.broker).stream("USERS");
    let mut session = to.connect().await.expect("it connects");
    let refused = session.create(1, &origin(), "a.>").await;
    assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    assert_eq!(session.head().await.expect("it is shown"), None);
}

/// While the broker removes one deleted stream's folder it cannot remove the next one's, and reports no error.
#[tokio::test]
async fn a_new_stream_never_holds_deleted_messages() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = world.start().await;
    let Logs { mut writer, .. } = logs(&world.broker).await;
    let head = writer.head().await.expect("it is shown");
    let head = head.expect("it is there");
    let appended = writer.append_after(&head, &chain(0, None, 5)).await;
    appended.expect("it is taken");

    let still_removed = world.broker.store().join("jetstream/USERS/streams/.USERS");
    fs::create_dir_all(still_removed.join("msgs")).expect("it is made");
    let deleted = writer.delete(&head.incarnation).await;
    deleted.expect("the broker says so");
    let made = writer.create(1, &origin(), "1e").await;
    let error = made.expect_err("the old messages are back").to_string();
    assert!(error.contains("what was deleted"), "{error}");
    assert_eq!(writer.head().await.expect("it is shown"), None);

    fs::remove_dir_all(still_removed).expect("it is removed");
    let made = eventually("it is made empty", seconds(10), async || {
        writer.create(1, &origin(), "2d").await
    });
    assert_eq!(made.await.seq, 0);
}

/// The stream made, and three sessions on it.
async fn logs(broker: &Broker) -> Logs<StreamSession, ReaderSession> {
    let to = owner(broker).stream("USERS");
    let mut writer = to.connect().await.expect("it connects");
    let made = writer.create(1, &origin(), "0f").await;
    made.expect("it is made");
    let from = reader(broker).reader("USERS");
    Logs {
        writer,
        rival: to.connect().await.expect("it connects"),
        reader: from.connect().await.expect("it connects"),
    }
}

async fn empty(broker: &mut Broker) {
    broker.stop().await.expect("it stops");
    broker.wipe_store().expect("wiped");
    broker.start().await.expect("it starts");
}

pub(crate) fn owner(broker: &Broker) -> Nats {
    broker.nats("USERS").expect("it has an owner")
}

pub(crate) fn reader(broker: &Broker) -> Nats {
    broker.nats("ORDERS").expect("it has an owner")
}

fn origin() -> Origin {
    Origin {
        database_id: uuid::Uuid::from_u128(7),
        epoch: 1,
    }
}

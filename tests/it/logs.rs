//! One contract, three logs: the conformance suite over a real broker. Over the outbox and the in-memory log it runs in
//! `relay/tests/it/conformance.rs`, with its planted bugs.

use freehold_tests::{Broker, Part, World};
use relay::conformance::{Logs, suite};
use relay::{Connect, Nats, Origin, Stream};
use tokio::sync::Mutex;

/// The rules of the suite; a rule that silently stops running is a lost test.
const RULES: usize = 11;

/// The writers log in as user-service, the reader as orders-service: through nats.conf, as in real life.
#[tokio::test]
async fn nats_keeps_every_rule() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service();
    let world = Mutex::new(world.start().await);
    let fresh = async || {
        let mut world = world.lock().await;
        empty(&mut world.broker).await;
        let (owner, reader) = (owner(&world.broker), reader(&world.broker));
        let to = owner.stream("USERS", &["orders-user-cache"]);
        let mut writer = to.connect().await.expect("it connects");
        writer.create(1, &origin()).await.expect("it is made");
        let from = reader.reader("USERS", "orders-user-cache");
        Logs {
            writer,
            rival: to.connect().await.expect("it connects"),
            reader: from.connect().await.expect("it connects"),
        }
    };
    assert_eq!(suite(fresh).await, Ok(RULES));
}

async fn empty(broker: &mut Broker) {
    broker.stop().await.expect("it stops");
    broker.wipe_store().expect("wiped");
    broker.start().await.expect("it starts");
}

pub(crate) fn owner(broker: &Broker) -> Nats {
    let password = broker.credentials().users.reveal();
    Nats::new(&broker.url(), "user-service", password, "_INBOX_users")
}

pub(crate) fn reader(broker: &Broker) -> Nats {
    let password = broker.credentials().orders.reveal();
    Nats::new(&broker.url(), "orders-service", password, "_INBOX_orders")
}

fn origin() -> Origin {
    Origin {
        database_id: uuid::Uuid::from_u128(7),
        epoch: 1,
    }
}

//! Several services in one process: what follows from an event, without a broker, a port or a wait.

use std::time::Duration;

use relay::rusqlite::{self, OptionalExtension};
use relay::testing::memory::Fired;
use relay::{ApplyError, Consumer, Database, Fold, Received, Rows, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service_program::Service;
use service_program::testing::InProcess;

#[derive(Serialize, Deserialize, JsonSchema)]
struct Placed {
    order: u64,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Paid {
    order: u64,
    at_ms: u64,
}

relay::events! { enum OrderEvent on "ORDERS" { "orders.placed.v1" => Placed(Placed) about order } }
relay::events! { enum PaymentEvent on "PAYMENTS" { "payments.paid.v1" => Paid(Paid) about order } }

const PAYMENTS: &str = "create table payments (id integer primary key, at_ms integer) strict";
const CACHE: &str = "create table payment_cache (id integer primary key, at_ms integer) strict";

fn put(rows: &Rows<'_>, table: &str, paid: &Paid) -> rusqlite::Result<()> {
    let sql = format!("insert into {table} values (?1, ?2)");
    rows.execute(&sql, (paid.order, paid.at_ms)).map(drop)
}

/// Pays each order once.
fn pay(tx: &Tx<'_>, event: &Received<OrderEvent>) -> Result<(), ApplyError> {
    let OrderEvent::Placed(Placed { order }) = event.event;
    let paid = PaymentEvent::Paid(Paid {
        order,
        at_ms: tx.now_ms(),
    });
    tx.emit(&paid)
        .map_err(|error| ApplyError::Fatal(error.to_string()))?;
    let PaymentEvent::Paid(paid) = paid;
    Ok(put(tx.rows(), "payments", &paid)?)
}

fn payments() -> Service {
    let fold = |rows: &Rows<'_>, event: &Received<PaymentEvent>| {
        let PaymentEvent::Paid(paid) = &event.event;
        Ok(put(rows, "payments", paid)?)
    };
    Service::new("payments-service", 7105)
        .tables(&[PAYMENTS])
        .emits::<PaymentEvent>(Fold::new(&["payments"], fold))
        .follows(Consumer::reaction("payments-of-orders", pay))
}

fn receipts() -> Service {
    let keep = |rows: &Rows<'_>, event: &Received<PaymentEvent>| {
        let PaymentEvent::Paid(paid) = &event.event;
        Ok(put(rows, "payment_cache", paid)?)
    };
    Service::new("receipts-service", 7106)
        .tables(&[CACHE])
        .follows(Consumer::projection("receipts-payment-cache", keep))
}

async fn paid_at(db: &Database, table: &str, order: u64) -> Option<u64> {
    let sql = format!("select at_ms from {table} where id = ?1");
    let read = db.read(move |rows| rows.query_row(&sql, [order], |row| row.get(0)).optional());
    read.await.unwrap()
}

#[tokio::test]
async fn an_event_goes_through_two_services_while_nothing_waits() {
    let mut world = InProcess::new();
    let payments = world.start(payments()).await;
    let receipts = world.start(receipts()).await;
    world.emit(OrderEvent::Placed(Placed { order: 1 })).await;
    world.clock().forward(Duration::from_secs(3_600));
    assert_eq!(
        paid_at(&payments.db, "payments", 1).await,
        None,
        "nothing happens by itself"
    );
    world.settle().await;
    let an_hour_later = Some(1_767_225_600_000 + 3_600_000);
    assert_eq!(paid_at(&payments.db, "payments", 1).await, an_hour_later);
    assert_eq!(
        paid_at(&receipts.db, "payment_cache", 1).await,
        an_hour_later
    );
    assert_eq!(receipts.api.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_broker_that_fails_half_the_time_changes_nothing() {
    let mut world = InProcess::new();
    let _payments = world.start(payments()).await;
    let receipts = world.start(receipts()).await;
    for stream in ["ORDERS", "PAYMENTS"] {
        world.broker(stream).fail(0.5);
    }
    for order in 1..=20 {
        world.emit(OrderEvent::Placed(Placed { order })).await;
    }
    world.settle().await;
    assert!(world.broker("PAYMENTS").fired() != Fired::default());
    for order in 1..=20 {
        assert!(
            paid_at(&receipts.db, "payment_cache", order)
                .await
                .is_some(),
            "{order}"
        );
    }
}

#[tokio::test]
#[should_panic(
    expected = "payments-of-orders applies: Err(Fatal(\"event 1 is not applied yet: later\"))"
)]
async fn what_cannot_settle_is_named() {
    let mut world = InProcess::new();
    let never =
        |_: &Tx<'_>, _: &Received<OrderEvent>| Err(ApplyError::Transient("later".to_owned()));
    let stuck = Service::new("payments-service", 7105);
    world
        .start(stuck.follows(Consumer::reaction("payments-of-orders", never)))
        .await;
    world.emit(OrderEvent::Placed(Placed { order: 1 })).await;
    world.settle().await;
}

#[tokio::test]
#[should_panic(expected = "it owns ORDERS and follows it, too")]
async fn a_service_that_follows_itself_is_refused() {
    let mine = Service::new("orders-service", 7102);
    let mine = mine.follows(Consumer::reaction("orders-of-orders", pay));
    InProcess::new().start(mine).await;
}

#[tokio::test]
#[should_panic(expected = "two consumers payments-of-orders")]
async fn two_consumers_of_one_name_are_refused() {
    let twice = payments().follows(Consumer::reaction("payments-of-orders", pay));
    InProcess::new().start(twice).await;
}

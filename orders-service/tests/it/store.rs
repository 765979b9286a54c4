//! The rows: what is written is what is read back.

use event_schema::{OrderId, UserId, Version};
use orders_service::domain::{Amount, Order, Status};
use orders_service::events::{MakeError, make};
use orders_service::store::orders;
use orders_service::{MIGRATIONS, service};
use relay::rusqlite;
use relay::{Database, Options};
use service_kit::testing::rows;

use crate::world::{FakeUsers, World};

#[tokio::test]
async fn every_amount_and_currency_comes_back_as_it_was() {
    let world = World::start(FakeUsers::Gone).await;
    for (seq, minor) in [1, 1999, Amount::MAX_MINOR].into_iter().enumerate() {
        let (id, user_id, at_ms) = (OrderId::new(), UserId::new(), 1_759_655_712_345);
        let amount = Amount::try_from(minor).unwrap();
        let order = Order {
            id,
            user_id,
            amount,
            currency: "JPY".to_owned(),
            status: Status::Placed,
            driver_id: None,
            note: None,
            cancel_reason: None,
            problems: 0,
            version: Version::FIRST,
            owner_version: Version::FIRST,
            created_at_ms: at_ms,
            changed_at_ms: at_ms,
            seq: i64::try_from(seq).unwrap() + 1,
        };
        let placed = Order::place(id, user_id, amount, "JPY".parse().unwrap(), at_ms);
        let write = world
            .db
            .write(move |tx| make(tx, placed).map(drop))
            .await
            .map_err(|error: relay::WriteError<MakeError>| error.to_string());
        write.unwrap();
        let found = world.db.read(move |rows| orders::find(rows, id)).await;
        assert_eq!(found.unwrap(), Some(order));
    }
}

#[tokio::test]
async fn a_users_orders_are_found_without_looking_at_others() {
    let world = World::start(FakeUsers::Gone).await;
    let plan = |rows: &rusqlite::Connection| {
        let sql = "explain query plan select id from orders where user_id = 'a' and seq > 7
                   and (null is null or status = null) order by seq limit 9";
        rows.query_row(sql, [], |row| row.get::<_, String>(3))
    };
    let plan = world.db.read(plan).await.unwrap();
    assert!(
        plan.contains("orders_by_user (user_id=? AND seq>?)"),
        "{plan}"
    );
}

/// The tables of the first program.
static FIRST: [&str; 1] = [MIGRATIONS[0]];

#[tokio::test]
async fn a_file_of_the_first_program_goes_on_with_the_history_of_its_orders() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let first = Options::new("orders-service", "ORDERS", &FIRST);
    let old = Database::open(&path, first).await.unwrap();
    let (id, user_id) = (OrderId::new(), UserId::new());
    let placed = Order::place(
        id,
        user_id,
        Amount::try_from(1).unwrap(),
        "EUR".parse().unwrap(),
        7,
    );
    let write = old.write(move |tx| {
        tx.execute(
            "insert into orders (id, user_id, amount_minor, currency, status, version, created_at_ms)
             values (?1, ?2, 1, 'EUR', 'placed', 1, 7)",
            (id.to_string(), user_id.to_string()),
        )?;
        tx.emit(&placed)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
    });
    write.await.unwrap();
    old.close().await;

    let now = Database::open(&path, service().options()).await.unwrap();
    let history = rows(&now, "select aggregate, version, seq from history").await;
    assert_eq!(history, [[id.to_string().into(), 1.into(), 1.into()]]);
    let found = now.read(move |rows| orders::find(rows, id)).await.unwrap();
    let found = found.unwrap();
    assert_eq!((found.status, found.changed_at_ms), (Status::Placed, 7));
}

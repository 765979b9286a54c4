//! The statements, and the way they take through the indexes.

use event_schema::{OrderId, UserId};
use orders_service::domain::{Amount, Order};
use orders_service::store;
use relay::rusqlite;

use crate::world::{FakeUsers, World};

#[tokio::test]
async fn an_order_is_found_as_it_was_stored() {
    let world = World::start(FakeUsers::Gone).await;
    let amount = Amount::try_from(Amount::MAX_MINOR).unwrap();
    let currency = "EUR".parse().unwrap();
    let (order, _) = Order::place(
        OrderId::new(),
        UserId::new(),
        amount,
        currency,
        1_753_866_904_128,
    );
    let stored = order.clone();
    world
        .db
        .write(move |tx| store::insert(tx, &stored))
        .await
        .unwrap();
    let id = order.id;
    let found = world
        .db
        .read(move |rows| store::find(rows, id))
        .await
        .unwrap();
    assert_eq!(found, Some(order));
}

#[tokio::test]
async fn a_users_orders_are_found_without_looking_at_others() {
    let world = World::start(FakeUsers::Gone).await;
    let plan = |rows: &rusqlite::Connection| {
        let sql = "explain query plan select id from orders where user_id = 'a' and id > 'b' order by id limit 9";
        rows.query_row(sql, [], |row| row.get::<_, String>(3))
    };
    let plan = world.db.read(plan).await.unwrap();
    assert!(
        plan.contains("orders_by_user (user_id=? AND id>?)"),
        "{plan}"
    );
}

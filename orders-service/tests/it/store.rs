//! The statements, and the way they take through the indexes.

use event_schema::{OrderId, UserId, Version};
use orders_service::domain::{Amount, Order, Status};
use orders_service::store;
use relay::rusqlite;

use crate::world::{FakeUsers, World};

#[tokio::test]
async fn an_order_is_found_as_its_event_made_it() {
    let world = World::start(FakeUsers::Gone).await;
    let amount = Amount::try_from(Amount::MAX_MINOR).unwrap();
    let currency = "EUR".parse().unwrap();
    let order = Order {
        id: OrderId::new(),
        user_id: UserId::new(),
        amount,
        currency,
        status: Status::Placed,
        version: Version::FIRST,
        created_at_ms: 1_753_866_904_128,
    };
    let (id, at) = (order.id, order.created_at_ms);
    let placed = Order::place(id, order.user_id, amount, currency, at);
    let write = world.db.write(move |tx| store::apply(tx, &placed, at));
    write.await.unwrap();
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

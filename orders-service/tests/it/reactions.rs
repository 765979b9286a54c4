//! A user is deleted elsewhere: what is still open of theirs is cancelled here, once.

use event_schema::{UserDeleted, UserEvent, Version};
use orders_service::reactions::deleted_users;
use serde_json::json;

use crate::office::{id, said};
use crate::users::Users;
use crate::world::{FakeUsers, World};

#[tokio::test]
async fn a_deleted_users_open_orders_are_cancelled_and_no_others() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, mut device) = world.mia().await;
    let users = Users::start().await;
    let (ada, eve) = (users.register("Ada").await, users.register("Eve").await);
    users.arrive(&world.consumer, &world.db).await;
    let mut adas = Vec::new();
    for _ in 0..5 {
        adas.push(id(&world.place(ada, 1, "EUR").await));
    }
    let eves = id(&world.place(eve, 1, "EUR").await);
    for order in &adas[1..4] {
        world.assign(order, &mia).await;
    }
    for (kind, order) in [
        ("pick_up", &adas[2]),
        ("pick_up", &adas[3]),
        ("deliver", &adas[3]),
    ] {
        device.want(kind, order, json!({})).await;
    }
    world.cancel(&adas[4]).await;
    let (head, here) = (world.head(), device.read_on("", 50).await.next);

    users.delete(ada).await;
    let reaction = deleted_users::consumer();
    users.arrive(&reaction, &world.db).await;
    assert_eq!(world.told_after(head).await, ["orders.cancelled.v1"; 3]);
    let stand = [
        "cancelled 2",
        "cancelled 3",
        "cancelled 4",
        "delivered 4",
        "cancelled 2",
    ];
    for (order, stand) in adas.iter().zip(stand) {
        assert_eq!(world.stands(order).await, stand);
    }
    let shown = world.show(&format!("/orders/{}", adas[0])).await;
    assert_eq!(shown["cancel_reason"], "user_deleted");
    assert_eq!(world.stands(&eves).await, "placed 1");
    let told = [format!("+{}", adas[1]), format!("+{}", adas[2])];
    assert_eq!(device.read_on(&here, 50).await.told(), told);
    // The driver who brings one of them all the same is in a conflict that a person decides.
    let late = device.want("deliver", &adas[2], json!({})).await;
    assert_eq!(said(&late), "conflict order_cancelled");
}

#[tokio::test]
async fn a_deleted_user_orders_no_more_even_while_the_cache_still_knows_them() {
    let world = World::start(FakeUsers::Know).await;
    let users = Users::start().await;
    let ada = users.register("Ada").await;
    users.arrive(&world.consumer, &world.db).await;
    users.delete(ada).await;
    users.arrive(&deleted_users::consumer(), &world.db).await;
    assert!(world.cached(ada).await.is_some(), "the cache is behind");
    assert_eq!(
        world.place(ada, 1, "EUR").await.problem(),
        "422 unknown_user"
    );
    assert_eq!(world.state().await, (0, 0));
}

#[tokio::test]
async fn the_event_that_is_read_again_cancels_nothing_twice() {
    let world = World::start(FakeUsers::Know).await;
    let users = Users::start().await;
    let ada = users.register("Ada").await;
    users.arrive(&world.consumer, &world.db).await;
    let order = id(&world.place(ada, 1, "EUR").await);
    users.delete(ada).await;
    let reaction = deleted_users::consumer();
    users.arrive(&reaction, &world.db).await;
    let head = world.head();
    // Another start of the program: it goes on at the offset that lies beside the orders.
    let mut follower = deleted_users::consumer().follow(&world.db, users.stream.reader());
    for _ in 0..3 {
        follower.step().await.unwrap();
    }
    assert_eq!(world.head(), head);

    // An event that was set aside comes back after the fact: it does the rest, which is nothing.
    let (user_id, version) = (ada, Version::FIRST.next());
    let event = World::received(UserEvent::Deleted(UserDeleted { user_id, version }));
    let write = world.db.write(move |tx| deleted_users::react(tx, &event));
    let again: Result<(), relay::WriteError<relay::ApplyError>> = write.await;
    again.map_err(|error| error.to_string()).unwrap();
    assert_eq!(
        (world.head(), world.stands(&order).await),
        (head, "cancelled 2".to_owned())
    );
}

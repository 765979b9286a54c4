//! What goes down to a device: what its driver may know, all of it, and nothing else.

use std::pin::pin;

use event_schema::{DriverId, OrderId};
use futures::poll;
use relay::environment::System;
use relay::event::EventId;
use serde_json::json;

use crate::world::{FakeUsers, World};

async fn world() -> World {
    World::start(FakeUsers::Know).await
}

#[tokio::test]
async fn a_new_device_gets_a_snapshot_in_pages_and_then_the_changes() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.push(world.assigned(&mia).await);
    }
    world.order().await;
    let first = device.feed("limit=2").await.json();
    assert_eq!(
        (&first["snapshot"], &first["complete"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    // While it reads on, the office goes on.
    world.cancel(&orders[0]).await;
    world
        .change(&format!("/orders/{}/unassign", orders[4]), "*", &json!({}))
        .await;
    device.want("pick_up", &orders[1], json!({})).await;
    let rest = device.read_on(first["next"].as_str().unwrap(), 2).await;
    assert!(!rest.snapshot, "only its first page begins one");
    let told = [
        format!("+{}", orders[2]),
        format!("+{}", orders[3]),
        format!("+{}", orders[0]),
        format!("-{}", orders[4]),
        format!("+{}", orders[1]),
    ];
    assert_eq!(
        rest.told(),
        told,
        "the rest of the snapshot, and the tail from where it began"
    );
    assert_eq!(rest.at, world.head());
    let nothing = device.read_on(&rest.next, 2).await;
    assert_eq!((nothing.pages, nothing.told().len()), (1, 0));

    let delivery = &rest.items[2]["delivery"];
    let expected = json!({
        "order_id": orders[0], "status": "cancelled", "version": 3, "customer": "Ada", "amount_minor": 1999,
        "currency": "EUR", "note": "sold out", "cancel_reason": "out_of_stock", "problems": 0, "seq": 3,
        "created_at_ms": delivery["created_at_ms"], "changed_at_ms": delivery["changed_at_ms"],
    });
    assert_eq!(delivery, &expected);
}

#[tokio::test]
async fn a_device_without_orders_gets_an_empty_snapshot() {
    let world = world().await;
    let (_, device) = world.mia().await;
    let read = device.read_on("", 50).await;
    assert_eq!(
        (read.snapshot, read.items.len(), read.at),
        (true, 0, world.head())
    );
}

#[tokio::test]
async fn a_waiting_device_gets_a_change_at_once_and_none_of_other_drivers() {
    let world = world().await;
    let (mia, device) = world.mia().await;
    let (noor, _) = world.mia().await;
    let order = world.assigned(&mia).await;
    let here = device.read_on("", 50).await.next;
    let query = format!("wait_ms=8000&after={here}");
    let mut waits = pin!(device.feed(&query));
    assert!(poll!(&mut waits).is_pending());
    world.assigned(&noor).await;
    for _ in 0..100 {
        assert!(poll!(&mut waits).is_pending(), "that was not its driver's");
        tokio::task::yield_now().await;
    }
    let (page, ()) = tokio::join!(&mut waits, world.cancel(&order));
    let page = page.json();
    assert_eq!(page["items"][0]["delivery"]["status"], "cancelled");
    assert_eq!(
        (&page["complete"], &page["at"]),
        (&json!(true), &json!(world.head()))
    );

    let here = page["next"].as_str().unwrap();
    let quiet = device
        .feed(&format!("wait_ms=20&after={here}"))
        .await
        .json();
    assert_eq!(
        (&quiet["items"], &quiet["complete"]),
        (&json!([]), &json!(true))
    );
    let too_long = device.feed("wait_ms=never").await;
    assert_eq!(too_long.problem(), "400 invalid_query");
}

#[tokio::test]
async fn an_order_that_goes_to_another_driver_leaves_the_first_and_comes_to_the_second() {
    let world = world().await;
    let (mia, mias) = world.mia().await;
    let (noor, noors) = world.mia().await;
    let order = world.assigned(&mia).await;
    let (at_mias, at_noors) = (
        mias.read_on("", 50).await.next,
        noors.read_on("", 50).await.next,
    );
    world.assign(&order, &noor).await;
    assert_eq!(
        mias.read_on(&at_mias, 50).await.told(),
        [format!("-{order}")]
    );
    let came = noors.read_on(&at_noors, 50).await;
    assert_eq!(came.told(), [format!("+{order}")]);
    // And back again: what was gone is there.
    world.assign(&order, &mia).await;
    assert_eq!(
        mias.read_on(&at_mias, 50).await.told(),
        [format!("+{order}")]
    );
    assert_eq!(
        noors.read_on(&came.next, 50).await.told(),
        [format!("-{order}")]
    );
    assert_eq!(noors.read_on("", 50).await.told(), [""; 0]);
}

#[tokio::test]
async fn the_feed_has_an_operators_decisions() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (_, noors) = world.mia().await;
    let order = world.assigned(&mia).await;
    device.want("pick_up", &order, json!({})).await;
    world.cancel(&order).await;
    let conflict = device.want("deliver", &order, json!({})).await;
    let here = device.read_on("", 50).await.next;
    let id = conflict["intent_id"].as_str().unwrap();
    let upheld = json!({"decision": "upheld"});
    world
        .change(&format!("/intents/{id}/decision"), "*", &upheld)
        .await;
    let told = json!({"intent_id": id, "order_id": order, "decision": "upheld", "by": "operator"});
    let tail = device.read_on(&here, 50).await;
    assert_eq!(
        (&tail.judged, tail.told()),
        (&vec![told.clone()], vec![format!("+{order}")])
    );
    let snapshot = device.read_on("", 50).await;
    assert!(
        snapshot.judged.contains(&told),
        "a device that begins anew hears of it, too"
    );
    assert_eq!(noors.read_on("", 50).await.judged, [json!(null); 0]);
}

#[tokio::test]
async fn a_place_that_is_none_is_refused_and_so_is_another_drivers() {
    let world = world().await;
    let (mia, device) = world.mia().await;
    let (_, noors) = world.mia().await;
    world.assigned(&mia).await;
    let mias = device.read_on("", 50).await.next;
    for place in [
        "",
        "7",
        "f1",
        "f1.x.1.-",
        "f9.a.b.c",
        &format!("{mias}.x"),
        &mias[..20],
    ] {
        let refused = device.feed(&format!("after={place}")).await;
        assert_eq!(refused.problem(), "400 invalid_query", "{place}");
    }
    let refused = noors.feed(&format!("after={mias}")).await;
    assert_eq!(refused.problem(), "400 invalid_query");
    assert!(!refused.text.contains(&mia), "{}", refused.text);
}

#[tokio::test]
async fn a_position_on_the_abandoned_side_of_a_fork_begins_a_snapshot() {
    let world = world().await;
    let (mia, device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let here = device.read_on("", 50).await.next;
    let words: Vec<&str> = here.split('.').collect();
    let (head, other) = (world.head(), EventId::draw(&System));
    for place in [
        format!("f1.{}.{head}.{other}", words[1]),
        format!("f1.{}.{}.{}", words[1], head - 1, words[3]),
        format!("f1.{}.{}.{}", words[1], head + 7, words[3]),
        format!("f1.{}.{}.{other}", words[1], u64::MAX),
        format!("f1.{}.{head}.-", words[1]),
        format!("f1.{}.0.{}", words[1], words[3]),
        format!("s1.{}.{head}.{other}.{}", words[1], OrderId::new()),
    ] {
        let read = device.read_on(&place, 50).await;
        assert_eq!(
            (read.snapshot, read.told()),
            (true, vec![format!("+{order}")]),
            "{place}"
        );
    }
    assert!(!device.read_on(&here, 50).await.snapshot);
}

#[tokio::test]
async fn a_device_that_was_away_for_too_long_gets_a_snapshot() {
    let world = World::with_tail(3).await;
    let (mia, device) = world.mia().await;
    let (gone, order) = (world.assigned(&mia).await, world.assigned(&mia).await);
    let here = device.read_on("", 50).await.next;
    world
        .change(&format!("/orders/{gone}/unassign"), "*", &json!({}))
        .await;
    world.order().await;
    world.order().await;
    let near = device.read_on(&here, 50).await;
    assert_eq!(
        (near.snapshot, near.told()),
        (false, vec![format!("-{gone}")])
    );
    world.order().await;
    let far = device.read_on(&here, 50).await;
    assert_eq!(
        (far.snapshot, far.told()),
        (true, vec![format!("+{order}")])
    );
}

#[tokio::test]
async fn no_device_sees_another_drivers_orders_whatever_it_sends() {
    let world = world().await;
    let (mia, _) = world.mia().await;
    let (_, noors) = world.mia().await;
    let order = world.assigned(&mia).await;
    let here = noors.read_on("", 50).await.next;
    for query in [
        "limit=200".to_owned(),
        format!("driver_id={mia}"),
        format!(
            "after={}",
            here.replace(here.split('.').nth(1).unwrap(), &mia)
        ),
        format!("after=f1.{mia}.0.-"),
        format!("after=s1.{}.0.-.{order}", DriverId::new()),
        "limit=0".to_owned(),
        "limit=201".to_owned(),
        "after=&after=".to_owned(),
    ] {
        let answer = noors.feed(&query).await;
        assert!(!answer.text.contains(&order), "{query}: {answer:?}");
        assert!(!answer.text.contains("Ada"), "{query}: {answer:?}");
    }
    let api = world.api.sending(&*noors.token);
    for path in [
        format!("/orders/{order}"),
        format!("/orders/{order}/history"),
        "/orders".to_owned(),
        format!("/drivers/{mia}"),
        "/drivers".to_owned(),
        "/intents".to_owned(),
    ] {
        assert_eq!(api.get(&path).await.problem(), "403 forbidden", "{path}");
    }
}

//! What happened to an order, told from the log itself.

use event_schema::OrderId;
use relay::rusqlite;
use serde_json::{Value, json};
use service_kit::testing::request;

use crate::world::{FakeUsers, World};

#[tokio::test]
async fn the_history_has_every_change_with_its_position_event_and_request() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let other = world.assigned(&mia).await;
    device.want("pick_up", &order, json!({})).await;
    device.want("pick_up", &order, json!({})).await; // refused, and no change
    let cancel = request("POST", &format!("/orders/{order}/cancel"))
        .header("content-type", "application/json")
        .header("if-match", "*")
        .header("x-request-id", "r-7");
    let body = json!({"reason": "customer_request"}).to_string();
    let cancelled = world.api.send(cancel.body(body.into())).await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");

    let path = format!("/orders/{order}/history");
    let history = world.show(&path).await;
    let changes = history["items"].as_array().unwrap();
    let versions: Vec<_> = changes
        .iter()
        .map(|of| of["version"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, [1, 2, 3, 4]);
    let types: Vec<_> = changes
        .iter()
        .map(|of| of["event"]["type"].as_str().unwrap())
        .collect();
    let told = [
        "orders.placed.v1",
        "orders.assigned.v1",
        "orders.picked_up.v1",
        "orders.cancelled.v1",
    ];
    assert_eq!(types, told);
    let log = world.events().await;
    for change in changes {
        let position = change["position"].as_str().unwrap();
        let place: usize = position.strip_prefix("orders@").unwrap().parse().unwrap();
        assert_eq!(change["event"]["data"], log[place - 1].1);
        assert_eq!(change["event"]["data"]["version"], change["version"]);
        assert_eq!(change["event"]["data"]["order_id"], *order);
        assert!(change["event"]["request_id"].is_string(), "{change}");
    }
    assert_eq!(changes[3]["event"]["request_id"], "r-7");

    let page = world.show(&format!("{path}?limit=2")).await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = world.show(&format!("{path}?limit=3&cursor={cursor}")).await;
    let pages = [
        page["items"].as_array().unwrap().as_slice(),
        rest["items"].as_array().unwrap(),
    ];
    assert_eq!(&pages.concat(), changes);
    assert_eq!(rest["next_cursor"], Value::Null);

    let beyond = world.show(&format!("{path}?cursor=c1.{}", i64::MAX)).await;
    assert_eq!(beyond["items"], json!([]));
    let nowhere = format!("{path}?cursor=c1.{}", u64::MAX);
    assert_eq!(world.api.get(&nowhere).await.problem(), "400 invalid_query");

    let others = world.show(&format!("/orders/{other}/history")).await;
    assert_eq!(others["items"].as_array().unwrap().len(), 2);
    let unknown_path = format!("/orders/{}/history", OrderId::new());
    assert_eq!(
        world.api.get(&unknown_path).await.problem(),
        "404 order_not_found"
    );
}

#[tokio::test]
async fn changes_before_the_start_of_the_log_have_no_event() {
    let world = World::start(FakeUsers::Know).await;
    let order = world.order().await;
    world.cancel(&order).await;
    let write = world
        .db
        .write(|tx| tx.execute("delete from relay_outbox where seq = 1", []));
    let removed: Result<usize, relay::WriteError<rusqlite::Error>> = write.await;
    assert_eq!(removed.map_err(|error| error.to_string()), Ok(1));
    let history = world.show(&format!("/orders/{order}/history")).await;
    let first = json!({"version": 1, "position": "orders@1", "event": null});
    assert_eq!(history["items"][0], first);
    assert_eq!(history["items"][1]["event"]["type"], "orders.cancelled.v1");
}

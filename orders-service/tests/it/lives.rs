//! Orders through their lives: each step the office can take, and each it cannot.

use axum::body::Body;
use event_schema::{DriverId, OrderId};
use serde_json::{Value, json};
use service_kit::testing::{Answer, request};

use crate::world::{FakeUsers, World};

async fn world() -> World {
    World::start(FakeUsers::Know).await
}

/// The body of each change an operator can make.
fn changes(driver: &str) -> [(&'static str, Value); 3] {
    [
        ("assign", json!({"driver_id": driver})),
        ("unassign", json!({})),
        ("cancel", json!({"reason": "undeliverable"})),
    ]
}

#[tokio::test]
async fn an_order_is_assigned_taken_back_assigned_again_and_delivered() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (order, begin) = (world.order().await, world.head());
    let path = |what: &str| format!("/orders/{order}/{what}");

    let to_mia = json!({"driver_id": mia});
    let assigned = world.change(&path("assign"), "\"1\"", &to_mia).await;
    assert_eq!((assigned.status, assigned.header("etag")), (200, "\"2\""));
    assert_eq!(assigned.json()["driver_id"], *mia);
    assert_eq!(assigned.json()["status"], "assigned");
    let back = world.change(&path("unassign"), "\"2\"", &json!({})).await;
    assert_eq!((back.status, back.header("etag")), (200, "\"3\""));
    assert_eq!(back.json()["driver_id"], Value::Null);
    assert_eq!(back.json()["status"], "placed");
    world.change(&path("assign"), "*", &to_mia).await;
    let report = json!({"problem": "nobody_home", "note": "rang twice"});
    for (kind, arguments) in [
        ("pick_up", json!({})),
        ("report_problem", report),
        ("deliver", json!({"note": "left with neighbour"})),
    ] {
        let verdict = device.want(kind, &order, arguments).await;
        assert_eq!(verdict["verdict"], "applied", "{verdict}");
        assert_eq!(verdict["at"], world.head());
    }
    let shown = world.show(&format!("/orders/{order}")).await;
    assert_eq!(world.stands(&order).await, "delivered 7");
    assert_eq!(shown["note"], "left with neighbour");
    assert_eq!(
        (&shown["problems"], &shown["driver_id"]),
        (&json!(1), &json!(mia))
    );
    let told = [
        "orders.assigned.v1",
        "orders.released.v1",
        "orders.assigned.v1",
        "orders.picked_up.v1",
        "orders.problem_reported.v1",
        "orders.delivered.v1",
    ];
    assert_eq!(world.told_after(begin).await, told);
}

#[tokio::test]
async fn an_order_can_be_handed_on_even_when_it_is_on_its_way() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let noor = world.driver("Noor").await;
    let order = world.assigned(&mia).await;
    device.want("pick_up", &order, json!({})).await;
    world.assign(&order, &noor).await;
    assert_eq!(world.stands(&order).await, "assigned 4");
    let (_, told) = world.events().await.pop().unwrap();
    assert_eq!(told["previous_driver_id"], *mia);
    assert_eq!(told["driver_id"], *noor);
}

#[tokio::test]
async fn a_step_that_an_order_does_not_allow_says_why_and_changes_nothing() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let placed = world.order().await;
    let assigned = world.assigned(&mia).await;
    let delivered = world.assigned(&mia).await;
    for kind in ["pick_up", "deliver"] {
        device.want(kind, &delivered, json!({})).await;
    }
    let cancelled = world.assigned(&mia).await;
    world.cancel(&cancelled).await;
    let head = world.head();
    for (order, what, problem) in [
        (&placed, "unassign", "409 not_assigned"),
        (&assigned, "assign", "409 already_assigned"),
        (&delivered, "assign", "409 order_delivered"),
        (&delivered, "unassign", "409 order_delivered"),
        (&delivered, "cancel", "409 order_delivered"),
        (&cancelled, "assign", "409 order_cancelled"),
        (&cancelled, "unassign", "409 order_cancelled"),
        (&cancelled, "cancel", "409 order_cancelled"),
    ] {
        let before = world.stands(order).await;
        let mut bodies = changes(&mia).into_iter();
        let (_, body) = bodies.find(|(name, _)| *name == what).unwrap();
        let path = format!("/orders/{order}/{what}");
        let refused = world.change(&path, "*", &body).await;
        assert_eq!(refused.problem(), problem, "{before}: {what}");
        assert_eq!(world.stands(order).await, before);
    }
    assert_eq!(world.head(), head);
}

#[tokio::test]
async fn an_order_is_assigned_only_to_an_active_driver() {
    let world = world().await;
    let order = world.order().await;
    let assign = format!("/orders/{order}/assign");
    let stranger = json!({"driver_id": DriverId::new()});
    let refused = world.change(&assign, "*", &stranger).await;
    assert_eq!(refused.problem(), "422 unknown_driver");
    assert_eq!(refused.json()["errors"][0]["field"], "driver_id");
    let gone = world.driver("Gone").await;
    world
        .change(&format!("/drivers/{gone}/revoke"), "*", &json!({}))
        .await;
    let refused = world
        .change(&assign, "*", &json!({"driver_id": gone}))
        .await;
    assert_eq!(refused.problem(), "409 driver_revoked");
    assert_eq!(world.stands(&order).await, "placed 1");
}

#[tokio::test]
async fn a_change_names_the_version_it_is_based_on() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let order = world.order().await;
    for (what, body) in changes(&mia) {
        let path = format!("/orders/{order}/{what}");
        let without = world.api.post(&path, &body).await;
        assert_eq!(without.problem(), "428 precondition_required", "{what}");
        let stale = world.change(&path, "\"9\"", &body).await;
        assert_eq!(stale.problem(), "412 version_mismatch", "{what}");
        assert_eq!(stale.header("etag"), "\"1\"", "{what}");
        let nonsense = world.change(&path, "1", &body).await;
        assert_eq!(nonsense.problem(), "400 invalid_if_match", "{what}");
        let unknown_path = format!("/orders/{}/{what}", OrderId::new());
        let unknown = world.change(&unknown_path, "*", &body).await;
        assert_eq!(unknown.problem(), "404 order_not_found", "{what}");
    }
    assert_eq!(world.stands(&order).await, "placed 1");
}

#[tokio::test]
async fn a_change_that_is_sent_again_happens_once_and_gets_its_first_answer() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let order = world.order().await;
    for (version, (what, body)) in (1..).zip(changes(&mia)) {
        let tag = format!("\"{version}\"");
        let first = keyed(&world, &order, what, &tag, &body).await;
        assert_eq!(first.status, 200, "{first:?}");
        let head = world.head();
        let again = keyed(&world, &order, what, &tag, &body).await;
        assert_eq!((again.status, &again.text), (200, &first.text), "{what}");
        assert_eq!(again.header("idempotency-replayed"), "true", "{what}");
        assert_eq!(again.header("etag"), first.header("etag"));
        assert_eq!(world.head(), head, "{what}");
    }
    assert_eq!(world.stands(&order).await, "cancelled 4");
}

/// A change with a key of its own.
async fn keyed(world: &World, order: &str, what: &str, tag: &str, body: &Value) -> Answer {
    let change = request("POST", &format!("/orders/{order}/{what}"))
        .header("content-type", "application/json")
        .header("if-match", tag)
        .header("idempotency-key", what);
    world
        .api
        .send(change.body(Body::from(body.to_string())))
        .await
}

#[tokio::test]
async fn an_order_is_cancelled_for_a_known_reason_and_with_a_note_that_can_be_read() {
    let world = world().await;
    let order = world.order().await;
    let path = format!("/orders/{order}/cancel");
    let long = "x".repeat(501);
    for (body, problem) in [
        (json!({"reason": "user_deleted"}), "422 invalid_reason"),
        (json!({"reason": "bad_weather"}), "422 invalid_reason"),
        (json!({"reason": ""}), "422 invalid_reason"),
        (
            json!({"reason": "out_of_stock", "note": ""}),
            "422 invalid_note",
        ),
        (
            json!({"reason": "out_of_stock", "note": " \n"}),
            "422 invalid_note",
        ),
        (
            json!({"reason": "out_of_stock", "note": "a\u{0}b"}),
            "422 invalid_note",
        ),
        (
            json!({"reason": "out_of_stock", "note": long}),
            "422 invalid_note",
        ),
        (
            json!({"reason": "out_of_stock", "note": null}),
            "422 invalid_body",
        ),
        (json!({"reason": 7}), "422 invalid_body"),
        (json!({}), "422 invalid_body"),
        (
            json!({"reason": "out_of_stock", "why": "x"}),
            "422 invalid_body",
        ),
    ] {
        let refused = world.change(&path, "*", &body).await;
        assert_eq!(refused.problem(), problem, "{body}");
    }
    assert_eq!(world.stands(&order).await, "placed 1");
    let note = "ordered twice,\nby \u{1f6b4} mistake".to_owned() + &"ß".repeat(470);
    let body = json!({"reason": "customer_request", "note": note});
    let cancelled = world.change(&path, "\"1\"", &body).await.json();
    assert_eq!(
        (&cancelled["note"], &cancelled["cancel_reason"]),
        (&json!(note), &json!("customer_request"))
    );
    for reason in ["out_of_stock", "undeliverable"] {
        let order = world.order().await;
        let path = format!("/orders/{order}/cancel");
        let cancelled = world.change(&path, "*", &json!({"reason": reason})).await;
        assert_eq!(cancelled.json()["cancel_reason"], reason);
        assert_eq!(cancelled.json()["note"], Value::Null);
    }
}

#[tokio::test]
async fn orders_are_found_by_their_driver_and_their_status() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let noor = world.driver("Noor").await;
    let (one, two) = (world.assigned(&mia).await, world.assigned(&mia).await);
    let noors = world.assigned(&noor).await;
    let placed = world.order().await;
    device.want("pick_up", &two, json!({})).await;
    for (query, found) in [
        (format!("driver_id={mia}"), vec![&one, &two]),
        (format!("driver_id={mia}&status=assigned"), vec![&one]),
        (format!("driver_id={}", DriverId::new()), vec![]),
        ("status=assigned".to_owned(), vec![&one, &noors]),
        ("status=placed".to_owned(), vec![&placed]),
        ("status=delivered".to_owned(), vec![]),
    ] {
        let list = world.show(&format!("/orders?{query}")).await;
        let items = list["items"].as_array().unwrap().iter();
        let ids: Vec<_> = items.map(|order| order["id"].as_str().unwrap()).collect();
        assert_eq!(ids, found, "{query}");
    }
    let refused = world.api.get("/orders?status=lost").await;
    assert_eq!(refused.problem(), "400 invalid_query");
}

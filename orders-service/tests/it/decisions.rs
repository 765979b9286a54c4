//! Conflicts: what a driver did and the office undid, until a person decides.

use event_schema::IntentId;
use serde_json::{Value, json};
use service_kit::testing::Answer;

use crate::office::{Device, said};
use crate::world::{FakeUsers, World};

/// The driver has delivered what the office had cancelled meanwhile.
struct Scene {
    world: World,
    device: Device,
    order: String,
    /// The intent in conflict.
    intent: String,
}

impl Scene {
    async fn begin() -> Self {
        let world = World::start(FakeUsers::Know).await;
        let (mia, mut device) = world.mia().await;
        let order = world.assigned(&mia).await;
        device.want("pick_up", &order, json!({})).await;
        world.cancel(&order).await;
        let note = json!({"note": "handed over"});
        let conflict = device.want("deliver", &order, note).await;
        assert_eq!(said(&conflict), "conflict order_cancelled");
        assert_eq!(world.stands(&order).await, "cancelled 4");
        let intent = conflict["intent_id"].as_str().unwrap().to_owned();
        Self {
            world,
            device,
            order,
            intent,
        }
    }

    async fn decide(&self, decision: &str, version: &str) -> Answer {
        let path = format!("/intents/{}/decision", self.intent);
        let body = json!({"decision": decision});
        self.world.change(&path, version, &body).await
    }

    /// As an intent of the driver's.
    async fn drivers_word(&mut self, decision: &str) -> String {
        let word = json!({"intent_id": self.intent, "decision": decision});
        said(&self.device.want("decide_conflict", &self.order, word).await)
    }

    async fn shown(&self) -> Value {
        self.world.show(&format!("/intents/{}", self.intent)).await
    }

    async fn open(&self) -> usize {
        let open = self.world.show("/intents?open=true").await;
        open["items"].as_array().unwrap().len()
    }
}

#[tokio::test]
async fn a_conflict_shows_the_intent_and_the_current_order() {
    let scene = Scene::begin().await;
    let answer = scene
        .world
        .api
        .get(&format!("/intents/{}", scene.intent))
        .await;
    assert_eq!(answer.header("etag"), "\"4.0\"");
    let shown = answer.json();
    for (field, value) in [
        ("kind", json!("deliver")),
        ("arguments", json!({"note": "handed over"})),
        ("base_version", json!(2)),
        ("verdict", json!("conflict")),
        ("code", json!("order_cancelled")),
        ("status", json!("cancelled")),
        ("device_id", json!(scene.device.id)),
        ("device_time", json!("1970-01-01T00:00:00.007Z")),
        ("decision", Value::Null),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(shown["order"]["note"], "sold out");
    let unknown = scene
        .world
        .api
        .get(&format!("/intents/{}", IntentId::new()))
        .await;
    assert_eq!(unknown.problem(), "404 intent_not_found");
}

#[tokio::test]
async fn upheld_the_delivery_counts_after_all() {
    let scene = Scene::begin().await;
    let head = scene.world.head();
    let upheld = scene.decide("upheld", "\"4.0\"").await;
    assert_eq!((upheld.status, upheld.header("etag")), (200, "\"5.2\""));
    let told = ["orders.delivered.v1", "orders.conflict_decided.v2"];
    assert_eq!(scene.world.told_after(head).await, told);
    let order = &upheld.json()["order"];
    assert_eq!(
        (&order["status"], &order["note"]),
        (&json!("delivered"), &json!("handed over"))
    );
    assert_eq!(order["cancel_reason"], Value::Null);
    let shown = scene.shown().await;
    assert_eq!(
        (&shown["decision"], &shown["decided_by"]),
        (&json!("upheld"), &json!("operator"))
    );
    assert_eq!(shown["verdict"], "conflict", "what was judged stays so");
    assert_eq!(scene.open().await, 0);
}

#[tokio::test]
async fn an_upheld_delivery_brings_the_order_back_from_another_driver() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, mut device) = world.mia().await;
    let (noor, mut noors) = world.mia().await;
    let order = world.assigned(&mia).await;
    device.want("pick_up", &order, json!({})).await;
    world.assign(&order, &noor).await;
    let conflict = device.want("deliver", &order, json!({})).await;
    assert_eq!(said(&conflict), "conflict another_driver");
    let (at_mias, at_noors) = (
        device.read_on("", 50).await.next,
        noors.read_on("", 50).await.next,
    );
    let path = format!(
        "/intents/{}/decision",
        conflict["intent_id"].as_str().unwrap()
    );
    let upheld = world
        .change(&path, "*", &json!({"decision": "upheld"}))
        .await;
    assert_eq!(upheld.json()["order"]["driver_id"], *mia);
    assert_eq!(
        device.read_on(&at_mias, 50).await.told(),
        [format!("+{order}")]
    );
    assert_eq!(
        noors.read_on(&at_noors, 50).await.told(),
        [format!("-{order}")]
    );
    // The other driver, who has not heard of it yet, is in conflict with the office in turn.
    let late = crate::office::but(
        noors.intent("pick_up", &order, json!({})),
        "base_version",
        4,
    );
    assert_eq!(
        said(&noors.verdicts(&[late]).await[0]),
        "conflict order_delivered"
    );
}

#[tokio::test]
async fn dismissed_the_order_stays_as_it_is() {
    let mut scene = Scene::begin().await;
    let head = scene.world.head();
    let dismissed = scene.decide("dismissed", "\"4.0\"").await;
    assert_eq!(
        (dismissed.status, dismissed.header("etag")),
        (200, "\"4.2\"")
    );
    assert_eq!(
        scene.world.told_after(head).await,
        ["orders.conflict_decided.v2"]
    );
    assert_eq!(scene.world.stands(&scene.order).await, "cancelled 4");
    assert_eq!(scene.open().await, 0);
    for word in ["insisted", "accepted"] {
        assert_eq!(scene.drivers_word(word).await, "superseded already_decided");
    }
    for again in ["upheld", "dismissed"] {
        let refused = scene.decide(again, "*").await;
        assert_eq!(refused.problem(), "409 already_decided", "{again}");
    }
}

#[tokio::test]
async fn a_decision_names_the_order_as_it_was_read_and_is_made_once() {
    let scene = Scene::begin().await;
    let head = scene.world.head();
    let path = format!("/intents/{}/decision", scene.intent);
    let without = scene
        .world
        .api
        .post(&path, &json!({"decision": "upheld"}))
        .await;
    assert_eq!(without.problem(), "428 precondition_required");
    for stale in ["\"3.0\"", "\"4\"", "\"4.1\""] {
        let stale = scene.decide("upheld", stale).await;
        assert_eq!(
            (stale.problem(), stale.header("etag")),
            ("412 version_mismatch".to_owned(), "\"4.0\"")
        );
    }
    for other in ["accepted", "insisted", "", "maybe"] {
        assert_eq!(
            scene.decide(other, "*").await.problem(),
            "422 invalid_body",
            "{other}"
        );
    }
    let nobodys = format!("/intents/{}/decision", IntentId::new());
    let unknown = scene
        .world
        .change(&nobodys, "*", &json!({"decision": "upheld"}))
        .await;
    assert_eq!(unknown.problem(), "404 intent_not_found");
    assert_eq!(scene.world.head(), head);
    assert_eq!(scene.decide("upheld", "\"4.0\"").await.status, 200);
    let again = scene.decide("upheld", "\"5.2\"").await;
    assert_eq!(again.problem(), "409 already_decided");
    assert_eq!(scene.world.head(), head + 2);
}

/// Two words about the intent, and the order was at 3: no sum of these is a version of it.
#[tokio::test]
async fn the_tag_of_an_intent_changes_no_order() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, mut device) = world.mia().await;
    let (noor, _) = world.mia().await;
    let order = world.assigned(&mia).await;
    world.assign(&order, &noor).await;
    let conflict = device.want("pick_up", &order, json!({})).await;
    let path = format!("/intents/{}", conflict["intent_id"].as_str().unwrap());
    let decision = format!("{path}/decision");
    let dismissed = json!({"decision": "dismissed"});
    assert_eq!(world.change(&decision, "*", &dismissed).await.status, 200);
    let tag = world.api.get(&path).await.header("etag").to_owned();
    world.assign(&order, &mia).await;
    world.assign(&order, &noor).await;
    assert_eq!(world.stands(&order).await, "assigned 5");
    let cancel = json!({"reason": "out_of_stock"});
    let refused = world
        .change(&format!("/orders/{order}/cancel"), &tag, &cancel)
        .await;
    assert_eq!(refused.problem(), "412 version_mismatch", "{tag}");
}

#[tokio::test]
async fn only_a_delivery_that_is_in_conflict_can_be_upheld() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let applied = device
        .want("report_problem", &order, json!({"problem": "other"}))
        .await;
    let rejected = device.want("deliver", &order, json!({})).await;
    world.cancel(&order).await;
    let pick_up = device.want("pick_up", &order, json!({})).await;
    assert_eq!(said(&pick_up), "conflict order_cancelled");
    let nowhere = device.want("deliver", "nowhere", json!({})).await;
    let head = world.head();
    for (verdict, problem) in [
        (&applied, "409 no_conflict"),
        (&rejected, "409 no_conflict"),
        (&nowhere, "409 no_conflict"),
        (&pick_up, "409 cannot_uphold"),
    ] {
        let path = format!(
            "/intents/{}/decision",
            verdict["intent_id"].as_str().unwrap()
        );
        let refused = world
            .change(&path, "*", &json!({"decision": "upheld"}))
            .await;
        assert_eq!(refused.problem(), problem);
    }
    assert_eq!(world.head(), head);
    let path = format!(
        "/intents/{}/decision",
        pick_up["intent_id"].as_str().unwrap()
    );
    let dismissed = world
        .change(&path, "*", &json!({"decision": "dismissed"}))
        .await;
    assert_eq!(dismissed.status, 200);
}

#[tokio::test]
async fn a_delivery_is_not_upheld_twice() {
    let mut scene = Scene::begin().await;
    let second = scene
        .device
        .want("deliver", &scene.order, json!({"note": "twice"}))
        .await;
    assert_eq!(said(&second), "conflict order_cancelled");
    assert_eq!(scene.decide("upheld", "*").await.status, 200);
    let path = format!(
        "/intents/{}/decision",
        second["intent_id"].as_str().unwrap()
    );
    let refused = scene
        .world
        .change(&path, "*", &json!({"decision": "upheld"}))
        .await;
    assert_eq!(refused.problem(), "409 order_delivered");
    assert_eq!(scene.open().await, 1, "it can be dismissed");
}

#[tokio::test]
async fn a_driver_who_insists_keeps_it_open_and_one_who_accepts_closes_it() {
    let mut scene = Scene::begin().await;
    assert_eq!(scene.drivers_word("insisted").await, "applied");
    assert_eq!(scene.open().await, 1);
    let shown = scene.shown().await;
    assert_eq!(
        (&shown["decision"], &shown["decided_by"]),
        (&json!("insisted"), &json!("driver"))
    );
    assert_eq!(
        scene.drivers_word("insisted").await,
        "superseded already_decided"
    );
    assert_eq!(
        scene.drivers_word("upheld").await,
        "rejected invalid_arguments"
    );
    assert_eq!(scene.drivers_word("accepted").await, "applied");
    assert_eq!(scene.open().await, 0);
    assert_eq!(
        scene.decide("upheld", "*").await.problem(),
        "409 already_decided"
    );
    assert!(
        scene
            .world
            .stands(&scene.order)
            .await
            .starts_with("cancelled")
    );
}

#[tokio::test]
async fn an_operator_can_still_uphold_what_a_driver_insists_on() {
    let mut scene = Scene::begin().await;
    scene.drivers_word("insisted").await;
    assert_eq!(scene.decide("upheld", "\"4.1\"").await.status, 200);
    assert!(
        scene
            .world
            .stands(&scene.order)
            .await
            .starts_with("delivered")
    );
}

#[tokio::test]
async fn a_driver_cannot_decide_another_drivers_conflict() {
    let scene = Scene::begin().await;
    let (noor, mut noors) = scene.world.mia().await;
    let hers = scene.world.assigned(&noor).await;
    for order in [&hers, &scene.order] {
        let word = json!({"intent_id": scene.intent, "decision": "accepted"});
        let verdict = noors.want("decide_conflict", order, word).await;
        assert_eq!(verdict["verdict"], "rejected", "{verdict}");
    }
    assert_eq!(scene.open().await, 1);
}

#[tokio::test]
async fn not_even_the_driver_who_has_the_order_now_decides_about_the_one_who_had_it() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, mut device) = world.mia().await;
    let (noor, mut noors) = world.mia().await;
    let order = world.assigned(&mia).await;
    world.assign(&order, &noor).await;
    let conflict = device.want("pick_up", &order, json!({})).await;
    assert_eq!(said(&conflict), "conflict another_driver");
    let word = json!({"intent_id": conflict["intent_id"], "decision": "accepted"});
    let verdict = noors.want("decide_conflict", &order, word.clone()).await;
    assert_eq!(said(&verdict), "rejected conflict_not_found");
    let own = device.want("decide_conflict", &order, word).await;
    assert_eq!(said(&own), "applied");
}

#[tokio::test]
async fn intents_are_listed_by_verdict_and_driver_page_by_page() {
    let scene = Scene::begin().await;
    let (noor, mut noors) = scene.world.mia().await;
    for _ in 0..3 {
        noors.want("fly", "nowhere", json!({})).await;
    }
    for (query, count) in [
        ("limit=50".to_owned(), 5),
        ("verdict=rejected".to_owned(), 3),
        ("verdict=conflict".to_owned(), 1),
        ("verdict=applied".to_owned(), 1),
        (format!("driver_id={noor}"), 3),
        (format!("driver_id={noor}&open=true"), 0),
    ] {
        let list = scene.world.show(&format!("/intents?{query}")).await;
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{query}");
    }
    let page = scene.world.show("/intents?limit=4").await;
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = scene
        .world
        .show(&format!("/intents?limit=4&cursor={cursor}"))
        .await;
    assert_eq!(
        (
            rest["items"].as_array().unwrap().len(),
            &rest["next_cursor"]
        ),
        (1, &Value::Null)
    );
}

//! The local API: what it refuses, what is durable, and how the page receives news.

use std::sync::atomic::Ordering;

use event_schema::{IntentId, OrderId};
use serde_json::json;
use service_kit::testing::{Answer, assert_documented, request};

use crate::world::World;

#[tokio::test]
async fn bad_input_is_refused_before_anything_is_written() {
    let (world, [order]) = World::with_deliveries().await;
    let refused = [
        (
            "/api/deliveries/seven/pick_up".to_owned(),
            json!({}),
            "400 invalid_id",
        ),
        (
            format!("/api/deliveries/{}/pick_up", OrderId::new()),
            json!({}),
            "404 delivery_not_found",
        ),
        (
            format!("/api/deliveries/{order}/pick_up"),
            json!({"fast": true}),
            "422 invalid_body",
        ),
        (
            format!("/api/deliveries/{order}/pick_up"),
            json!([]),
            "422 invalid_body",
        ),
        (
            format!("/api/deliveries/{order}/deliver"),
            json!({}),
            "409 not_possible_now",
        ),
        (
            format!("/api/deliveries/{order}/deliver"),
            json!({"note": 7}),
            "422 invalid_body",
        ),
        (
            format!("/api/deliveries/{order}/deliver"),
            json!({"note": "a".repeat(501)}),
            "422 invalid_note",
        ),
        (
            format!("/api/deliveries/{order}/report_problem"),
            json!({"problem": "other", "note": "語".repeat(501)}),
            "422 invalid_note",
        ),
        (
            format!("/api/deliveries/{order}/report_problem"),
            json!({"problem": "rain"}),
            "422 invalid_problem",
        ),
        (
            format!("/api/deliveries/{order}/report_problem"),
            json!({}),
            "422 invalid_body",
        ),
        (
            format!("/api/conflicts/{}/decide", IntentId::new()),
            json!({"decision": "accepted"}),
            "404 conflict_not_found",
        ),
        (
            format!("/api/conflicts/{}/decide", IntentId::new()),
            json!({"decision": "upheld"}),
            "422 invalid_decision",
        ),
        (
            "/api/conflicts/x/decide".to_owned(),
            json!({"decision": "accepted"}),
            "400 invalid_id",
        ),
        (
            format!("/api/refused/{}/dismiss", IntentId::new()),
            json!({}),
            "404 refusal_not_found",
        ),
        (
            format!("/api/refused/{}/retry", IntentId::new()),
            json!({}),
            "404 refusal_not_found",
        ),
        (
            "/api/enrol".to_owned(),
            json!({"code": "x", "device_id": "y"}),
            "422 invalid_body",
        ),
        ("/api/nothing".to_owned(), json!({}), "404 unknown_route"),
    ];
    for (path, body, problem) in refused {
        let answer = world.api().post(&path, &body).await;
        assert_eq!(answer.problem(), problem, "{path} {body}");
    }
    let early = world.act(order, "deliver", json!({})).await.json();
    let detail = "a delivery that is assigned does not allow deliver";
    assert_eq!(early["detail"], detail);
    let wrong = world.api().get("/api/state?after=x").await;
    assert_eq!(wrong.problem(), "400 invalid_query");
    assert_eq!(world.state().await["sync"]["pending"], 0);
}

#[tokio::test]
async fn a_foreign_page_can_do_nothing() {
    let (world, [order]) = World::with_deliveries().await;
    for path in [
        "/api/sync".to_owned(),
        "/api/enrol".to_owned(),
        format!("/api/deliveries/{order}/pick_up"),
    ] {
        for label in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data",
        ] {
            let foreign = request("POST", &path)
                .header("content-type", label)
                .body("{}".into());
            assert_eq!(
                world.api().send(foreign).await.problem(),
                "415 unsupported_media_type",
                "{path}"
            );
        }
    }
    let rebound = axum::http::Request::get("/api/state")
        .header("host", "evil.example")
        .body("".into());
    assert_eq!(
        world.api().send(rebound).await.problem(),
        "403 foreign_host"
    );
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let foreign = request("GET", "/api/state").header(name, value);
        let answer = world.api().send(foreign.body("".into())).await;
        assert_eq!(answer.problem(), "403 foreign_origin", "{name}");
    }
}

#[tokio::test]
async fn the_documentation_is_complete_and_every_reply_is_for_this_browser_only() {
    let (world, []) = World::with_deliveries().await;
    assert_documented(world.api(), &[]).await;
}

#[tokio::test]
async fn notes_are_counted_in_characters_and_arrive_as_they_were_written() {
    let (mut world, [order]) = World::with_deliveries().await;
    let note = "語\"\\\n👋".repeat(100);
    world
        .does(
            order,
            "report_problem",
            json!({"problem": "damaged", "note": note}),
        )
        .await;
    world
        .does(
            order,
            "report_problem",
            json!({"problem": "damaged", "note": "  "}),
        )
        .await;
    world
        .does(
            order,
            "report_problem",
            json!({"problem": "damaged", "note": null}),
        )
        .await;
    world.send_all().await;
    let upload = world.owner.truth().uploads[0].clone();
    assert_eq!(
        upload.intents[0].arguments,
        json!({"problem": "damaged", "note": note})
    );
    assert_eq!(upload.intents[1].arguments, json!({"problem": "damaged"}));
    assert_eq!(upload.intents[2].arguments, json!({"problem": "damaged"}));
}

#[tokio::test]
async fn an_accepted_action_is_on_disk() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    world.kill().await;
    let delivery = world.delivery(order).await;
    assert_eq!(delivery["pending"][0]["intent_id"], json!(intent));
    assert_eq!(
        (&delivery["status"], &delivery["can"]),
        (&json!("picked_up"), &json!(["deliver", "report_problem"]))
    );
    assert_eq!(
        world.state().await["sync"]["oldest_unsent_ms"],
        delivery["pending"][0]["device_time_ms"]
    );
}

#[tokio::test]
async fn a_request_that_waits_returns_as_soon_as_there_is_news() {
    let (world, [order]) = World::with_deliveries().await;
    let revision = world.state().await["revision"].as_u64().unwrap();
    let path = format!("/api/state?after={revision}&wait_ms=8000");
    let (news, _) = tokio::join!(world.api().get(&path), world.picks_up(order));
    assert_ne!(news.json()["revision"], json!(revision));
    assert_eq!(news.json()["deliveries"][0]["status"], "picked_up");
    let at_once = world.api().get(&path).await;
    assert_eq!(at_once.status, 200);
    let nothing_new = at_once.json()["revision"].as_u64().unwrap();
    let patient = world
        .api()
        .get(&format!("/api/state?after={nothing_new}&wait_ms=1"))
        .await;
    assert_eq!(patient.json()["revision"], json!(nothing_new));
}

#[tokio::test]
async fn the_page_is_inside_the_program_and_loads_nothing_from_elsewhere() {
    let world = World::new().await;
    for (path, kind) in [
        ("/", "text/html"),
        ("/app.js", "text/javascript"),
        ("/app.css", "text/css"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let answer = world.api().get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").starts_with(kind), "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .contains("default-src 'self'")
        );
        let foreign = answer.text.replace("http://www.w3.org/", "");
        assert!(
            !foreign.contains("http://") && !foreign.contains("https://"),
            "{path}"
        );
    }
    assert_eq!(world.api().post("/api/sync", &json!({})).await.status, 202);
}

async fn keyed(world: &World, key: &str, path: &str, body: serde_json::Value) -> Answer {
    let request = request("POST", path)
        .header("content-type", "application/json")
        .header("idempotency-key", key);
    world
        .api()
        .send(request.body(body.to_string().into()))
        .await
}

#[tokio::test]
async fn a_request_with_a_key_is_done_once_under_that_id() {
    let (mut world, [order, other]) = World::with_deliveries().await;
    let path = |order, what| format!("/api/deliveries/{order}/{what}");
    let (report, key) = (
        json!({"problem": "other", "note": "dog"}),
        IntentId::new().to_string(),
    );
    let paths = [path(order, "report_problem"), path(other, "report_problem")];
    for _ in 0..3 {
        let answer = keyed(&world, &key, &paths[0], report.clone()).await;
        assert_eq!(
            (answer.status, answer.json()),
            (202, json!({"intent_id": key}))
        );
    }
    assert_eq!(world.state().await["sync"]["pending"], 1);
    world.sync().await;
    assert_eq!(
        keyed(&world, &key, &paths[0], report.clone()).await.status,
        202,
        "also once it is judged"
    );
    assert_eq!(
        (world.effects(&key), world.truly(order).as_str()),
        (1, "assigned")
    );
    for (path, body) in [
        (&paths[0], json!({"problem": "other", "note": "cat"})),
        (&paths[1], report.clone()),
        (&path(order, "pick_up"), json!({})),
    ] {
        let answer = keyed(&world, &key, path, body).await;
        assert_eq!(answer.problem(), "422 idempotency_key_reused", "{path}");
    }
    for bad in ["", "seven", "0191d1a0"] {
        let answer = keyed(&world, bad, &paths[0], report.clone()).await;
        assert_eq!(answer.problem(), "400 invalid_idempotency_key", "{bad:?}");
    }
    assert_eq!(world.state().await["sync"]["pending"], 0);
    // The repeated request succeeds, although the action is no longer possible.
    let pick_up = IntentId::new().to_string();
    for _ in 0..2 {
        let answer = keyed(&world, &pick_up, &path(order, "pick_up"), json!({})).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    // A decision has a key, too.
    world.owner.truth().cancel(order);
    world.sync().await;
    let key = IntentId::new().to_string();
    let decide = format!("/api/conflicts/{pick_up}/decide");
    for (decision, status) in [("accepted", 202), ("accepted", 202), ("insisted", 422)] {
        let answer = keyed(&world, &key, &decide, json!({"decision": decision})).await;
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // Another driver's key reveals nothing about its action.
    world.enrol_as(event_schema::DriverId::new(), "Noor").await;
    let answer = keyed(&world, &pick_up, &path(order, "pick_up"), json!({})).await;
    assert_eq!(answer.problem(), "422 idempotency_key_reused");
}

#[tokio::test]
async fn a_note_is_the_same_note_under_its_key_however_it_was_written() {
    let (mut world, [order]) = World::with_deliveries().await;
    let (path, key) = (
        format!("/api/deliveries/{order}/report_problem"),
        IntentId::new().to_string(),
    );
    for written in ["second\u{b}floor", " second\u{0}floor\n", "second floor"] {
        let report = json!({"problem": "other", "note": written});
        let answer = keyed(&world, &key, &path, report).await;
        assert_eq!(answer.status, 202, "{written:?}: {answer:?}");
    }
    world.sync().await;
    let sent = world.owner.truth().uploads[0].intents.clone();
    assert_eq!(
        (sent.len(), &sent[0].arguments["note"]),
        (1, &json!("second floor"))
    );
}

#[tokio::test]
async fn the_oldest_unsent_intent_has_the_earliest_time() {
    let (world, [order]) = World::with_deliveries().await;
    let report = json!({"problem": "other"});
    world.does(order, "report_problem", report.clone()).await;
    world.clock.off_by_ms.store(-3_600_000, Ordering::Relaxed);
    world.does(order, "report_problem", report).await;
    let pending = world.delivery(order).await["pending"].clone();
    let oldest = &pending[1]["device_time_ms"];
    assert!(oldest.as_i64() < pending[0]["device_time_ms"].as_i64());
    assert_eq!(world.state().await["sync"]["oldest_unsent_ms"], *oldest);
}

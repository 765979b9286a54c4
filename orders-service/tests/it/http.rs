//! The API: what it stores, what it emits, whom it asks, what it refuses.

use std::time::Duration;

use crate::world::{DEVICE_TOKEN, FakeUsers, PATIENT, World};
use axum::body::Body;
use event_schema::{Event, OrderEvent, OrderId, UserId};
use jiff::Timestamp;
use orders_service::user_api::Limits;
use serde_json::{Value, json};
use service_kit::testing::{OPERATOR, SERVICE, assert_documented, request};

#[tokio::test]
async fn an_order_of_a_cached_user_is_placed_and_read_without_asking_anybody() {
    let world = World::start(FakeUsers::Answer(500)).await;
    let user = world.cached_user("Ada").await;
    let placed = world.place(user, 1999, "EUR").await;
    assert_eq!((placed.status, placed.header("etag")), (201, "\"1\""));
    let order = placed.json();
    let expected = json!({
        "id": order["id"], "user_id": user, "amount_minor": 1999, "currency": "EUR", "status": "placed", "version": 1,
        "driver_id": null, "note": null, "cancel_reason": null, "problems": 0,
        "created_at": order["created_at"], "changed_at": order["created_at"],
    });
    assert_eq!(order, expected);
    assert!(order["created_at"].as_str().unwrap().ends_with('Z'));

    let read = world.api.get(placed.header("location")).await;
    assert_eq!(
        (read.status, read.header("etag"), read.json()),
        (200, "\"1\"", expected)
    );
    assert_eq!(world.asked(), 0);

    let (event_type, data) = world.events().await.remove(0);
    let event = OrderEvent::decode(&event_type, data.to_string().as_bytes())
        .unwrap()
        .unwrap();
    assert_eq!(event.aggregate(), order["id"]);
    assert_eq!(
        data,
        json!({"order_id": order["id"], "user_id": user, "amount_minor": 1999, "currency": "EUR", "version": 1, "created_at_ms": data["created_at_ms"]})
    );
    let told = Timestamp::from_millisecond(data["created_at_ms"].as_i64().unwrap());
    assert_eq!(told.unwrap().to_string(), order["created_at"]);
}

#[tokio::test]
async fn a_user_whom_only_the_owner_knows_can_order_at_once() {
    let owner = r#"{"items": [{"id": "ID", "name": "Ada K.", "email": "a@example.org", "version": 2}], "missing": []}"#;
    let world = World::start(FakeUsers::Show(owner)).await;
    let placed = world.place(UserId::new(), 5, "JPY").await;
    assert_eq!((placed.status, world.asked()), (201, 1));
    let sent = world.owner.asked().remove(0).authorization;
    assert_eq!(sent.as_deref(), Some("Bearer 0123456789abcdef"));
    let why = "the cache learns from events only";
    assert_eq!(world.cached_users().await, 0, "{why}");
}

#[tokio::test]
async fn an_unknown_user_cannot_order() {
    let world = World::start(FakeUsers::Know).await;
    let refused = world.place(UserId::new(), 1, "EUR").await;
    assert_eq!(refused.problem(), "422 unknown_user");
    assert_eq!((world.asked(), world.state().await), (1, (0, 0)));
}

#[tokio::test]
async fn when_the_owner_cannot_say_the_order_is_turned_away_for_now() {
    for trouble in [
        FakeUsers::Answer(200),
        FakeUsers::Show("{}"),
        FakeUsers::Show(r#"{"items": [], "missing": []}"#),
        FakeUsers::Show(r#"{"items": [{"id": "ID", "name": "Ada"}], "missing": []}"#),
        FakeUsers::Show(r#"{"items": [{"id": "ID", "name": "Ada", "version": 0}], "missing": []}"#),
        FakeUsers::Show(r#"{"items": [{"id": "ID", "name": null, "version": 1}], "missing": []}"#),
        FakeUsers::Answer(500),
        FakeUsers::Answer(503),
        FakeUsers::Answer(301),
        FakeUsers::Answer(401),
        FakeUsers::Answer(403),
        FakeUsers::Answer(404),
        FakeUsers::Refuse(404, r#"{"error": "not found"}"#),
        FakeUsers::Refuse(
            404,
            r#"{"status": 404, "code": "unknown_route", "detail": "no route matches"}"#,
        ),
        FakeUsers::Refuse(
            410,
            r#"{"status": 410, "code": "user_not_found", "detail": "of another API"}"#,
        ),
        FakeUsers::Gone,
    ] {
        let world = World::start(trouble).await;
        let refused = world.place(UserId::new(), 1, "EUR").await;
        assert_eq!(refused.problem(), "503 users_unavailable", "{trouble:?}");
        assert_eq!(refused.header("retry-after"), "1");
        assert_eq!(world.state().await, (0, 0));
    }
}

#[tokio::test]
async fn an_owner_that_hangs_is_not_waited_for_for_ever() {
    let short = Limits {
        call: Duration::from_millis(50),
        overall: Duration::from_millis(120),
        ..PATIENT
    };
    let world = World::with(FakeUsers::Hang, short).await;
    let refused = world.place(UserId::new(), 1, "EUR").await;
    assert_eq!(refused.problem(), "503 users_unavailable");
    assert_eq!(world.state().await, (0, 0));
}

#[tokio::test]
async fn an_owner_that_is_only_tired_is_asked_again() {
    let world = World::start(FakeUsers::Know).await;
    let ada = world.owner.knows("Ada");
    let tired = [429, 502, 504].map(|status| FakeUsers::NotNow(status, "0"));
    world.owner.first(tired);
    assert_eq!(world.place(ada, 1, "EUR").await.status, 201);
    assert_eq!(world.asked(), 4);

    world.owner.first([FakeUsers::NotNow(503, "3600")]);
    let refused = world.place(UserId::new(), 1, "EUR").await;
    assert_eq!(refused.problem(), "503 users_unavailable");
    assert_eq!(
        world.asked(),
        5,
        "it asked for an hour, which is not waited for"
    );

    world.owner.first([FakeUsers::Answer(403)]);
    let refused = world.place(UserId::new(), 1, "EUR").await;
    assert_eq!(refused.problem(), "503 users_unavailable");
    assert_eq!(world.asked(), 6, "a no stays a no");
}

#[tokio::test]
async fn an_owner_that_fails_again_and_again_is_left_alone_until_it_is_well() {
    let strict = Limits {
        failures: 3,
        ..PATIENT
    };
    let world = World::with(FakeUsers::NotNow(503, "0"), strict).await;
    let ada = world.owner.knows("Ada");
    for _ in 0..3 {
        let refused = world.place(ada, 1, "EUR").await;
        assert_eq!(refused.problem(), "503 users_unavailable");
        assert_eq!(refused.header("retry-after"), "1");
        assert_eq!(world.asked(), 3, "the third failure in a row was the last");
    }
    world.clock.tick(5);
    let tried = world.place(ada, 1, "EUR").await;
    assert_eq!(tried.problem(), "503 users_unavailable");
    assert_eq!(world.asked(), 4, "one call went out to try");
    world.owner.usually(FakeUsers::Know);
    assert_eq!(world.place(ada, 1, "EUR").await.status, 503);
    assert_eq!(world.asked(), 4);
    world.clock.tick(5);
    assert_eq!(world.place(ada, 1, "EUR").await.status, 201);
    assert_eq!(world.place(ada, 1, "EUR").await.status, 201);
    assert_eq!(world.asked(), 6);
}

#[tokio::test]
async fn an_answer_of_something_else_at_the_address_does_not_make_the_owner_well() {
    let strict = Limits {
        failures: 1,
        ..PATIENT
    };
    let world = World::with(FakeUsers::NotNow(503, "0"), strict).await;
    let ada = world.owner.knows("Ada");
    assert_eq!(world.place(ada, 1, "EUR").await.status, 503);
    for foreign in [401, 403, 404] {
        world.clock.tick(5);
        world.owner.usually(FakeUsers::Answer(foreign));
        let asked = world.asked();
        assert_eq!(world.place(ada, 1, "EUR").await.status, 503);
        assert_eq!(world.place(ada, 1, "EUR").await.status, 503);
        let why = "one call went out to try, and was answered by something else";
        assert_eq!(world.asked(), asked + 1, "{why}: {foreign}");
    }
    world.clock.tick(5);
    world.owner.usually(FakeUsers::Know);
    assert_eq!(world.place(ada, 1, "EUR").await.status, 201);
}

#[tokio::test]
async fn a_client_that_goes_away_amid_the_try_does_not_shut_out_the_next() {
    let strict = Limits {
        failures: 1,
        ..PATIENT
    };
    let world = World::with(FakeUsers::NotNow(503, "0"), strict).await;
    let ada = world.owner.knows("Ada");
    assert_eq!(world.place(ada, 1, "EUR").await.status, 503);
    world.clock.tick(5);
    world.owner.usually(FakeUsers::Hang);
    tokio::select! {
        _ = world.place(ada, 1, "EUR") => panic!("user-service does not answer"),
        () = world.owner.until_asked(2) => {}
    }
    world.owner.usually(FakeUsers::Know);
    assert_eq!(world.place(ada, 1, "EUR").await.status, 201);
}

#[tokio::test]
async fn a_deleted_user_stays_deleted() {
    let world = World::start(FakeUsers::Know).await;
    let user = world.cached_user("Ada").await;
    let placed = world.place(user, 1, "EUR").await;
    world.delete(user, 2).await;
    assert_eq!(
        world.place(user, 1, "EUR").await.problem(),
        "422 unknown_user"
    );
    let order = format!("{}?include=user", placed.header("location"));
    assert_eq!(
        world.api.get(&order).await.json()["user"]["missing"],
        "deleted_or_never_known"
    );
}

#[tokio::test]
async fn the_list_shows_every_order_once_and_a_users_own_when_asked() {
    let world = World::start(FakeUsers::Answer(500)).await;
    let (ada, eve) = (
        world.cached_user("Ada").await,
        world.cached_user("Eve").await,
    );
    for n in 1..=7 {
        world
            .place(if n % 2 == 0 { eve } else { ada }, n, "EUR")
            .await;
    }
    assert_eq!(
        world.amounts("/orders?limit=3").await,
        [1, 2, 3, 4, 5, 6, 7]
    );
    assert_eq!(
        world
            .amounts(&format!("/orders?limit=1&user_id={eve}"))
            .await,
        [2, 4, 6]
    );
    assert_eq!(
        world
            .amounts(&format!("/orders?limit=200&user_id={}", UserId::new()))
            .await,
        [0; 0]
    );
    let first = world.api.get("/orders?limit=1").await.json();
    assert_eq!(first["items"][0]["user_id"], json!(ada));
    assert_eq!(first["items"][0].get("user"), None);
    assert_eq!(first.get("freshness"), None);
}

#[tokio::test]
async fn invalid_input_is_refused_clearly_and_leaves_no_row_and_no_event() {
    let world = World::start(FakeUsers::Know).await;
    let user = world.cached_user("Ada").await;
    let order = |amount: Value, currency: Value| json!({"user_id": user, "amount_minor": amount, "currency": currency});

    for body in ["", "{", "nope", "{\"user_id\": "] {
        assert_eq!(
            world.api.json("POST", "/orders", body).await.problem(),
            "400 malformed_json",
            "{body}"
        );
    }
    for body in [
        json!([user, 1, "EUR"]),
        json!({}),
        json!({"user_id": user, "amount_minor": 1}),
        json!({"user_id": "seven", "amount_minor": 1, "currency": "EUR"}),
        json!({"user_id": user, "amount_minor": 1, "currency": "EUR", "discount": 1}),
        order(json!("1"), json!("EUR")),
        order(json!(1.5), json!("EUR")),
        order(json!(null), json!("EUR")),
        order(json!(u64::MAX), json!("EUR")),
        order(json!(1), json!(["EUR"])),
    ] {
        assert_eq!(
            world.api.post("/orders", &body).await.problem(),
            "422 invalid_body",
            "{body}"
        );
    }
    for amount in [0, -1, i64::MIN, 1_000_000_000_001] {
        assert_eq!(
            world.place(user, amount, "EUR").await.problem(),
            "422 invalid_amount",
            "{amount}"
        );
    }
    for currency in ["", "eur", "EURO", "E\0R", "€", &"E".repeat(10_240)] {
        assert_eq!(
            world.place(user, 1, currency).await.problem(),
            "422 invalid_currency",
            "{currency:?}"
        );
    }
    assert_eq!(
        world.place(UserId::new(), 1, "EUR").await.problem(),
        "422 unknown_user"
    );
    let nobodys = format!("/orders/{}", OrderId::new());
    for (method, path, problem) in [
        ("GET", nobodys.as_str(), "404 order_not_found"),
        ("GET", "/orders/7", "400 invalid_id"),
        ("GET", "/orders?user_id=7", "400 invalid_query"),
        ("GET", "/orders?limit=0", "400 invalid_query"),
        ("GET", "/orders?cursor=7", "400 invalid_query"),
        ("GET", "/orders?include=driver", "400 invalid_query"),
        ("GET", "/orders?include=", "400 invalid_query"),
        ("GET", "/orders?includes=user", "400 invalid_query"),
        ("GET", "/users/7/orders", "400 invalid_id"),
        ("GET", "/orders/", "404 unknown_route"),
        ("DELETE", &nobodys, "405 method_not_allowed"),
        ("PUT", "/orders", "405 method_not_allowed"),
    ] {
        let answer = world.api.json(method, path, "").await;
        assert_eq!(answer.problem(), problem, "{method} {path}");
    }
    let text = request("POST", "/orders")
        .header("content-type", "text/plain")
        .body(Body::from("{}"));
    assert_eq!(
        world.api.send(text).await.problem(),
        "415 unsupported_media_type"
    );
    let huge = order(json!(1), json!("E".repeat(70_000)));
    assert_eq!(
        world.api.post("/orders", &huge).await.problem(),
        "413 body_too_large"
    );

    assert_eq!(world.state().await, (0, 0));
    assert_eq!(world.place(user, 1, "EUR").await.status, 201);
}

#[tokio::test]
async fn a_refusal_names_the_field_and_says_what_is_expected() {
    let world = World::start(FakeUsers::Gone).await;
    let id = "an id is a UUID, such as 0191d1a0-0000-7000-8000-000000000000";
    for (path, field) in [("/orders?user_id=7", "user_id"), ("/orders/7", "id")] {
        let refused = world.api.get(path).await.json();
        assert_eq!(refused["detail"], id, "{path}");
        assert_eq!(refused["errors"], json!([{"field": field, "detail": id}]));
    }
    let body = json!({"user_id": "seven", "amount_minor": 1, "currency": "EUR"});
    let refused = world.api.post("/orders", &body).await.json();
    let errors = json!([{"field": "user_id", "detail": refused["detail"]}]);
    assert_eq!(refused["errors"], errors);
    let detail = refused["detail"].as_str().unwrap();
    assert!(detail.starts_with(&format!("{id} at line 1")), "{detail}");
}

#[tokio::test]
async fn its_documentation_is_complete_and_names_the_callers() {
    let world = World::start(FakeUsers::Answer(404)).await;
    world.testers_device().await;
    assert_documented(&world.api, &[("device", DEVICE_TOKEN)]).await;
    let document = world.api.get("/openapi.json").await.json();
    let paths = document["paths"].as_object().unwrap();
    let own: Vec<_> = paths
        .keys()
        .filter(|path| path.starts_with("/orders"))
        .collect();
    let of_one = ["", "/assign", "/cancel", "/history", "/unassign"];
    let of_one = of_one.map(|what| format!("/orders/{{id}}{what}"));
    assert_eq!(own[0], "/orders");
    assert_eq!(own[1..], of_one.iter().collect::<Vec<_>>());
    for name in [
        "Order", "NewOrder", "Driver", "Intent", "Upload", "FeedPage", "Problem",
    ] {
        let schema = &document["components"]["schemas"][name];
        assert!(schema["description"].is_string(), "{name}: {schema}");
    }
    let problems = world.api.get("/problems").await.text;
    assert!(problems.contains("\"unknown_user\""), "{problems}");
}

#[tokio::test]
async fn operators_may_do_everything_services_may_read_and_devices_nothing() {
    let world = World::start(FakeUsers::Answer(404)).await;
    for (token, reads, writes) in [
        (Some(OPERATOR), 200, 400),
        (Some(SERVICE), 200, 403),
        (Some(DEVICE_TOKEN), 403, 403),
        (None, 401, 401),
    ] {
        let api = world.api.sending(token);
        assert_eq!(api.get("/orders").await.status, reads, "{token:?}");
        let write = api.json("POST", "/orders", "{").await;
        assert_eq!(write.status, writes, "{token:?}");
    }
}

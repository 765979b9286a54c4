//! What every service promises around its routes, where it takes both services: an order that is sent twice while
//! user-service is asked, a request's name on its way there, and a read that waits for what user-service has told.

use std::pin::pin;

use axum::body::Body;
use event_schema::UserId;
use futures::poll;
use serde_json::json;
use service_kit::testing::{Answer, request};

use crate::users::Users;
use crate::world::{FakeUsers, World};

const ADA: &str = r#"{"items": [{"id": "ID", "name": "Ada", "version": 2}], "missing": []}"#;

async fn place(world: &World, user: UserId, amount_minor: i64) -> Answer {
    let body = json!({"user_id": user, "amount_minor": amount_minor, "currency": "EUR"});
    let request = request("POST", "/orders")
        .header("content-type", "application/json")
        .header("idempotency-key", "a");
    world.api.send(request.body(body.to_string().into())).await
}

#[tokio::test]
async fn an_order_that_is_sent_again_is_placed_once_without_another_call() {
    let world = World::start(FakeUsers::Wait(ADA)).await;
    let user = UserId::new();
    let meanwhile = async {
        world.owner.until_asked(1).await;
        let refused = place(&world, user, 1).await;
        world.owner.answer_now();
        refused
    };
    let (first, refused) = tokio::join!(place(&world, user, 1), meanwhile);
    assert_eq!(refused.problem(), "409 idempotency_in_flight");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(
        (first.status, first.header("freehold-position")),
        (201, "orders@1")
    );

    // It hangs from now on, and is not missed.
    let again = place(&world, user, 1).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotency-replayed"), "true");
    let other = place(&world, user, 2).await;
    assert_eq!(other.problem(), "422 idempotency_key_reused");
    assert_eq!((world.asked(), world.state().await), (1, (1, 1)));
}

#[tokio::test]
async fn calls_to_user_service_carry_the_request_id() {
    let world = World::start(FakeUsers::Show(ADA)).await;
    let body = json!({"user_id": UserId::new(), "amount_minor": 1, "currency": "EUR"});
    let order = request("POST", "/orders")
        .header("content-type", "application/json")
        .header("x-request-id", "r-1");
    let placed = world.api.send(order.body(body.to_string().into())).await;
    assert_eq!(placed.status, 201);
    let [asked] = &world.owner.asked()[..] else {
        panic!("asked once");
    };
    assert_eq!(asked.request_id.as_deref(), Some("r-1"));
    let traceparent = placed.header("traceparent");
    assert_eq!(asked.traceparent.as_deref(), Some(traceparent));
}

#[tokio::test]
async fn a_request_waits_until_the_event_it_wants_to_see_is_applied() {
    let world = World::start(FakeUsers::Answer(500)).await;
    let users = Users::start().await;
    users.register("Ada").await;
    users.register("Eve").await;
    let read = |ms: &'static str| {
        let read = request("GET", "/orders").header("freehold-wait-for", "users@2");
        let read = read.header("freehold-max-wait-ms", ms);
        world.api.send(read.body(Body::empty()))
    };
    let late = read("0").await;
    assert_eq!(late.problem(), "504 not_caught_up");
    let detail = "this service has applied users@0 of 2: 2 behind";
    assert_eq!(late.json()["detail"], detail);

    let mut waits = pin!(read("8000"));
    assert!(poll!(&mut waits).is_pending());
    let mut follower = world.consumer.follow(&world.db, users.stream.reader());
    while world.consumer.status().borrow().offset < 2 {
        follower.step().await.unwrap();
    }
    assert_eq!(waits.await.status, 200);
    assert_eq!(world.cached_users().await, 2);
}

//! Conflicts are rows with both sides; deciding one is an intent.

use serde_json::{Value, json};

use crate::owner::Fault;
use crate::world::World;

/// A delivery that the driver has finished and the office has cancelled.
async fn conflict() -> (World, String) {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.sync().await;
    let intent = world.delivers(order).await;
    world.owner.truth().cancel(order);
    world.sync().await;
    (world, intent)
}

async fn decide(world: &World, intent: &str, decision: &str) -> service_kit::testing::Answer {
    let body = json!({"decision": decision});
    world
        .api()
        .post(&format!("/api/conflicts/{intent}/decide"), &body)
        .await
}

#[tokio::test]
async fn a_conflict_keeps_the_drivers_intent_and_the_owners_order() {
    let (mut world, intent) = conflict().await;
    world.kill().await;
    let state = world.state().await;
    let row = &state["conflicts"][0];
    assert_eq!(row["intent_id"], json!(intent));
    assert_eq!(
        (&row["kind"], &row["note"], &row["code"]),
        (
            &json!("deliver"),
            &json!("at the door"),
            &json!("order_cancelled")
        )
    );
    assert_eq!(row["current"]["status"], "cancelled");
    assert_eq!(
        (&row["decision"], &row["deciding"]),
        (&Value::Null, &json!(false))
    );
    assert_eq!(
        state["deliveries"][0]["status"], "cancelled",
        "it left the overlay"
    );
    assert_eq!(state["sync"]["conflicts"], 1);
    assert_eq!(world.effects(&intent), 0);
}

#[tokio::test]
async fn a_conflict_that_the_driver_accepts_is_over() {
    let (mut world, intent) = conflict().await;
    assert_eq!(decide(&world, &intent, "accepted").await.status, 202);
    assert_eq!(world.state().await["conflicts"][0]["deciding"], true);
    assert_eq!(
        decide(&world, &intent, "insisted").await.problem(),
        "409 not_possible_now"
    );
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    world.kill().await;
    world.send_all().await;
    assert_eq!(world.state().await["conflicts"], json!([]));
    let decided = world.owner.truth().conflicts[&intent.parse().unwrap()].clone();
    assert_eq!(decided.as_deref(), Some("accepted"));
    world.sync().await;
    assert_eq!(
        decide(&world, &intent, "accepted").await.problem(),
        "409 not_possible_now"
    );
}

#[tokio::test]
async fn a_driver_who_insisted_may_accept_but_not_insist_twice() {
    let (mut world, intent) = conflict().await;
    assert_eq!(decide(&world, &intent, "insisted").await.status, 202);
    world.sync().await;
    let again = decide(&world, &intent, "insisted").await;
    assert_eq!(again.problem(), "409 not_possible_now");
    assert_eq!(decide(&world, &intent, "accepted").await.status, 202);
    world.sync().await;
    assert_eq!(world.state().await["conflicts"], json!([]));
}

#[tokio::test]
async fn a_conflict_that_the_driver_insists_on_waits_for_the_office() {
    for last_word in ["upheld", "dismissed"] {
        let (mut world, intent) = conflict().await;
        assert_eq!(decide(&world, &intent, "insisted").await.status, 202);
        world.sync().await;
        let row = world.state().await["conflicts"][0].clone();
        assert_eq!(
            (&row["decision"], &row["deciding"]),
            (&json!("insisted"), &json!(false))
        );
        let driver = world.driver;
        world
            .owner
            .truth()
            .overrule(driver, intent.parse().unwrap(), "postponed");
        world.sync().await;
        assert_eq!(
            world.state().await["sync"]["conflicts"],
            1,
            "a decision this version cannot read does not end it"
        );
        world
            .owner
            .truth()
            .overrule(driver, intent.parse().unwrap(), last_word);
        world.sync().await;
        assert_eq!(world.state().await["conflicts"], json!([]));
    }
}

#[tokio::test]
async fn a_decision_that_arrives_before_the_verdict_counts() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    world.owner.truth().cancel(order);
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    let driver = world.driver;
    world
        .owner
        .truth()
        .overrule(driver, intent.parse().unwrap(), "dismissed");
    world.follow_all().await;
    world.send_all().await;
    let state = world.state().await;
    assert_eq!(
        (&state["conflicts"], &state["sync"]["pending"]),
        (&json!([]), &json!(0))
    );
}

#[tokio::test]
async fn a_decision_that_comes_too_late_is_refused_and_the_conflict_is_over() {
    let (mut world, intent) = conflict().await;
    let driver = world.driver;
    world
        .owner
        .truth()
        .overrule(driver, intent.parse().unwrap(), "dismissed");
    assert_eq!(decide(&world, &intent, "insisted").await.status, 202);
    world.sync().await;
    let state = world.state().await;
    assert_eq!(state["conflicts"], json!([]));
    assert_eq!(state["refused"][0]["kind"], "decide_conflict");
    assert_eq!(state["refused"][0]["code"], "decided_already");
}

#[tokio::test]
async fn a_driver_who_insisted_may_accept_until_the_office_has_decided() {
    let (mut world, intent) = conflict().await;
    assert_eq!(decide(&world, &intent, "insisted").await.status, 202);
    assert_eq!(
        decide(&world, &intent, "accepted").await.problem(),
        "409 not_possible_now",
        "one is on its way"
    );
    world.sync().await;
    assert_eq!(
        decide(&world, &intent, "insisted").await.problem(),
        "409 not_possible_now"
    );
    assert_eq!(decide(&world, &intent, "accepted").await.status, 202);
    world.sync().await;
    let state = world.state().await;
    assert_eq!(
        (&state["conflicts"], &state["refused"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(
        decide(&world, &intent, "insisted").await.problem(),
        "409 not_possible_now"
    );
}

#[tokio::test]
async fn a_decision_that_the_office_lost_is_sent_again_if_the_office_has_the_conflict() {
    for knows in [true, false] {
        let (mut world, [order]) = World::with_deliveries().await;
        let before = world.owner.truth().back_up();
        world.owner.truth().cancel(order);
        let intent = world.picks_up(order).await;
        world.send_all().await;
        let after = world.owner.truth().back_up();
        assert_eq!(decide(&world, &intent, "accepted").await.status, 202);
        world.sync().await;
        let backup = if knows { after } else { before };
        world.owner.truth().restore(backup);
        let uploads = world.owner.truth().uploads.len();
        world.follow_all().await;
        world.sync().await;
        let state = world.state().await;
        assert_eq!(
            (&state["conflicts"], &state["refused"]),
            (&json!([]), &json!([])),
            "over here, whatever the office knows"
        );
        let truth = world.owner.truth();
        let decided = truth.conflicts.get(&intent.parse().unwrap());
        let accepted = decided.is_some_and(|decision| decision.as_deref() == Some("accepted"));
        assert_eq!((accepted, truth.uploads.len() > uploads), (knows, knows));
    }
}

//! Uploads: lanes, lost replies, verdicts of every kind.

use driver_app::sync::Step;
use driver_app::sync::upload::{MAX_TRIES, MAX_UPLOAD_BYTES};
use event_schema::OrderId;
use relay::rusqlite::Connection;
use serde_json::{Value, json};

use crate::owner::Fault;
use crate::world::World;

#[tokio::test]
async fn an_intent_whose_reply_was_lost_is_sent_again_and_has_one_effect() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    world.owner.fail(Fault::LoseAnswer);
    assert!(matches!(world.up().await, Step::Wait(_)));
    assert_eq!(world.truly(order), "picked_up");
    assert_eq!(
        world.delivery(order).await["pending"][0]["state"],
        "in_flight"
    );
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
    assert_eq!(world.delivery(order).await["pending"], json!([]));
    let uploads = world.owner.truth().uploads.clone();
    assert_eq!(uploads.len(), 2);
    assert_eq!(uploads[0], uploads[1], "the same id, at the same place");
}

/// A finished delivery whose first intent failed.
async fn given_up() -> (World, [String; 2], OrderId) {
    let (mut world, [slow, other]) = World::with_deliveries().await;
    world.owner.truth().busy.insert(slow.to_string());
    let stuck = world.picks_up(slow).await;
    let behind = world.delivers(slow).await;
    let free = world.picks_up(other).await;
    assert_eq!(world.up().await, Step::Progress);
    assert_eq!(world.effects(&free), 1);
    assert!(
        matches!(world.up().await, Step::Wait(_)),
        "its lane is held"
    );
    let state = world.state().await;
    assert_eq!(
        state["sync"]["waiting_because"],
        "orders-service asks to wait: busy."
    );
    let pending = world.delivery(slow).await["pending"].clone();
    assert_eq!(
        (&pending[0]["state"], &pending[1]["state"]),
        (&json!("waiting"), &json!("waiting"))
    );
    let next = world.delivers(other).await;
    assert_eq!(world.up().await, Step::Progress);
    assert_eq!(world.effects(&next), 1, "another lane goes on");

    world.owner.truth().busy.clear();
    world.owner.truth().chokes_on = Some(slow.to_string());
    for _ in 0..MAX_TRIES {
        world.kill().await; // a restart ends the wait
        world.send_all().await;
    }
    let state = world.state().await;
    assert_eq!(state["refused"].as_array().unwrap().len(), 1, "{state:#}");
    let refused = &state["refused"][0];
    assert_eq!(
        (&refused["intent_id"], &refused["gave_up"], &refused["code"]),
        (&json!(stuck), &json!(true), &json!("upload_refused"))
    );
    (world, [stuck, behind], slow)
}

#[tokio::test]
async fn an_intent_that_fails_blocks_its_lane_and_no_other_until_the_driver_retries_it() {
    let (mut world, [stuck, behind], slow) = given_up().await;
    world.owner.truth().chokes_on = None;
    world.sync().await;
    let state = world.state().await;
    assert_eq!(state["sync"]["pending"], 1, "the one behind it waits");
    assert_eq!(
        state["sync"]["waiting_because"],
        "1 action is blocked by one that failed. Retry it or discard it."
    );
    let delivery = world.delivery(slow).await;
    assert_eq!(delivery["status"], "delivered", "what the driver did stays");
    assert_eq!(
        (
            &delivery["pending"][0]["state"],
            &delivery["pending"][1]["state"]
        ),
        (&json!("stopped"), &json!("stopped"))
    );
    assert_eq!(
        (world.effects(&behind), world.truly(slow).as_str()),
        (0, "assigned")
    );

    world.owner.fail(Fault::Refuse(409, "incarnation_forked")); // it keeps its order through a new incarnation
    let retried = world
        .api()
        .post(&format!("/api/refused/{stuck}/retry"), &json!({}))
        .await;
    assert_eq!(retried.status, 202);
    world.sync().await;
    world.sync().await;
    assert_eq!((world.effects(&stuck), world.effects(&behind)), (1, 1));
    assert_eq!(world.truly(slow), "delivered");
    let state = world.state().await;
    assert_eq!(
        (&state["refused"], &state["sync"]["waiting_because"]),
        (&json!([]), &Value::Null)
    );
}

#[tokio::test]
async fn a_lane_goes_on_without_an_intent_that_the_driver_discards() {
    let (mut world, [stuck, behind], slow) = given_up().await;
    world.owner.truth().chokes_on = None;
    let dismissed = world
        .api()
        .post(&format!("/api/refused/{stuck}/dismiss"), &json!({}))
        .await;
    assert_eq!(dismissed.status, 204);
    assert_eq!(world.status(slow).await, "assigned");
    world.sync().await;
    let state = world.state().await;
    assert_eq!(state["sync"]["pending"], 0);
    assert_eq!(
        state["refused"][0]["intent_id"],
        json!(behind),
        "delivered what was never picked up"
    );
    assert_eq!(
        (
            state["refused"].as_array().unwrap().len(),
            world.effects(&stuck)
        ),
        (1, 0)
    );
}

#[tokio::test]
async fn syncing_now_makes_no_intent_fail() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.owner.truth().busy.insert(order.to_string());
    let intent = world.picks_up(order).await;
    assert_eq!(world.up().await, Step::Progress);
    for _ in 0..MAX_TRIES * 2 {
        assert_eq!(world.api().post("/api/sync", &json!({})).await.status, 202);
        assert_eq!(world.up().await, Step::Progress, "it is tried at once");
    }
    assert_eq!(tries(&world, &intent).await, 1);
    let Step::Wait(wait) = world.up().await else {
        panic!("its lane is held")
    };
    tokio::time::sleep(wait).await;
    assert_eq!(world.up().await, Step::Progress);
    assert_eq!(tries(&world, &intent).await, 2, "the wait was kept");
    assert_eq!(world.state().await["refused"], json!([]));
}

async fn tries(world: &World, intent: &str) -> u32 {
    let id = intent.parse().unwrap();
    let read = move |rows: &Connection| driver_app::store::intents::find(rows, id);
    world
        .device()
        .database()
        .read(read)
        .await
        .unwrap()
        .unwrap()
        .tries
}

#[tokio::test]
async fn a_held_lane_is_tried_again_after_a_restart_and_its_tries_still_count() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.owner.truth().chokes_on = Some(order.to_string());
    world.picks_up(order).await;
    for _ in 0..MAX_TRIES {
        assert_eq!(world.up().await, Step::Progress);
        world.kill().await;
    }
    assert_eq!(world.state().await["refused"][0]["gave_up"], true);
}

#[tokio::test]
async fn no_temporary_reason_makes_an_intent_fail_however_often_it_repeats() {
    let mut said: Vec<Value> = [
        "budget_spent",
        "not_caught_up",
        "out_of_order",
        "failed",
        "newer_kind",
    ]
    .map(|code| json!({"verdict": "retry_later", "code": code, "detail": code, "after_ms": 1}))
    .into();
    said.extend([json!({"verdict": "pondered"}), Value::Null]);
    for said in said {
        let (mut world, [order]) = World::with_deliveries().await;
        let intent = world.picks_up(order).await;
        world
            .owner
            .truth()
            .says
            .insert(order.to_string(), said.clone());
        for _ in 0..=MAX_TRIES {
            assert_eq!(world.up().await, Step::Progress);
            world.kill().await;
        }
        assert_eq!(world.state().await["refused"], json!([]), "{said}");
        world.owner.truth().says.clear();
        world.sync().await;
        assert_eq!(world.effects(&intent), 1, "{said}");
    }
}

#[tokio::test]
async fn a_lane_waits_as_long_as_the_owner_asks() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    for (after_ms, least, most) in [(900_000, 890, 900), (u64::MAX, 3000, 3600)] {
        let said = json!({"verdict": "retry_later", "code": "budget_spent", "detail": "no", "after_ms": after_ms});
        world.owner.truth().says.insert(order.to_string(), said);
        world.device().status().sync_now();
        assert_eq!(world.up().await, Step::Progress);
        let Step::Wait(wait) = world.up().await else {
            panic!("its lane is held")
        };
        assert!((least..=most).contains(&wait.as_secs()), "{wait:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_uses_the_owners_codes_makes_no_intent_fail() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    for fault in [
        Fault::Foreign(413, "body_too_large"),
        Fault::Foreign(422, "invalid_body"),
        Fault::Foreign(400, "bad_request"),
        Fault::Refuse(400, "bad_request"),
        Fault::Refuse(422, "not_today"),
        Fault::Refuse(413, "not_today"),
    ] {
        world.owner.fail(fault.clone());
        assert!(matches!(world.up().await, Step::Wait(_)), "{fault:?}");
    }
    assert_eq!(tries(&world, &intent).await, 0);
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
}

#[tokio::test]
async fn a_network_that_is_down_makes_no_intent_fail() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    for _ in 0..MAX_TRIES * 2 {
        world.owner.fail(Fault::Refuse(503, "busy"));
        assert!(matches!(world.up().await, Step::Wait(_)));
    }
    assert_eq!(world.state().await["refused"], json!([]));
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
}

#[tokio::test]
async fn one_upload_holds_many_intents_in_order_within_its_limits() {
    let (mut world, [order, other]) = World::with_deliveries().await;
    let long = json!({"problem": "other", "note": "語".repeat(500)});
    for _ in 0..60 {
        world.does(order, "report_problem", long.clone()).await;
    }
    for _ in 0..120 {
        world
            .does(other, "report_problem", json!({"problem": "damaged"}))
            .await;
    }
    world.sync().await;
    let uploads = world.owner.truth().uploads.clone();
    let sizes: Vec<_> = uploads
        .iter()
        .map(|upload| serde_json::to_vec(upload).unwrap().len())
        .collect();
    assert!(
        sizes.iter().all(|bytes| *bytes <= MAX_UPLOAD_BYTES + 200),
        "{sizes:?}"
    );
    assert!(uploads.iter().all(|upload| upload.intents.len() <= 100));
    assert!(uploads.iter().any(|upload| upload.intents.len() > 20));
    let seqs: Vec<_> = uploads
        .iter()
        .flat_map(|upload| upload.intents.iter().map(|intent| intent.seq))
        .collect();
    assert!(seqs.iter().copied().eq(1..=180), "{seqs:?}");
    assert_eq!(world.delivery(order).await["problems"], 60);
    assert_eq!(world.delivery(other).await["problems"], 120);
}

#[tokio::test]
async fn an_upload_that_is_too_large_is_halved() {
    let (mut world, [order]) = World::with_deliveries().await;
    for _ in 0..20 {
        world
            .does(order, "report_problem", json!({"problem": "damaged"}))
            .await;
    }
    world.owner.truth().takes = Some(3);
    world.sync().await;
    assert_eq!(world.delivery(order).await["problems"], 20);
    assert_eq!(world.state().await["sync"]["pending"], 0);
}

#[tokio::test]
async fn one_bad_intent_blocks_no_other_delivery_even_if_the_owner_cannot_read_it() {
    let (mut world, [bad, good, fine]) = World::with_deliveries().await;
    world.owner.truth().chokes_on = Some(bad.to_string());
    world.picks_up(good).await;
    let stuck = world.picks_up(bad).await;
    world.picks_up(fine).await;
    world.device().status().sync_now();
    let mut step = Step::Progress;
    for _ in 0..12 {
        if step != Step::Progress {
            break;
        }
        step = world.up().await;
    }
    assert!(matches!(step, Step::Wait(_)));
    assert_eq!(
        (world.truly(good), world.truly(fine)),
        ("picked_up".to_owned(), "picked_up".to_owned())
    );
    for _ in 0..MAX_TRIES {
        world.kill().await;
        world.send_all().await;
    }
    let refused = world.state().await["refused"][0].clone();
    assert_eq!(
        (&refused["intent_id"], &refused["gave_up"]),
        (&json!(stuck), &json!(true))
    );
    assert_eq!(refused["code"], "upload_refused");
}

#[tokio::test]
async fn an_unknown_or_missing_verdict_decides_nothing_yet() {
    let (mut world, [order, other]) = World::with_deliveries().await;
    for said in [
        json!({"verdict": "pondered", "until": "tuesday"}),
        Value::Null,
        json!({"verdict": "duplicate", "first": {"verdict": "mused"}}),
    ] {
        let intent = world
            .does(order, "report_problem", json!({"problem": "other"}))
            .await;
        let free = world
            .does(other, "report_problem", json!({"problem": "other"}))
            .await;
        world
            .owner
            .truth()
            .says
            .insert(order.to_string(), said.clone());
        world.device().status().sync_now();
        assert_eq!(world.up().await, Step::Progress);
        assert_eq!(
            world.delivery(order).await["pending"][0]["state"],
            "waiting",
            "{said}"
        );
        assert_eq!(world.effects(&free), 1, "{said}");
        world.owner.truth().says.clear();
        world.sync().await;
        assert_eq!(world.effects(&intent), 1, "{said}");
        assert_eq!(world.delivery(order).await["pending"], json!([]));
    }
}

#[tokio::test]
async fn a_superseded_intent_leaves_quietly_and_a_rejected_one_is_shown() {
    let (mut world, [same, never]) = World::with_deliveries().await;
    world.picks_up(same).await;
    world.picks_up(never).await;
    world.delivers(never).await;
    world.owner.truth().set_status(same, "picked_up");
    world.owner.truth().set_status(never, "delivered");
    world.owner.truth().says.insert(
        never.to_string(),
        json!({"verdict": "rejected", "at": 1, "code": "no", "detail": "never"}),
    );
    world.sync().await;
    let state = world.state().await;
    assert_eq!(world.status(same).await, "picked_up");
    assert_eq!(state["refused"].as_array().unwrap().len(), 2);
    assert_eq!(state["refused"][0]["kind"], "pick_up");
    assert_eq!(state["refused"][1]["note"], "at the door");
    assert_eq!(
        (
            &state["refused"][1]["detail"],
            &state["refused"][1]["gave_up"]
        ),
        (&json!("never"), &json!(false))
    );
    let id = state["refused"][0]["intent_id"].as_str().unwrap();
    let retried = world
        .api()
        .post(&format!("/api/refused/{id}/retry"), &json!({}))
        .await;
    assert_eq!(
        retried.problem(),
        "409 not_possible_now",
        "a refusal is for good"
    );
    world.kill().await;
    assert_eq!(
        world.state().await["sync"]["refused"],
        2,
        "rows are durable"
    );
}

/// The owner may have it under the number of an earlier incarnation, and would wait for this number for ever.
#[tokio::test]
async fn an_intent_does_not_wait_for_one_that_has_its_verdict() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.send_all().await;
    world.delivers(order).await;
    world.send_all().await;
    let upload = world.owner.truth().uploads.last().unwrap().clone();
    let [delivery] = &upload.intents[..] else {
        panic!("{upload:?}")
    };
    assert_eq!((delivery.seq, delivery.after_seq), (2, None));
}

#[tokio::test]
async fn an_intent_states_what_the_driver_had_seen() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.delivers(order).await;
    let version = world.delivery(order).await["version"].as_u64().unwrap();
    world.send_all().await;
    let upload = world.owner.truth().uploads[0].clone();
    let [first, second] = &upload.intents[..] else {
        panic!("{upload:?}")
    };
    assert_eq!(
        (first.base_version.get(), second.base_version.get()),
        (version, version)
    );
    assert_eq!((first.seq, first.after_seq), (1, None));
    assert_eq!((second.seq, second.after_seq), (2, Some(1)));
    assert_eq!(
        (second.kind.as_str(), second.schema_version),
        ("deliver", 2)
    );
    assert_eq!(second.arguments, json!({"note": "at the door"}));
    assert!(first.seen.is_some());
}

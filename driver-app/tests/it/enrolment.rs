//! Enrolment: codes, tokens that end, another driver, and clocks.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use driver_app::sync::Step;
use driver_app::sync::feed::Follower;
use event_schema::DriverId;
use relay::Stop;
use relay::rusqlite::types::Value as Cell;
use serde_json::{Value, json};
use service_kit::testing::rows;

use crate::owner::Fault;
use crate::world::World;

#[tokio::test]
async fn a_code_enrols_once_and_another_is_refused() {
    let mut world = World::new().await;
    let refused = world
        .api()
        .post("/api/enrol", &json!({"code": "WRONG"}))
        .await;
    assert_eq!(refused.problem(), "422 invalid_code");
    assert_eq!(
        world
            .api()
            .post("/api/enrol", &json!({"code": " "}))
            .await
            .problem(),
        "422 invalid_code"
    );
    let welcome = world.enrol().await.json();
    assert_eq!(
        welcome,
        json!({"driver_id": world.driver, "driver_name": "Mia"})
    );
    world.kill().await;
    let state = world.state().await;
    assert_eq!(
        state["driver"],
        json!({"driver_id": world.driver, "name": "Mia"})
    );
    assert_eq!(state["sync"]["enrolment"], "valid");
    assert!(
        !state.to_string().contains("token-"),
        "the token stays inside"
    );
}

#[tokio::test]
async fn a_refused_token_is_tried_again_and_costs_nothing() {
    for code in ["unauthorized", "expired"] {
        let (mut world, [order]) = World::with_deliveries().await;
        let first = world.picks_up(order).await;
        world.owner.truth().shut_out = Some(code);
        assert!(matches!(world.up().await, Step::Wait(_)));
        let second = world.delivers(order).await;
        assert!(matches!(world.down().await, Step::Wait(_)));
        world.kill().await; // a restart asks again, too
        assert!(matches!(world.down().await, Step::Wait(_)));
        let state = world.state().await;
        let sync = &state["sync"];
        assert_eq!(
            (&sync["enrolment"], &sync["revoked"], &sync["pending"]),
            (&json!("expired_or_revoked"), &json!(false), &json!(2))
        );
        let words = sync["waiting_because"].as_str().unwrap();
        assert!(
            words.contains("asking by itself") && words.contains("new code"),
            "{words}"
        );
        assert_eq!(state["deliveries"][0]["status"], "delivered");
        world.owner.truth().shut_out = None;
        world.sync().await;
        assert_eq!((world.effects(&first), world.effects(&second)), (1, 1));
        let sync = &world.state().await["sync"];
        assert_eq!(
            (&sync["enrolment"], &sync["waiting_because"]),
            (&json!("valid"), &Value::Null)
        );
    }
}

#[tokio::test]
async fn a_device_that_enrols_again_proves_itself_with_its_old_token_and_keeps_its_id() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    let id = id_of(&world).await;
    world.owner.truth().shut_out = Some("revoked");
    assert_eq!(world.down().await, Step::Idle);
    world.enrol().await;
    world.enrol_as(DriverId::new(), "Noor").await;
    world.enrol_as(world.driver, "Noor").await;
    assert_eq!(id_of(&world).await, id);
    assert_eq!(world.effects(&intent), 0, "it is Mia's");
}

/// The first reply was lost, the code has expired, and the driver has another one.
#[tokio::test]
async fn a_device_that_cannot_prove_its_id_draws_another_one() {
    let mut world = World::new().await;
    let id = id_of(&world).await;
    let lost = format!("token-that-got-lost-{id}");
    world.owner.truth().tokens.insert(lost, world.driver);
    world.enrol().await;
    assert_ne!(id_of(&world).await, id);
    let order = world.owner.truth().place(world.driver);
    world.sync().await;
    let intent = world.picks_up(order).await;
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
}

async fn id_of(world: &World) -> String {
    let found = rows(world.device().database(), "select device_id from device").await;
    let Cell::Text(id) = &found[0][0] else {
        panic!("{found:?}");
    };
    id.clone()
}

#[tokio::test]
async fn a_new_code_replaces_a_token_that_is_not_accepted() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    world.owner.truth().tokens.clear(); // for good
    assert!(matches!(world.up().await, Step::Wait(_)));
    world.enrol().await;
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
    assert_eq!(world.state().await["sync"]["enrolment"], "valid");
}

/// Runs the loops, without a tap.
#[tokio::test]
async fn a_device_recovers_by_itself_after_its_owner_refused_it_for_a_while() {
    let (world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    world.owner.truth().shut_out = Some("unauthorized");
    let stop = Stop::new();
    let (device, way) = (world.device().clone(), world.way());
    let loops = tokio::spawn(driver_app::sync::run(device, way, stop.clone()));
    until(&world, |sync| sync["enrolment"] == "expired_or_revoked").await;
    world.owner.truth().shut_out = None;
    until(&world, |sync| {
        sync["enrolment"] == "valid" && sync["pending"] == 0
    })
    .await;
    assert_eq!(world.effects(&intent), 1);
    stop.cancel();
    loops.await.unwrap().unwrap();
}

async fn until(world: &World, so: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so(&world.state().await["sync"]) {
        assert!(Instant::now() < deadline, "{}", world.state().await["sync"]);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The previous version stopped for good and stored no more than that.
#[tokio::test]
async fn a_device_that_had_stopped_asking_asks_again_after_the_update() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    let write = world
        .device()
        .database()
        .write(|tx| tx.execute("update device set enrolment = 'expired_or_revoked'", []));
    let gave_up: Result<usize, relay::WriteError<relay::rusqlite::Error>> = write.await;
    assert_eq!(gave_up.map_err(|error| error.to_string()), Ok(1));
    world.kill().await;
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
    assert_eq!(world.state().await["sync"]["enrolment"], "valid");
}

#[tokio::test]
async fn a_revoked_driver_keeps_no_deliveries_and_their_intents_wait() {
    let (mut world, [order, conflicted]) = World::with_deliveries().await;
    world.picks_up(conflicted).await;
    world.owner.truth().cancel(conflicted);
    world.sync().await;
    let intent = world.picks_up(order).await;
    world.owner.truth().shut_out = Some("revoked");
    assert_eq!(world.down().await, Step::Idle);
    world.owner.truth().shut_out = None;
    world.device().status().sync_now();
    assert_eq!(
        (world.up().await, world.down().await),
        (Step::Idle, Step::Idle),
        "it does not ask any more"
    );
    let state = world.state().await;
    assert_eq!(
        (&state["deliveries"], &state["sync"]["pending"]),
        (&json!([]), &json!(1))
    );
    assert_eq!(state["sync"]["revoked"], true);
    assert_eq!(state["conflicts"][0]["current"]["customer"], Value::Null);
    assert_eq!(
        world.act(order, "pick_up", json!({})).await.problem(),
        "404 delivery_not_found"
    );
    world.kill().await;
    world.enrol().await;
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
    assert_eq!(world.status(order).await, "picked_up");
}

#[tokio::test]
async fn another_driver_sees_nothing_of_the_one_before_whose_intents_wait() {
    let (mut world, [order, other]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.owner.truth().page = 1;
    world.owner.truth().cancel(other);
    assert_eq!(world.down().await, Step::Progress); // half a checkpoint waits
    world.enrol_as(DriverId::new(), "Noor").await;
    let state = world.state().await;
    assert_eq!(
        (&state["deliveries"], &state["driver"]["name"]),
        (&json!([]), &json!("Noor"))
    );
    let sync = &state["sync"];
    assert_eq!(
        (&sync["pending"], &sync["others_unsent"]),
        (&json!(0), &json!(1))
    );
    let theirs = world.owner.truth().place(world.driver);
    world.sync().await;
    let state = world.state().await;
    assert_eq!(state["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(world.status(theirs).await, "assigned");
    assert!(
        world.owner.truth().uploads.is_empty(),
        "another driver's intent is not hers"
    );
    assert_eq!(state["sync"]["oldest_unsent_ms"], Value::Null);
    assert_eq!(
        state["sync"]["waiting_because"],
        "1 action of another driver waits on this device until they enrol here again."
    );
}

#[tokio::test]
async fn a_drivers_intents_are_sent_as_theirs_when_they_enrol_again() {
    let (mut world, [order, conflicted, refused]) = World::with_deliveries().await;
    let mia = world.driver;
    world.picks_up(conflicted).await;
    world.picks_up(refused).await;
    world.owner.truth().cancel(conflicted);
    world.owner.truth().says.insert(
        refused.to_string(),
        json!({"verdict": "rejected", "at": 1, "code": "no", "detail": "never"}),
    );
    world.sync().await;
    let hers = world.picks_up(order).await;
    world.delivers(order).await;
    world.enrol_as(DriverId::new(), "Noor").await;
    let (noor, mias) = (world.driver, world.owner.truth().uploads.len());
    world.owner.truth().reassign(order, noor);
    world.sync().await;
    let state = world.state().await;
    assert_eq!(
        (&state["conflicts"], &state["refused"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(state["sync"]["others_unsent"], 2);
    assert_eq!(
        world.status(order).await,
        "assigned",
        "nothing of hers lies on top"
    );
    for (what, row) in [
        ("conflicts", "decide"),
        ("refused", "dismiss"),
        ("refused", "retry"),
    ] {
        let path = format!("/api/{what}/{hers}/{row}");
        let body = if row == "decide" {
            json!({"decision": "accepted"})
        } else {
            json!({})
        };
        assert_eq!(world.api().post(&path, &body).await.status, 404, "{path}");
    }
    world.owner.fail(Fault::Refuse(409, "incarnation_forked"));
    let his = world.picks_up(order).await;
    world.sync().await; // the fork gives both drivers' intents new numbers
    world.send_all().await;
    assert_eq!(world.effects(&his), 1);
    {
        let truth = world.owner.truth();
        let sent: Vec<_> = truth.uploads[mias..]
            .iter()
            .flat_map(|upload| &upload.intents)
            .collect();
        assert!(
            sent.iter()
                .all(|intent| intent.intent_id.to_string() == his)
        );
        assert!(
            sent.iter().all(|intent| intent.after_seq.is_none()),
            "hers are not before his"
        );
    }
    world.enrol_as(mia, "Mia").await;
    let state = world.state().await;
    assert_eq!(
        (&state["sync"]["pending"], &state["sync"]["others_unsent"]),
        (&json!(2), &json!(0))
    );
    assert_eq!(state["conflicts"].as_array().unwrap().len(), 1);
    assert_eq!(state["refused"].as_array().unwrap().len(), 1);
    world.sync().await;
    assert_eq!(world.effects(&hers), 0);
    let state = world.state().await;
    assert_eq!(state["sync"]["pending"], 0);
    let last = world.owner.truth().uploads.last().unwrap().clone();
    assert_eq!(
        last.intents[0].intent_id.to_string(),
        hers,
        "under its old id, as hers"
    );
    assert_eq!(state["refused"][1]["code"], "order_not_found");
}

#[tokio::test]
async fn a_feed_page_for_the_driver_before_never_reaches_the_next_one() {
    let (mut world, [_order]) = World::with_deliveries().await;
    world.owner.truth().begin_snapshot = true;
    world.owner.fail(Fault::Late);
    let mut follower = Follower::new(world.device(), world.way(), Duration::ZERO);
    let meanwhile = async {
        world.owner.hangs.notified().await;
        world.enrol_as(DriverId::new(), "Noor").await;
        world.owner.go.notify_one();
    };
    let (step, ()) = tokio::join!(follower.step(), meanwhile);
    assert_eq!(step, Step::Progress);
    assert_eq!(world.state().await["deliveries"], json!([]));
    assert_eq!(world.state().await["sync"]["as_of"], Value::Null);
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_a_year_changes_only_the_times_that_are_shown() {
    const YEAR_MS: i64 = 365 * 86_400_000;
    for off_by in [-YEAR_MS, YEAR_MS] {
        let mut world = World::new().await;
        world.clock.off_by_ms.store(off_by, Ordering::Relaxed);
        world.enrol().await;
        let order = world.owner.truth().place(world.driver);
        world.sync().await;
        let intent = world.picks_up(order).await;
        world.clock.off_by_ms.store(-off_by, Ordering::Relaxed); // and back in time, or far ahead
        world.delivers(order).await;
        world.kill().await;
        world.sync().await;
        assert_eq!(
            (world.truly(order).as_str(), world.effects(&intent)),
            ("delivered", 1)
        );
        let said = world.state().await["sync"]["clock_off_by_ms"]
            .as_i64()
            .unwrap();
        assert!((said + off_by).abs() < 60_000, "{said}");
        let upload = world.owner.truth().uploads[0].clone();
        let ahead = upload.intents[1].device_time_ms - upload.intents[0].device_time_ms;
        assert!((ahead + 2 * off_by).abs() < 60_000, "said as it was");
    }
}

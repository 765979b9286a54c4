//! Who the device speaks for: codes, tokens that end, another driver, and clocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use driver_app::owner_api::{FeedRequest, Owner, Reply, Replying};
use driver_app::sync::Step;
use driver_app::sync::feed::Follower;
use event_schema::DriverId;
use event_schema::sync::{Enrolled, Enrolment, FeedItem, FeedPage, Upload, Verdict};
use relay::Stop;
use relay::rusqlite::types::Value as Cell;
use serde_json::{Value, json};
use service_kit::testing::rows;
use tokio::sync::Notify;

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
async fn a_token_that_is_not_accepted_is_shown_again_and_costs_nothing() {
    for code in ["unauthorized", "expired"] {
        let (mut world, [order]) = World::with_deliveries().await;
        let first = world.picks_up(order).await;
        world.owner.truth().shut_out = Some(code);
        assert!(matches!(world.up().await, Step::Wait(_)));
        let second = world.delivers(order).await;
        assert!(matches!(world.down().await, Step::Wait(_)));
        world.kill().await; // a restart asks again as well
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
async fn a_device_that_enrols_again_shows_the_token_it_had_and_stays_the_same_device() {
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

/// Its first answer was lost, the code has expired, and the office has read out another one.
#[tokio::test]
async fn a_device_that_cannot_prove_to_be_the_one_that_is_known_is_another_one() {
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
    world.owner.truth().tokens.clear(); // and never will be again
    assert!(matches!(world.up().await, Step::Wait(_)));
    world.enrol().await;
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
    assert_eq!(world.state().await["sync"]["enrolment"], "valid");
}

/// The loops themselves, without a tap.
#[tokio::test]
async fn a_device_goes_on_by_itself_after_its_owner_did_not_know_it_for_a_while() {
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

/// The version before gave up for good and wrote no more than that.
#[tokio::test]
async fn a_device_that_had_given_up_asks_again_after_the_update() {
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
async fn who_is_revoked_keeps_no_deliveries_and_what_they_did_waits() {
    let (mut world, [order, conflicted]) = World::with_deliveries().await;
    world.picks_up(conflicted).await;
    world.owner.truth().cancel(conflicted);
    world.sync().await;
    let intent = world.picks_up(order).await;
    world.owner.truth().shut_out = Some("revoked");
    assert_eq!(world.down().await, Step::Idle);
    world.owner.truth().shut_out = None;
    world.device().sync_now();
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
async fn another_driver_finds_nothing_of_the_one_before_whose_deeds_wait_for_them() {
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
        "nobody else's deed is hers"
    );
    assert_eq!(state["sync"]["oldest_unsent_ms"], Value::Null);
    assert_eq!(
        state["sync"]["waiting_because"],
        "1 action of another driver waits on this device until they enrol here again."
    );
}

#[tokio::test]
async fn what_a_driver_did_is_judged_as_theirs_when_they_come_back() {
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
    world.sync().await; // the fork gives everybody's new numbers
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

/// An owner whose answer is on its way for as long as the test says.
struct Slow {
    asked: Notify,
    go: Notify,
    page: FeedPage,
}

impl Owner for Slow {
    fn enrol<'a>(&'a self, _: Option<&'a str>, _: &'a Enrolment) -> Replying<'a, Enrolled> {
        unreachable!("the device enrols at the real one")
    }

    fn upload<'a>(&'a self, _: &'a str, _: &'a Upload) -> Replying<'a, Vec<Verdict>> {
        unreachable!("nothing is sent")
    }

    fn feed<'a>(&'a self, _: &'a str, _: &'a FeedRequest) -> Replying<'a, FeedPage> {
        Box::pin(async {
            self.asked.notify_one();
            self.go.notified().await;
            Ok(Reply {
                value: self.page.clone(),
                date_ms: None,
            })
        })
    }
}

#[tokio::test]
async fn a_page_for_the_driver_before_never_reaches_the_next_one() {
    let (mut world, [_order]) = World::with_deliveries().await;
    let page = world.owner.truth().of(world.driver).into_iter();
    let slow = Arc::new(Slow {
        asked: Notify::new(),
        go: Notify::new(),
        page: FeedPage {
            snapshot: true,
            items: page.map(|delivery| FeedItem::Put { delivery }).collect(),
            next: "1".to_owned(),
            at: 1,
            complete: true,
            judged: Vec::new(),
        },
    });
    let mut follower = Follower::new(world.device(), slow.clone(), Duration::ZERO);
    let meanwhile = async {
        slow.asked.notified().await;
        world.enrol_as(DriverId::new(), "Noor").await;
        slow.go.notify_one();
    };
    let (step, ()) = tokio::join!(follower.step(), meanwhile);
    assert_eq!(step, Step::Progress);
    assert_eq!(world.state().await["deliveries"], json!([]));
    assert_eq!(world.state().await["sync"]["as_of"], Value::Null);
}

#[tokio::test]
async fn a_clock_that_is_wrong_by_a_year_changes_nothing_but_what_is_said_about_it() {
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

//! With no network at all, before the first contact ever, and after a kill in any state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driver_app::owner_api::{FeedRequest, Owner, OwnerApi, OwnerError, Replying};
use driver_app::sync::{self, LONG_POLL, Step};
use event_schema::sync::{Enrolled, Enrolment, FeedPage, Upload, Verdict};
use relay::Stop;
use serde_json::{Value, json};

use crate::owner::{FakeOwner, Fault};
use crate::world::World;

/// Nobody, who counts how often somebody knocked.
#[derive(Default)]
struct Nobody(AtomicUsize);

impl Nobody {
    fn silent<T>(&self) -> Result<T, OwnerError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(OwnerError::NoReply("no network".to_owned()))
    }
}

impl Owner for Nobody {
    fn enrol<'a>(&'a self, _: Option<&'a str>, _: &'a Enrolment) -> Replying<'a, Enrolled> {
        Box::pin(async { self.silent() })
    }

    fn upload<'a>(&'a self, _: &'a str, _: &'a Upload) -> Replying<'a, Vec<Verdict>> {
        Box::pin(async { self.silent() })
    }

    fn feed<'a>(&'a self, _: &'a str, _: &'a FeedRequest) -> Replying<'a, FeedPage> {
        Box::pin(async { self.silent() })
    }
}

#[tokio::test]
async fn before_the_first_contact_ever_everything_answers_and_nobody_is_asked() {
    let nobody = Arc::new(Nobody::default());
    let mut world = World::beside(FakeOwner::default(), nobody.clone()).await;
    let state = world.state().await;
    assert_eq!(state["driver"], Value::Null);
    assert_eq!(state["sync"]["enrolment"], "none");
    assert_eq!(state["sync"]["online"], false);
    assert!(
        state["sync"]["waiting_because"]
            .as_str()
            .unwrap()
            .contains("Ask the office")
    );
    assert_eq!(state["deliveries"], json!([]));
    assert_eq!(
        (world.up().await, world.down().await),
        (Step::Idle, Step::Idle)
    );
    assert_eq!(
        nobody.0.load(Ordering::Relaxed),
        0,
        "without a token there is nothing to ask"
    );
    let refused = world
        .api()
        .post("/api/enrol", &json!({"code": "ABCD"}))
        .await;
    assert_eq!(refused.problem(), "503 unreachable");
    world.kill().await;
    assert_eq!(world.state().await["sync"]["enrolment"], "none");
}

#[tokio::test]
async fn a_whole_delivery_is_done_without_a_network_and_arrives_later_in_order() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.owner.fail(Fault::Drop);
    let first = world.picks_up(order).await;
    assert!(matches!(world.up().await, Step::Wait(_)));
    let state = world.state().await;
    assert_eq!(state["sync"]["online"], false);
    assert!(
        state["sync"]["waiting_because"]
            .as_str()
            .unwrap()
            .contains("does not answer")
    );
    let second = world.delivers(order).await;
    world.kill().await;
    let delivery = world.delivery(order).await;
    assert_eq!(
        (&delivery["status"], &delivery["note"]),
        (&json!("delivered"), &json!("at the door"))
    );
    assert_eq!(delivery["can"], json!([]));
    assert_eq!(delivery["pending"].as_array().unwrap().len(), 2);
    world.sync().await;
    assert_eq!(world.truly(order), "delivered");
    assert_eq!((world.effects(&first), world.effects(&second)), (1, 1));
    let state = world.state().await;
    assert_eq!(state["deliveries"][0]["pending"], json!([]));
    assert_eq!(
        (&state["sync"]["pending"], &state["sync"]["online"]),
        (&json!(0), &json!(true))
    );
    assert_eq!(state["sync"]["waiting_because"], Value::Null);
}

#[tokio::test]
async fn a_kill_in_any_state_loses_nothing_and_does_nothing_twice() {
    let (mut world, [order]) = World::with_deliveries().await;
    // Written down, not sent.
    let first = world.picks_up(order).await;
    world.kill().await;
    assert_eq!(world.delivery(order).await["pending"][0]["state"], "unsent");
    // Marked as sent, and no answer yet.
    world.owner.fail(Fault::Hang);
    cut_off_while_it_hangs(&mut world, true).await;
    world.kill().await;
    let state = world.state().await;
    assert_eq!(state["deliveries"][0]["pending"][0]["state"], "in_flight");
    assert_eq!(
        (&state["sync"]["pending"], &state["sync"]["in_flight"]),
        (&json!(1), &json!(1))
    );
    // Judged, and the answer got lost.
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    world.kill().await;
    assert_eq!(world.truly(order), "picked_up");
    assert_eq!(world.status(order).await, "picked_up");
    // Answered, and the feed has not come.
    world.send_all().await;
    world.kill().await;
    assert_eq!(
        world.delivery(order).await["pending"][0]["state"],
        "confirmed"
    );
    // Asked for the feed, and no page yet.
    world.owner.fail(Fault::Hang);
    cut_off_while_it_hangs(&mut world, false).await;
    world.kill().await;
    world.sync().await;
    assert_eq!(world.delivery(order).await["pending"], json!([]));
    assert_eq!(
        (world.status(order).await.as_str(), world.effects(&first)),
        ("picked_up", 1)
    );
}

/// Takes a step whose question is never answered, and drops it in the middle.
async fn cut_off_while_it_hangs(world: &mut World, up: bool) {
    let hangs = world.owner.hangs.clone();
    let app = world.app();
    let step = async {
        match up {
            true => app.up.step().await,
            false => app.down.step().await,
        }
    };
    tokio::select! {
        step = step => panic!("{step:?}"),
        () = hangs.notified() => {}
    }
}

#[tokio::test]
async fn nonsense_and_a_network_that_wants_a_login_are_no_answers() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    for fault in [
        Fault::Garbage,
        Fault::Portal,
        Fault::Refuse(503, "busy"),
        Fault::Refuse(409, "other"),
        Fault::Refuse(404, "unknown_route"),
    ] {
        world.owner.fail(fault.clone());
        assert!(matches!(world.up().await, Step::Wait(_)), "{fault:?}");
        world.owner.fail(fault.clone());
        assert!(matches!(world.down().await, Step::Wait(_)), "{fault:?}");
        let state = world.state().await;
        assert_eq!(state["sync"]["enrolment"], "valid", "{fault:?}");
        assert_eq!(
            (&state["sync"]["online"], &state["sync"]["pending"]),
            (&json!(false), &json!(1))
        );
        assert!(state["sync"]["waiting_because"].is_string());
    }
    world.sync().await;
    assert_eq!(world.truly(order), "picked_up");
}

#[tokio::test]
async fn one_good_way_alone_is_not_online() {
    let (mut world, [order]) = World::with_deliveries().await;
    assert_eq!(
        world.state().await["sync"]["online"],
        true,
        "nothing was to be sent"
    );
    world.owner.fail(Fault::Refuse(503, "busy"));
    world.down().await;
    world.picks_up(order).await;
    assert_eq!(world.up().await, Step::Progress);
    assert_eq!(world.truly(order), "picked_up");
    assert_eq!(
        world.state().await["sync"]["online"],
        false,
        "the feed fails"
    );
    world.follow_all().await;
    assert_eq!(world.state().await["sync"]["online"], true);
    world.delivers(order).await;
    world.owner.fail(Fault::Refuse(503, "busy"));
    world.up().await;
    world.down().await;
    assert_eq!(
        world.state().await["sync"]["online"],
        false,
        "nothing can be sent"
    );
}

/// The loops themselves. The owner keeps the question for news, and hears of what the driver does all the same.
#[tokio::test]
async fn an_intent_is_sent_at_once_while_a_question_for_news_waits() {
    let (world, [order]) = World::with_deliveries().await;
    world.owner.fail(Fault::Hang);
    let way = Arc::new(OwnerApi::new(world.url.parse().unwrap()).unwrap());
    let stop = Stop::new();
    let running = tokio::spawn(sync::run(world.device().clone(), way, stop.clone()));
    let patience = Duration::from_secs(30);
    tokio::time::timeout(patience, world.owner.hangs.notified())
        .await
        .unwrap();
    let mut revision = world.device().status().revision();
    let intent = world.picks_up(order).await;
    let sent = async {
        while world.effects(&intent) == 0 || world.state().await["sync"]["pending"] != 0 {
            revision.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG_POLL / 2, sent).await.unwrap();
    assert_eq!(
        world.delivery(order).await["pending"][0]["state"],
        "confirmed"
    );
    // "Try now" gives the question up and asks anew.
    world.device().sync_now();
    let fed = async {
        while world.delivery(order).await["pending"] != json!([]) {
            revision.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG_POLL / 2, fed).await.unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
}

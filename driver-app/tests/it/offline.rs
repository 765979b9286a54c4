//! With no network at all, before the first contact ever, and after a kill in any state.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use driver_app::owner_api::OwnerApi;
use driver_app::sync::{self, LONG_POLL, Step};
use relay::Stop;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::owner::{FakeOwner, Fault};
use crate::world::World;

#[tokio::test]
async fn before_the_first_contact_the_device_answers_and_sends_no_request() {
    let (url, connections) = dead_owner().await;
    let mut world = World::with(FakeOwner::default(), url).await;
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
        connections.load(Ordering::Relaxed),
        0,
        "without a token there is nothing to ask"
    );
    let refused = world
        .api()
        .post("/api/enrol", &json!({"code": "ABCD"}))
        .await;
    assert_eq!(refused.problem(), "503 unreachable");
    assert_eq!(connections.load(Ordering::Relaxed), 1);
    world.kill().await;
    assert_eq!(world.state().await["sync"]["enrolment"], "none");
}

/// Closes every connection at once, and counts them.
async fn dead_owner() -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::Relaxed);
            drop(connection);
        }
    });
    (url, connections)
}

#[tokio::test]
async fn a_whole_delivery_is_made_offline_and_arrives_later_in_order() {
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
    // Recorded, not sent.
    let first = world.picks_up(order).await;
    world.kill().await;
    assert_eq!(world.delivery(order).await["pending"][0]["state"], "unsent");
    // Marked as sent, and no reply yet.
    world.owner.fail(Fault::Hang);
    cut_off_while_it_hangs(&mut world, true).await;
    world.kill().await;
    let state = world.state().await;
    assert_eq!(state["deliveries"][0]["pending"][0]["state"], "in_flight");
    assert_eq!(
        (&state["sync"]["pending"], &state["sync"]["in_flight"]),
        (&json!(1), &json!(1))
    );
    // Decided, and the reply was lost.
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    world.kill().await;
    assert_eq!(world.truly(order), "picked_up");
    assert_eq!(world.status(order).await, "picked_up");
    // Answered, and the feed does not include it yet.
    world.send_all().await;
    world.kill().await;
    assert_eq!(
        world.delivery(order).await["pending"][0]["state"],
        "confirmed"
    );
    // The feed is requested, and no page has come.
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

/// Takes a step whose request gets no reply, and drops it in the middle.
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
async fn nonsense_and_a_network_that_wants_a_login_are_no_replies() {
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
async fn one_working_direction_alone_is_not_online() {
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

/// Runs the loops. The owner holds the feed request, and receives the intent all the same.
#[tokio::test]
async fn an_intent_is_sent_at_once_while_a_feed_request_waits() {
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
    // Syncing now cancels the request and sends another.
    world.device().status().sync_now();
    let fed = async {
        while world.delivery(order).await["pending"] != json!([]) {
            revision.changed().await.unwrap();
        }
    };
    tokio::time::timeout(LONG_POLL / 2, fed).await.unwrap();
    stop.cancel();
    running.await.unwrap().unwrap();
}

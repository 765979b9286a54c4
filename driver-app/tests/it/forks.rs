//! Copies and older copies of the device's file.

use std::fs;

use serde_json::json;

use crate::owner::Fault;
use crate::world::World;

#[tokio::test]
async fn a_copied_file_becomes_a_device_of_its_own_and_does_nothing_twice() {
    let (mut world, [sent, unsent]) = World::with_deliveries().await;
    let report = json!({"problem": "wrong_address"});
    world.does(sent, "report_problem", report).await; // takes the first number
    world.sync().await;
    let first = world.picks_up(sent).await;
    world.owner.fail(Fault::LoseAnswer);
    world.up().await; // the owner has decided, and the reply is lost
    let second = world.picks_up(unsent).await;
    world.close().await;
    let original = world.path.clone();
    world.path = world.folder.path().join("copy.db");
    fs::copy(&original, &world.path).unwrap();
    world.open().await;
    let state = world.state().await;
    assert_eq!(state["sync"]["forked"]["times"], 1);
    assert!(
        state["sync"]["forked"]["reason"]
            .as_str()
            .unwrap()
            .contains("copied or restored")
    );
    assert_eq!(
        state["deliveries"].as_array().unwrap().len(),
        2,
        "shown until the feed has come anew"
    );
    world.sync().await;
    assert_eq!((world.effects(&first), world.effects(&second)), (1, 1));
    assert_eq!(world.state().await["sync"]["pending"], 0);
    let uploads = world.owner.truth().uploads.clone();
    assert_ne!(uploads[1].incarnation, uploads[2].incarnation);
    let seqs: Vec<_> = uploads[2].intents.iter().map(|intent| intent.seq).collect();
    assert_eq!(seqs, [1, 2]);

    // The original continues, and its work is done already.
    world.close().await;
    world.path = original;
    world.open().await;
    assert_eq!(world.state().await["sync"]["forked"], json!(null));
    world.sync().await;
    assert_eq!((world.effects(&first), world.effects(&second)), (1, 1));
    assert_eq!(world.state().await["sync"]["pending"], 0);

    // The copy does not count as a new copy each time.
    world.close().await;
    world.path = world.folder.path().join("copy.db");
    world.open().await;
    assert_eq!(world.state().await["sync"]["forked"]["times"], 1);
}

#[tokio::test]
async fn a_lane_goes_on_behind_an_intent_that_the_owner_has_from_another_incarnation() {
    let (mut world, [other, order]) = World::with_deliveries().await;
    world.picks_up(other).await; // takes the first number, so that the numbers of the two incarnations differ
    world.sync().await;
    let first = world.picks_up(order).await;
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    world.close().await;
    let original = world.path.clone();
    world.path = world.folder.path().join("copy.db");
    fs::copy(&original, &world.path).unwrap();
    world.open().await;
    world.sync().await; // a duplicate, under its old number
    let second = world.delivers(order).await;
    world.sync().await;
    let state = world.state().await;
    assert_eq!(
        (
            state["sync"]["pending"].clone(),
            state["sync"]["refused"].clone()
        ),
        (json!(0), json!(0)),
        "{state:#}"
    );
    assert_eq!((world.effects(&first), world.effects(&second)), (1, 1));
}

#[tokio::test]
async fn a_restored_older_file_fetches_everything_again() {
    let (mut world, [order]) = World::with_deliveries().await;
    let before = world.picks_up(order).await;
    world.close().await;
    let backup = world.folder.path().join("backup");
    fs::copy(&world.path, &backup).unwrap();
    world.open().await;
    let after = world.delivers(order).await;
    world.sync().await;
    world.close().await;
    fs::write(&world.path, fs::read(&backup).unwrap()).unwrap(); // the same file, with an older content
    world.open().await;
    assert_eq!(world.state().await["sync"]["forked"]["times"], 1);
    let new = world
        .does(order, "report_problem", json!({"problem": "other"}))
        .await;
    world.sync().await;
    assert_eq!((world.effects(&before), world.effects(&after)), (1, 1));
    assert_eq!(world.status(order).await, "delivered");
    let state = world.state().await;
    assert_eq!(
        state["refused"][0]["intent_id"],
        json!(new),
        "a new place, a verdict of its own"
    );
}

#[tokio::test]
async fn a_kill_between_the_open_gate_and_the_new_incarnation_does_not_hide_a_copy() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.close().await;
    let copy = world.folder.path().join("copy.db");
    fs::copy(&world.path, &copy).unwrap();
    // Opening does this first; then the program is killed.
    let clock = world.clock.clone();
    let options = relay::Options {
        open_without_stream: true,
        ..driver_app::device::database(clock)
    };
    let db = relay::Database::open(&copy, options).await.unwrap();
    assert_eq!(db.gate(), relay::database::Gate::Open);
    db.close().await;
    world.path = copy;
    world.open().await;
    assert_eq!(world.state().await["sync"]["forked"]["times"], 1);
}

#[tokio::test]
async fn an_owner_that_received_another_copy_gets_a_new_incarnation() {
    let (mut world, [order]) = World::with_deliveries().await;
    // Another file uses this incarnation: its first number is taken.
    world.picks_up(order).await;
    world.owner.fail(Fault::LoseAnswer);
    world.up().await;
    let upload = world.owner.truth().uploads[0].clone();
    world.owner.truth().judged.clear();
    world.owner.truth().effects.clear();
    world.owner.truth().set_status(order, "assigned");
    world
        .owner
        .truth()
        .places
        .insert((upload.incarnation, 1), event_schema::IntentId::new());
    let second = world.delivers(order).await;
    world.sync().await;
    world.sync().await;
    let state = world.state().await;
    assert_eq!(state["sync"]["forked"]["times"], 1, "{state:#}");
    assert!(
        state["sync"]["forked"]["reason"]
            .as_str()
            .unwrap()
            .contains("another copy")
    );
    assert_eq!(
        (world.truly(order).as_str(), world.effects(&second)),
        ("delivered", 1)
    );
    let last = world.owner.truth().uploads.last().unwrap().clone();
    let again: Vec<_> = last
        .intents
        .iter()
        .map(|intent| (intent.seq, intent.after_seq))
        .collect();
    assert_eq!(again, [(1, None), (2, Some(1))]);
    assert_eq!(last.intents[0].intent_id, upload.intents[0].intent_id);
    assert_eq!(
        world
            .owner
            .truth()
            .asked_after
            .iter()
            .filter(|after| after.is_none())
            .count(),
        2,
        "the feed began anew"
    );
}

#[tokio::test]
async fn an_owner_that_calls_everything_forked_is_not_asked_without_a_pause() {
    let (mut world, [order]) = World::with_deliveries().await;
    world.picks_up(order).await;
    world.owner.fail(Fault::Refuse(409, "incarnation_forked"));
    assert!(matches!(world.up().await, driver_app::sync::Step::Wait(_)));
    world.sync().await;
    assert_eq!(world.truly(order), "picked_up");
}

//! Every case of docs/reconciliation.md's first table, once, on real processes: what the service does, and where an operator sees
//! it. Some are tested elsewhere:
//!
//! | Case | Tested by |
//! | --- | --- |
//! | `missing` | `operators::a_deleted_stream_is_recreated_and_filled_with_the_same_sequences`, `wipes` |
//! | `foreign replaced` | here |
//! | `database lost` | `lost_databases::a_deleted_database_is_restored_from_its_stream_after_a_kill` |
//! | `foreign` | `lost_databases::an_empty_folder_is_foreign_to_the_stream_until_an_operator_adopts_it`, here |
//! | `later epoch` | `forks::a_cloned_machine_forks_and_new_epoch_keeps_this_files_line`: the loser |
//! | `older epoch` | here; the same test of `forks`: the survivor |
//! | `fresh` | here |
//! | `emptied` | `operators::a_purged_stream_is_recreated_and_filled_with_the_same_sequences` |
//! | `ahead later` | here |
//! | `ahead and trimmed` | here |
//! | `ahead at first contact` | marked: `rivals::a_service_started_on_an_older_copy_imports_the_tail_before_it_writes`, `restores`; unmarked: here |
//! | `behind the outbox` | here |
//! | `holed` | `stores::a_hole_in_a_long_stream_is_refilled`, `stores::a_hole_that_the_broker_does_not_count_is_refilled` |
//! | `closed` | here |
//! | `forked` | `forks` |
//! | `behind` | `story::without_a_broker_writes_are_acknowledged_and_published_later` |
//! | `equal` | every restart; `verifies::a_healthy_world_is_equal` |

use freehold_tests::UserApi;
use freehold_tests::{Part, World, eventually, outbox, seconds};

use crate::applied::{count_every_application, everything_arrived_once, register};
use crate::older::until_published;
use crate::owner::{User, connect};
use crate::states::{
    cache_is_its_owners, is_halted, is_publishing, is_ready, logged, rebuilt, says, set_aside,
};

/// A new database without a trace of an earlier one, and an operator who gives the old one up.
#[tokio::test]
async fn a_foreign_stream_is_replaced_once_an_operator_decides_so() {
    let mut world = World::start().await;
    register(&world, 0..20).await;
    world.check().await;
    let stream = world.observer().read_all("USERS").await.expect("read");
    world.user_service.stop().await.expect("it stops");
    world
        .user_service
        .delete_database_and_lock()
        .expect("deleted");
    world.user_service.start().await.expect("it starts");
    let said = is_halted(&world.user_service).await;
    assert!(
        said.contains("it was made by database") && said.contains("adopt-stream"),
        "{said}"
    );
    let left = world.observer().read_all("USERS").await.expect("read");
    assert_eq!(left, stream, "nothing was touched");

    world.user_service.stop().await.expect("it stops");
    let _decided = world
        .user_service
        .command(&["new-epoch"])
        .await
        .expect_code(0);
    world.user_service.start().await.expect("it starts");
    is_publishing(&world.user_service).await;
    let saved = set_aside(&world.user_service).await;
    let saved: Vec<_> = saved
        .into_iter()
        .map(|(_, seq, envelope)| (seq, envelope.into_bytes()))
        .collect();
    let lost: Vec<_> = stream
        .into_iter()
        .map(|event| (event.seq, event.bytes))
        .collect();
    assert_eq!(saved, lost, "every event of the stream");
    register(&world, 0..5).await;
    cache_is_its_owners(&world).await;
    world.check().await;
}

/// Created by the service, without any write.
#[tokio::test]
async fn a_fresh_stream_is_filled_not_recreated() {
    let mut world = World::start().await;
    let made = async || {
        let info = world.observer().stream_info("USERS").await;
        info.map(|info| (info.all["created"].clone(), info.first_seq, info.last_seq))
    };
    let before = eventually("the stream is made", seconds(30), made).await;
    assert_eq!((before.1, before.2), (1, 0));
    world.user_service.stop().await.expect("it stops");
    world.user_service.start().await.expect("it starts");
    register(&world, 0..5).await;
    world.until_applied(5).await;
    let after = world.observer().stream_info("USERS").await.expect("there");
    assert_eq!((&after.all["created"], after.last_seq), (&before.0, 5));
    assert!(!logged(&world.user_service).contains("making"));
}

/// A clone that runs at the same time as its original: the second one to publish halts, and none of its events is in the stream.
#[tokio::test]
async fn a_stream_that_is_ahead_later_halts_the_process_that_did_not_publish_it() {
    let mut world = World::start().await;
    register(&world, 0..10).await;
    world.check().await;
    world.user_service.stop().await.expect("it stops");
    let clone = world.folder().join("clone.db");
    let mut clone = world.user_service.clone_machine(&clone).expect("cloned");
    world.user_service.start().await.expect("it starts");
    clone.start().await.expect("it starts");
    is_ready(&world.user_service).await;
    is_publishing(&clone).await;
    register(&world, 10..20).await;
    let said = is_halted(&clone).await;
    assert!(
        said.contains("another relay publishes from a copy of this file"),
        "{said}"
    );
    let refused = UserApi::of(&clone).register("Eve", "eve@example.org").await;
    assert_eq!(refused.expect_status(503).problem(), Some("writes_halted"));

    // The cure: the other is stopped, this one restarted. Here the clone goes on in the original's place.
    world.user_service.stop().await.expect("it stops");
    clone.stop().await.expect("it stops");
    clone.start().await.expect("it starts");
    says(&clone, "importing what it lacks").await;
    is_publishing(&clone).await;
    let events = |database| outbox::read_all(database).expect("read");
    assert!(events(&clone.database) == events(&world.user_service.database));
    clone.stop().await.expect("it stops");
    world.user_service.start().await.expect("it starts");
    world.check().await;
}

#[tokio::test]
async fn a_stream_ahead_and_trimmed_halts_an_old_backup_and_takes_a_newer_one() {
    let mut world = World::start().await;
    let (old, newer) = (
        world.folder().join("old.db"),
        world.folder().join("newer.db"),
    );
    register(&world, 0..10).await;
    world.user_service.copy_database(&old).expect("copied");
    register(&world, 10..50).await;
    world.user_service.copy_database(&newer).expect("copied");
    register(&world, 50..60).await;
    world.check().await;
    world.user_service.stop().await.expect("it stops");
    world
        .broker
        .trim_stream("USERS", 41)
        .await
        .expect("trimmed");
    world.expect_trimmed_streams();
    world.user_service.swap_database(&old).expect("swapped");
    world.user_service.start().await.expect("it starts");
    let said = is_halted(&world.user_service).await;
    assert!(
        said.contains("it begins at 41, this database ends at 10"),
        "{said}"
    );
    assert!(said.contains("restore a newer one"), "{said}");

    world.user_service.stop().await.expect("it stops");
    world.user_service.swap_database(&newer).expect("swapped");
    world.user_service.start().await.expect("it starts");
    is_ready(&world.user_service).await;
    assert_eq!(
        outbox::head(&world.user_service.database).expect("read"),
        60
    );
    world.check().await;
}

/// A rolled back disk cannot be recognised; the broker is reachable, so the tail is imported anyway, with an alarm.
#[tokio::test]
async fn a_stream_ahead_at_first_contact_of_an_unmarked_file_is_imported_with_an_alarm() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..10).await;
    let then = world.folder().join("then");
    world.user_service.stop().await.expect("it stops");
    world.user_service.copy_disk(&then).expect("copied");
    world.user_service.start().await.expect("it starts");
    register(&world, 10..30).await;
    until_published(&world).await;
    let before = outbox::read_all(&world.user_service.database).expect("read");
    world.user_service.kill();
    world
        .user_service
        .roll_back_disk(&then)
        .expect("rolled back");
    world.user_service.start().await.expect("it starts");
    says(
        &world.user_service,
        "ALARM: the stream holds events of this log that this file never had",
    )
    .await;
    eventually("they came home", seconds(30), async || {
        let now = outbox::read_all(&world.user_service.database).expect("read");
        (now == before).then_some(()).ok_or(now.len())
    })
    .await;
    is_ready(&world.user_service).await;
    register(&world, 30..35).await;
    everything_arrived_once(&mut world).await;
    let status = world.user_service.command(&["status"]).await.expect_code(0);
    assert!(
        status.stdout.contains("ALARM: import: up to event 30"),
        "{}",
        status.stdout
    );
}

/// Retention has removed the events from the outbox that would connect it to this old store.
#[tokio::test]
async fn a_stream_behind_the_outbox_is_quarantined_and_recreated() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..20).await;
    world.check().await;
    let old = world.folder().join("old");
    world.broker.stop().await.expect("it stops");
    world.broker.copy_store(&old).expect("copied");
    world.broker.start().await.expect("it starts");
    let stream = world.observer().read_all("USERS").await.expect("read");
    world.user_service.stop().await.expect("it stops");
    let few = ["--keep-events", "10", "--hold-readers", "0"];
    world.user_service.args.extend(few.map(str::to_owned));
    world.user_service.start().await.expect("it starts");
    register(&world, 20..60).await;
    world.until_applied(60).await;
    eventually("old events are removed", seconds(60), async || {
        let kept = outbox::read_all(&world.user_service.database).expect("read");
        (kept.len() == 10).then_some(()).ok_or(kept.len())
    })
    .await;

    world.broker.stop().await.expect("it stops");
    world.broker.swap_store(&old).expect("swapped");
    world.broker.start().await.expect("it starts");
    says(
        &world.user_service,
        "it ends before the oldest event that the outbox keeps",
    )
    .await;
    register(&world, 60..65).await;
    world.until_applied(65).await;
    let saved = set_aside(&world.user_service).await;
    let saved: Vec<_> = saved
        .into_iter()
        .map(|(_, seq, envelope)| (seq, envelope.into_bytes()))
        .collect();
    let lost: Vec<_> = stream
        .into_iter()
        .map(|event| (event.seq, event.bytes))
        .collect();
    assert_eq!(saved, lost, "what the old store held");
    assert_eq!(
        rebuilt(&world).await,
        0,
        "orders-service had applied all of it"
    );
    world.expect_trimmed_streams(); // retention trims stream and outbox one after the other
    everything_arrived_once(&mut world).await;
}

/// A decision without a fork begins a new epoch, too; then the broker's disk is restored from before it.
#[tokio::test]
async fn a_stream_of_an_older_epoch_is_recreated() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..10).await;
    world.check().await;
    let old = world.folder().join("old");
    world.broker.stop().await.expect("it stops");
    world.broker.copy_store(&old).expect("copied");
    world.broker.start().await.expect("it starts");
    world.user_service.stop().await.expect("it stops");
    let _decided = world
        .user_service
        .command(&["new-epoch"])
        .await
        .expect_code(0);
    world.user_service.start().await.expect("it starts");
    says(
        &world.user_service,
        "it belongs to an earlier epoch of this database",
    )
    .await;
    register(&world, 10..20).await;
    world.until_applied(20).await;

    world.user_service.stop().await.expect("it stops");
    world.broker.stop().await.expect("it stops");
    world.broker.swap_store(&old).expect("swapped");
    world.broker.start().await.expect("it starts");
    world.user_service.start().await.expect("it starts");
    says(
        &world.user_service,
        "it belongs to an earlier epoch of this database",
    )
    .await;
    assert_eq!(
        set_aside(&world.user_service).await,
        [],
        "the outbox holds it all"
    );
    register(&world, 20..25).await;
    everything_arrived_once(&mut world).await;
    assert_eq!(rebuilt(&world).await, 0, "the common part goes on");
}

/// A relay was killed between closing the stream and recreating it. The test simulates that with the owner's rights: it seals the
/// stream and names the closer.
#[tokio::test]
async fn a_closed_stream_is_recreated() {
    let mut world = World::start().await;
    count_every_application(&mut world).await;
    register(&world, 0..10).await;
    world.check().await;
    let before = world.observer().stream_info("USERS").await.expect("there");
    let mut config = before.config.clone();
    config["sealed"] = true.into();
    config["metadata"]["freehold.closed_by"] = "1".into();
    let mut wire = connect(&world.broker, User::Users).await;
    let closed = wire
        .request_json("$JS.API.STREAM.UPDATE.USERS", &config)
        .await;
    assert_eq!(closed.expect("closed")["config"]["sealed"], true);
    register(&world, 10..20).await;
    says(
        &world.user_service,
        "an earlier replacement was not finished",
    )
    .await;
    everything_arrived_once(&mut world).await;
    let after = world.observer().stream_info("USERS").await.expect("there");
    assert_eq!(after.config["sealed"], false);
    assert_ne!(
        after.config["subjects"], before.config["subjects"],
        "another token"
    );
    assert_eq!(
        set_aside(&world.user_service).await,
        [],
        "the outbox holds it all"
    );
    assert_eq!(rebuilt(&world).await, 0);
}

/// With the owner's rights any message can be stored with the next sequence. The service halts on it, says what to do, and the
/// message's bytes are kept.
#[tokio::test]
async fn a_message_that_is_no_event_halts_its_owner_until_a_new_epoch_quarantines_it() {
    let mut world = World::start().await;
    register(&world, 0..10).await;
    world.check().await;
    let other = br#"{"specversion":"1.0","id":"0190a5f0-1234-7abc-8def-0123456789ab","data":{}}"#;
    let largest = vec![b'x'; 1_048_500]; // beyond what an event may have, within what the broker takes
    for payload in [b"hello".to_vec(), Vec::new(), other.to_vec(), largest] {
        println!("a message of {} bytes", payload.len());
        let info = world.observer().stream_info("USERS").await.expect("there");
        let subjects = info.config["subjects"][0].as_str().expect("a subject");
        let door = subjects.replace('>', "created");
        let mut wire = connect(&world.broker, User::Users).await;
        let stored = wire.request(&door, &payload).await.expect("stored");
        assert!(stored.text().contains("\"seq\""), "{}", stored.text());

        let said = is_halted(&world.user_service).await;
        assert!(said.contains("restart this one"), "{said}");
        world.user_service.stop().await.expect("it stops");
        world.user_service.start().await.expect("it starts");
        let said = is_halted(&world.user_service).await;
        assert!(said.contains("no event of ours"), "{said}");
        assert!(said.contains("decide with new-epoch"), "{said}");
        world.user_service.stop().await.expect("it stops");
        let decided = world.user_service.command(&["new-epoch"]).await;
        let _decided = decided.expect_code(0);
        world.user_service.start().await.expect("it starts");
        is_ready(&world.user_service).await;
        is_publishing(&world.user_service).await;
        let saved = set_aside(&world.user_service).await;
        let text = String::from_utf8(payload).expect("a text");
        let expected = ("stream".to_owned(), info.last_seq + 1, text);
        assert!(saved.contains(&expected), "{} are kept", saved.len());
    }
    register(&world, 10..20).await;
    cache_is_its_owners(&world).await;
    world.check().await;
}

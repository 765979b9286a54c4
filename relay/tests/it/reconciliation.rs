//! How a stream and a file can stand to each other: each case once, made for real, and what the relay makes of it.
//!
//! Each looks at the same things: the case reported, the stream's bytes and door, the outbox, the own tables, the gate,
//! the mark, the audit, and what was set aside.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relay::database::Gate;
use relay::log::{Connect, Log, Record, Stream};
use relay::operate::{backup, new_epoch, restore};
use relay::outbox::FoundIn;
use relay::publish::{Case, Retention};
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Database, Fold, Relay, WriteError};

use crate::support::{
    Image, Mortal, Scratch, assert_one_log, audited, clone_of, close_stream, found_in, kill, meet,
    options, origin, outbox_rows, report, set_aside, settle, store, tables, tables_from, unmarked,
    weigh_again, weigh_many,
};

/// The last line of defence for this list: a case without a test is seen here.
#[test]
fn every_case_has_a_test_of_its_name() {
    let tests: BTreeSet<_> = include_str!("reconciliation.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("async fn stream_")?.split_once('('))
        .map(|(name, _)| name.replace('_', " "))
        .collect();
    let cases: BTreeSet<_> = Case::ALL
        .iter()
        .map(|case| case.name().to_owned())
        .collect();
    assert_eq!(tests, cases);
}

/// A producer with events in the stream, and what is known of both.
struct World {
    scratch: Scratch,
    broker: MemoryBroker,
    db: Database,
    log: Vec<Record>,
}

impl World {
    /// So many events, all published; the relay that did it is gone.
    async fn with(events: u64) -> Self {
        let scratch = Scratch::new();
        let (db, broker) = (scratch.producer().await, MemoryBroker::new(1));
        let log = weigh_many(&db, events).await;
        meet(&db, &broker).await;
        assert_one_log(&db, &broker, &log).await;
        Self {
            scratch,
            broker,
            db,
            log,
        }
    }

    async fn write(&mut self, events: u64) {
        self.log.extend(weigh_many(&self.db, events).await);
    }

    async fn meet(&self) -> Vec<Case> {
        meet(&self.db, &self.broker).await
    }

    async fn restart(&mut self) {
        self.db.close().await;
        self.db = self.scratch.producer().await;
    }

    /// Takes a backup now.
    fn backup(&self) -> std::path::PathBuf {
        let to = self.scratch.path("backup.db");
        backup(self.db.path(), &options(), &to).unwrap();
        to
    }

    async fn restore(&mut self, from: &std::path::Path) {
        self.db.close().await;
        restore(from, &options(), self.db.path()).unwrap();
        self.db = self.scratch.producer().await;
    }

    /// The volume rolled back while the process was down: the file is older, and nothing local tells.
    async fn roll_back(&mut self, image: &Image) {
        self.db.close().await;
        image.roll_back(self.db.path());
        self.db = self.scratch.producer().await;
        assert_eq!(self.db.gate(), Gate::Open, "nothing local can know");
    }

    async fn assert_all_is_well(&self) {
        assert_one_log(&self.db, &self.broker, &self.log).await;
    }

    /// The door of the stream: drawn anew when it is made.
    async fn door(&self) -> String {
        head(&self.broker).await.incarnation
    }

    async fn is_refused_as_halted(&self, because: &str) {
        let refused = weigh_again(&self.db, "a", 1).await;
        let Err(WriteError::Halted(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains(because), "{why}");
        assert!(!tables(&self.db).await.is_empty(), "reads go on");
    }
}

async fn head(broker: &MemoryBroker) -> relay::log::Head {
    let mut session = broker.connect().await.unwrap();
    session.head().await.unwrap().unwrap()
}

#[tokio::test(start_paused = true)]
async fn stream_missing() {
    let mut world = World::with(3).await;
    let before = world.door().await;
    world.broker.restore(None);
    world.restart().await;
    world.write(2).await; // no broker, no mark: writes go on

    assert_eq!(world.meet().await, [Case::Missing, Case::Equal]);
    world.assert_all_is_well().await;
    assert_ne!(
        world.door().await,
        before,
        "a stream made anew has a new door"
    );
    assert!(set_aside(&world.db).await.is_empty());
    assert!(audited(&world.db).await.is_empty());

    // A marked file without a stream has nothing to wait for.
    let backup = world.backup();
    world.broker.delete();
    world.restore(&backup).await;
    let refused = weigh_again(&world.db, "a", 1).await;
    assert!(
        matches!(refused, Err(WriteError::MustImport(_))),
        "{refused:?}"
    );
    assert_eq!(world.meet().await, [Case::Missing, Case::Equal]);
    world.assert_all_is_well().await;
    assert_eq!(
        audited(&world.db).await,
        ["marked", "restored", "mark cleared"]
    );
}

#[tokio::test(start_paused = true)]
async fn stream_equal() {
    let mut world = World::with(3).await;
    let before = world.broker.store();
    world.restart().await;
    assert_eq!(world.meet().await, [Case::Equal]);
    assert_eq!(world.broker.store(), before, "nothing is touched");
    world.assert_all_is_well().await;
    assert!(audited(&world.db).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn stream_behind() {
    let mut world = World::with(5).await;
    let door = world.door().await;
    world.broker.lose_tail(2);
    world.restart().await;
    world.write(1).await;
    assert_eq!(world.meet().await, [Case::Behind, Case::Equal]);
    world.assert_all_is_well().await;
    assert_eq!(world.door().await, door, "the stream is the same one");
    assert!(audited(&world.db).await.is_empty());
}

/// The outbox was pruned, and the broker came back with a copy from before that.
#[tokio::test(start_paused = true)]
async fn stream_behind_the_outbox() {
    let mut world = World::with(3).await;
    let older = world.broker.store();
    world.write(5).await;
    let keep = Retention {
        max_events: Some(4),
        ..Retention::default()
    };
    let mut relay = Relay::new(&world.db, world.broker.clone()).keep(keep);
    settle(&mut relay).await;
    let pruned = world.log.split_off(4);
    assert_eq!(outbox_rows(&world.db).await, pruned);
    world.broker.restore(older);

    assert_eq!(
        settle(&mut relay).await,
        [Case::BehindTheOutbox, Case::Equal]
    );
    assert_eq!(
        world.broker.records(),
        pruned,
        "numbers and bytes are the outbox's"
    );
    assert_eq!(outbox_rows(&world.db).await, pruned);
    assert_eq!(
        set_aside(&world.db).await,
        found_in(FoundIn::Stream, &world.log[..3])
    );
    assert_eq!(audited(&world.db).await, ["stream replaced"]);
    assert_eq!(world.db.gate(), Gate::Open);
}

#[tokio::test(start_paused = true)]
async fn stream_fresh() {
    let mut world = World::with(3).await;
    world.broker.delete();
    let mut session = world.broker.connect().await.unwrap();
    let ours = origin(&world.db).await;
    session.create(1, &ours, "the door").await.unwrap(); // and then the relay was killed
    world.restart().await;
    assert_eq!(world.meet().await, [Case::Fresh, Case::Equal]);
    world.assert_all_is_well().await;
    assert_eq!(world.door().await, "the door");
    assert!(audited(&world.db).await.is_empty());
}

/// Purged by hand: the number went on, the events are gone.
#[tokio::test(start_paused = true)]
async fn stream_emptied() {
    let mut world = World::with(3).await;
    let door = world.door().await;
    world.broker.trim(3);
    assert_eq!(
        (
            head(&world.broker).await.first,
            head(&world.broker).await.seq
        ),
        (4, 3)
    );
    world.restart().await;
    assert_eq!(world.meet().await, [Case::Emptied, Case::Equal]);
    world.assert_all_is_well().await;
    assert_ne!(world.door().await, door);
    assert!(
        set_aside(&world.db).await.is_empty(),
        "the outbox holds it all"
    );
    assert_eq!(audited(&world.db).await, ["stream replaced"]);
}

#[tokio::test(start_paused = true)]
async fn stream_holed() {
    for lost in [1, 2, 5] {
        let mut world = World::with(5).await;
        world.broker.lose(lost);
        let begins_later = lost == 1; // the first one leaves no hole: the stream begins after it
        world.restart().await;
        world.write(1).await;
        let cases = world.meet().await;
        match begins_later {
            true => assert_eq!(cases, [Case::Behind, Case::Equal]),
            false => {
                assert_eq!(cases, [Case::Holed, Case::Equal], "lost {lost}");
                world.assert_all_is_well().await;
                assert_eq!(audited(&world.db).await, ["stream replaced"]);
            }
        }
        assert!(
            set_aside(&world.db).await.is_empty(),
            "the outbox holds it all"
        );
    }
}

/// A restored file takes over what it missed, and then it is what it was.
#[tokio::test(start_paused = true)]
async fn stream_ahead_at_first_contact() {
    for trimmed_to in [0, 2] {
        let mut world = World::with(2).await;
        let before = origin(&world.db).await;
        let backup = world.backup();
        world.write(5).await;
        world.meet().await;
        let (store, state) = (world.broker.store(), tables(&world.db).await);
        world.broker.trim(trimmed_to); // from 3 on it still joins: 3 names 2
        world.restore(&backup).await;
        assert_eq!(
            tables(&world.db).await,
            tables_from(&world.log[..2]).await,
            "reads go on"
        );
        let refused = weigh_again(&world.db, "a", 1).await;
        let Err(WriteError::MustImport(why)) = refused else {
            panic!("{refused:?}");
        };
        assert!(why.contains("backup"), "{why}");

        let cases = world.meet().await;
        assert_eq!(cases, [Case::AheadAtFirstContact, Case::Equal]);
        assert_eq!(outbox_rows(&world.db).await, world.log);
        assert_eq!(tables(&world.db).await, state);
        assert_eq!(origin(&world.db).await, before);
        assert_eq!(report(&world.db).await.must_import, None);
        assert_eq!(
            audited(&world.db).await,
            ["marked", "restored", "imported", "mark cleared"]
        );
        assert!(set_aside(&world.db).await.is_empty());
        if trimmed_to == 0 {
            assert_eq!(world.broker.store(), store, "the stream is only read");
            world.write(2).await;
            world.meet().await;
            world.assert_all_is_well().await;
        }
    }
    // The same into a file that was not marked is an alarm: it may be a rival's work.
    let mut world = World::with(2).await;
    let image = Image::take(world.db.path());
    world.write(2).await;
    world.meet().await;
    world.roll_back(&image).await;
    let cases = world.meet().await;
    assert_eq!(cases, [Case::AheadAtFirstContact, Case::Equal]);
    world.assert_all_is_well().await;
    let said = audited(&world.db).await;
    assert!(
        said.iter().any(|line| line.starts_with("ALARM")),
        "{said:?}"
    );
}

/// This process has published; any event the stream gains afterwards came from another process.
#[tokio::test(start_paused = true)]
async fn stream_ahead_later() {
    let mut world = World::with(2).await;
    let rival = clone_of(&world.db, &world.scratch.path("rival.db")).await;
    let mut relay = Relay::new(&world.db, world.broker.clone());
    settle(&mut relay).await;
    world.log.extend(weigh_many(&rival, 3).await);
    meet(&rival, &world.broker).await;
    let store = world.broker.store();

    assert_eq!(settle(&mut relay).await, [Case::AheadLater]);
    world.is_refused_as_halted("another relay publishes").await;
    assert_eq!(world.broker.store(), store, "nothing is touched");
    assert_eq!(outbox_rows(&world.db).await, world.log[..2]);
    assert_eq!(audited(&world.db).await, ["marked"]);
    drop(relay);

    // The cure it names: stop the other, restart this one.
    rival.close().await;
    world.restart().await;
    let cases = world.meet().await;
    assert_eq!(cases, [Case::AheadAtFirstContact, Case::Equal]);
    world.assert_all_is_well().await;
}

#[tokio::test(start_paused = true)]
async fn stream_ahead_and_trimmed() {
    let mut world = World::with(2).await;
    let backup = world.backup();
    world.write(6).await;
    world.meet().await;
    world.broker.trim(3);
    let store = world.broker.store();
    world.restore(&backup).await;

    assert_eq!(world.meet().await, [Case::AheadAndTrimmed]);
    world
        .is_refused_as_halted("older than the stream keeps")
        .await;
    assert_eq!(world.broker.store(), store, "nothing is touched");
    assert_eq!(outbox_rows(&world.db).await, world.log[..2]);
    assert!(report(&world.db).await.must_import.is_some());

    // A person gives up what came between; what is left of it in the stream is kept.
    world.restart().await;
    new_epoch(&world.db, &world.broker).await.unwrap();
    assert_eq!(world.meet().await, [Case::OlderEpoch, Case::Equal]);
    assert_eq!(
        set_aside(&world.db).await,
        found_in(FoundIn::Stream, &world.log[3..])
    );
    world.log.truncate(2);
    world.assert_all_is_well().await;
}

#[tokio::test(start_paused = true)]
async fn stream_forked() {
    for (ours, theirs) in [(1, 1), (3, 1), (1, 3)] {
        let mut world = World::with(2).await;
        let rival = clone_of(&world.db, &world.scratch.path("rival.db")).await;
        weigh_many(&rival, theirs).await;
        meet(&rival, &world.broker).await;
        world.write(ours).await; // the broker was away, and no mark forbade it
        let store = world.broker.store();

        assert_eq!(world.meet().await, [Case::Forked], "{ours} {theirs}");
        world
            .is_refused_as_halted("both went on after a fork")
            .await;
        assert_eq!(world.broker.store(), store, "nothing is touched");
        assert_eq!(outbox_rows(&world.db).await, world.log);
        assert!(set_aside(&world.db).await.is_empty());
        world.restart().await;
        let refused = weigh_again(&world.db, "a", 1).await;
        let Err(WriteError::MustImport(why)) = refused else {
            panic!("a restart is no way around a halt: {refused:?}");
        };
        assert!(why.contains("it had halted"), "{why}");
        assert_eq!(
            world.meet().await,
            [Case::Forked],
            "a restart decides nothing"
        );
    }
}

/// After a new epoch the broker falls back to a copy from before it, with events of the line that lost.
#[tokio::test(start_paused = true)]
async fn stream_older_epoch() {
    let mut world = World::with(2).await;
    let rival = clone_of(&world.db, &world.scratch.path("rival.db")).await;
    let lost = weigh_many(&rival, 2).await;
    meet(&rival, &world.broker).await;
    let older = world.broker.store();
    world.write(1).await;
    assert_eq!(world.meet().await, [Case::Forked]);
    world.restart().await;
    new_epoch(&world.db, &world.broker).await.unwrap();

    for _ in 0..2 {
        assert_eq!(world.meet().await, [Case::OlderEpoch, Case::Equal]);
        world.assert_all_is_well().await;
        assert_eq!(head(&world.broker).await.origin, origin(&world.db).await);
        assert_eq!(origin(&world.db).await.epoch, 2);
        assert_eq!(
            set_aside(&world.db).await,
            found_in(FoundIn::Stream, &lost),
            "saved, and once"
        );
        world.write(1).await;
        world.meet().await;
        world.broker.restore(older.clone());
        world.restart().await;
    }
}

/// A replacement that was killed half-way, by this life of the file: it is begun again.
#[tokio::test(start_paused = true)]
async fn stream_closed() {
    for written in [0, 2] {
        let mut world = World::with(3).await;
        close_stream(&world.broker, 1).await;
        let door = world.door().await;
        world.restart().await;
        world.write(written).await;
        assert_eq!(world.meet().await, [Case::Closed, Case::Equal]);
        world.assert_all_is_well().await;
        assert_ne!(world.door().await, door);
        assert!(set_aside(&world.db).await.is_empty());
        assert_eq!(audited(&world.db).await, ["stream replaced"]);
    }
    // By a later life: it is not ours to replace, and nothing can be appended to it.
    let world = World::with(3).await;
    close_stream(&world.broker, 2).await;
    let store = world.broker.store();
    assert_eq!(world.meet().await, [Case::LaterEpoch]);
    assert_eq!(world.broker.store(), store);
    world
        .is_refused_as_halted("it is in epoch 2, this file in epoch 1")
        .await;
}

/// The file that lost, started once more.
#[tokio::test(start_paused = true)]
async fn stream_later_epoch() {
    let mut world = World::with(2).await;
    let winner = clone_of(&world.db, &world.scratch.path("winner.db")).await;
    weigh_many(&winner, 1).await;
    new_epoch(&winner, &world.broker).await.unwrap();
    meet(&winner, &world.broker).await;
    let store = world.broker.store();
    world.restart().await;
    world.write(1).await;

    assert_eq!(world.meet().await, [Case::LaterEpoch]);
    world
        .is_refused_as_halted("it is in epoch 2, this file in epoch 1")
        .await;
    assert_eq!(world.broker.store(), store, "nothing is touched");
    assert_eq!(outbox_rows(&world.db).await, world.log);
}

#[tokio::test(start_paused = true)]
async fn stream_foreign() {
    let mut world = World::with(2).await;
    let elsewhere = World::with(3).await;
    world.broker.restore(elsewhere.broker.store());
    let store = world.broker.store();
    world.restart().await;

    assert_eq!(world.meet().await, [Case::Foreign]);
    world.is_refused_as_halted("it was made by database").await;
    assert_eq!(world.broker.store(), store, "nothing is touched");
    assert_eq!(outbox_rows(&world.db).await, world.log);

    // A new and empty database is no exception unless its predecessor is known to be gone.
    let fresh = Scratch::new();
    let db = fresh.producer().await;
    assert_eq!(meet(&db, &world.broker).await, [Case::Foreign]);
    assert_eq!(world.broker.store(), store);
}

#[tokio::test(start_paused = true)]
async fn stream_foreign_replaced() {
    let mut world = World::with(2).await;
    let elsewhere = World::with(3).await;
    world.broker.restore(elsewhere.broker.store());
    world.restart().await;
    let plan = new_epoch(&world.db, &world.broker).await.unwrap();
    assert_eq!((plan.common, plan.quarantined), (0, 3));

    assert_eq!(world.meet().await, [Case::ForeignReplaced, Case::Equal]);
    world.assert_all_is_well().await;
    assert_eq!(
        set_aside(&world.db).await,
        found_in(FoundIn::Stream, &elsewhere.log)
    );
    assert_eq!(audited(&world.db).await, ["new epoch", "stream replaced"]);

    // The decision was about that stream and no other.
    let third = World::with(1).await;
    world.broker.restore(third.broker.store());
    assert_eq!(world.meet().await, [Case::Foreign]);
}

/// The file is gone, its lock file is not: the new one becomes the old one, from the stream.
#[tokio::test(start_paused = true)]
async fn stream_database_lost() {
    let mut world = World::with(5).await;
    let (before, state) = (origin(&world.db).await, tables(&world.db).await);
    let store = world.broker.store();
    world.db.close().await;
    std::fs::remove_file(world.db.path()).unwrap();
    world.db = world.scratch.producer().await;
    let refused = weigh_again(&world.db, "a", 1).await;
    assert!(
        matches!(refused, Err(WriteError::MustImport(_))),
        "{refused:?}"
    );

    let cases = world.meet().await;
    let expected = [Case::DatabaseLost, Case::AheadAtFirstContact, Case::Equal];
    assert_eq!(cases, expected);
    assert_eq!(world.broker.store(), store, "the stream is only read");
    assert_eq!(origin(&world.db).await, before);
    assert_eq!(tables(&world.db).await, state);
    world.assert_all_is_well().await;
    let said = audited(&world.db).await;
    assert_eq!(
        said,
        ["marked", "identity taken over", "imported", "mark cleared"]
    );

    // Where the stream does not begin at 1 there is nothing to make a whole database from.
    world.db.close().await;
    std::fs::remove_file(world.db.path()).unwrap();
    world.broker.trim(1);
    world.db = world.scratch.producer().await;
    assert_eq!(world.meet().await, [Case::Foreign]);
}

/// Without the fold it is unknown how the missing events change the tables: the operator must run another program.
#[tokio::test(start_paused = true)]
async fn a_program_that_cannot_fold_its_log_halts_instead_of_importing() {
    let mut world = World::with(2).await;
    let image = Image::take(world.db.path());
    world.write(2).await;
    world.meet().await;
    world.db.close().await;
    image.roll_back(world.db.path());
    let mut foldless = unmarked();
    foldless.fold = None;
    world.db = Database::open(world.db.path(), foldless).await.unwrap();
    assert_eq!(world.meet().await, [Case::AheadAtFirstContact]);
    world
        .is_refused_as_halted("does not state how its tables follow")
        .await;
    assert_eq!(outbox_rows(&world.db).await, world.log[..2]);

    world.restart().await;
    world.meet().await;
    world.assert_all_is_well().await;
}

/// Half a log is worse than an old one: a service on such a file imports the rest before it writes.
#[tokio::test(start_paused = true)]
async fn an_import_that_is_killed_half_way_leaves_a_marked_file() {
    let mut world = World::with(2).await;
    let image = Image::take(world.db.path());
    world.write(4).await;
    world.meet().await;
    world.roll_back(&image).await; // unmarked
    let mortal = Mortal::after(6, &world.broker);
    let mut relay = Relay::new(&world.db, mortal);
    relay.import_one_by_one();
    relay.step().await.expect_err("it is killed");
    let half = outbox_rows(&world.db).await.len();
    assert!((3..6).contains(&half), "not half-way: {half}");
    drop(relay);
    kill(world.db.clone()).await;

    world.db = world.scratch.producer().await;
    let refused = weigh_again(&world.db, "a", 1).await;
    assert!(
        matches!(refused, Err(WriteError::MustImport(_))),
        "{refused:?}"
    );
    world.meet().await;
    world.assert_all_is_well().await;
}

/// What a damaged broker has lost cannot come home, be it in the middle or at the end: a person decides.
#[tokio::test(start_paused = true)]
async fn a_stream_that_has_lost_what_this_file_lacks_is_not_taken_over() {
    for lost in [4, 5] {
        let mut world = World::with(2).await;
        let backup = world.backup();
        world.write(3).await;
        world.meet().await;
        world.restore(&backup).await;
        world.broker.lose(lost);
        let store = world.broker.store();
        assert_eq!(world.meet().await, [Case::AheadAtFirstContact]);
        world
            .is_refused_as_halted(&format!("the stream has lost event {lost}"))
            .await;
        assert_eq!(world.broker.store(), store, "nothing is touched");

        world.restart().await;
        new_epoch(&world.db, &world.broker).await.unwrap();
        assert_eq!(world.meet().await, [Case::OlderEpoch, Case::Equal]);
        let log = outbox_rows(&world.db).await;
        assert_one_log(&world.db, &world.broker, &log).await;
        let mut kept = found_in(FoundIn::Stream, &log); // one list of all that can be found
        kept.extend(set_aside(&world.db).await);
        kept.sort_by_key(|(_, seq, _)| *seq);
        world.log.retain(|event| event.seq != lost);
        assert_eq!(kept, found_in(FoundIn::Stream, &world.log));
    }
}

/// What another moment may mend, a full disk for one, does not halt a service for good.
#[tokio::test(start_paused = true)]
async fn an_import_that_fails_for_the_moment_is_tried_again() {
    let mut world = World::with(2).await;
    let image = Image::take(world.db.path());
    world.write(3).await;
    world.meet().await;
    world.db.close().await;
    image.roll_back(world.db.path());
    let full = Arc::new(AtomicBool::new(true));
    let known = full.clone();
    let fold = Fold::new(&["parcels", "totals"], move |rows, event| {
        match known.load(Ordering::Relaxed) {
            true => Err(ApplyError::Transient("the disk is full".to_owned())),
            false => Ok(store(rows, &event.event)?),
        }
    });
    let options = options().fold(fold);
    world.db = Database::open(world.db.path(), options).await.unwrap();
    let mut relay = Relay::new(&world.db, world.broker.clone());
    for _ in 0..3 {
        let error = relay.step().await.expect_err("there is no room");
        assert!(
            relay::error::chain(&error).contains("the disk is full"),
            "{error:?}"
        );
        assert!(
            matches!(world.db.gate(), Gate::MustImport(_)),
            "{:?}",
            world.db.gate()
        );
    }
    full.store(false, Ordering::Relaxed);
    assert_eq!(
        settle(&mut relay).await,
        [Case::AheadAtFirstContact, Case::Equal]
    );
    world.assert_all_is_well().await;
}

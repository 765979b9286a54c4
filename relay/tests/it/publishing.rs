//! The relay over a broker that fails as the seed says: the stream becomes the outbox, byte for byte, or publishing halts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use relay::database::Gate;
use relay::log::{AppendLog, Connect, Log, Stream};
use relay::outbox::FoundIn;
use relay::publish::{Case, RelayState, Step};
use relay::testing::memory::MemoryBroker;
use relay::{Database, Relay, Stop, WriteError};

use crate::support::{
    Image, Mortal, Scratch, StillClock, assert_one_log, found_in, meet, outbox_rows, set_aside,
    settle, weigh, weigh_again, weigh_many,
};

/// Steps until the stream holds the whole outbox. Errors are what the broker's faults look like; they are retried.
async fn drain(relay: &mut Relay<MemoryBroker>, db: &Database, broker: &MemoryBroker) {
    for _ in 0..10_000 {
        let _retried = relay.step().await;
        if broker.records().len() as u64 == db.outbox().committed() {
            return;
        }
    }
    panic!(
        "the stream has {} of {} events",
        broker.records().len(),
        db.outbox().committed()
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_the_broker_does_the_stream_becomes_the_outbox() {
    let first_seed: u64 = std::env::var("FREEHOLD_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut fired = relay::testing::memory::Fired::default();
    for seed in first_seed..first_seed + 40 {
        println!("seed {seed}");
        let scratch = Scratch::quick();
        let db = scratch.producer().await;
        let broker = MemoryBroker::new(seed);
        broker.fail(0.2);
        let mut relay = Relay::new(&db, broker.clone());
        for round in 0..5 {
            for index in 0..(seed % 7 + 1) * 5 {
                weigh(&db, &format!("parcel-{index}"), 1, round + 1).await;
            }
            match seed % 3 {
                0 => broker.lose_tail(usize::try_from(seed % 5).unwrap()),
                1 if round == 2 => broker.restore(None),
                _ => broker.cut(),
            }
            drain(&mut relay, &db, &broker).await;
            assert_eq!(broker.records(), outbox_rows(&db).await);
        }
        let now = broker.fired();
        fired.cut_before_store += now.cut_before_store;
        fired.cut_amid_store += now.cut_amid_store;
        fired.cut_after_store += now.cut_after_store;
        assert!(db.gate() == Gate::Open, "seed {seed}: {:?}", db.gate());
    }
    let all_fired =
        fired.cut_before_store > 0 && fired.cut_amid_store > 0 && fired.cut_after_store > 0;
    assert!(all_fired, "a test without faults proves nothing: {fired:?}");
}

#[tokio::test(start_paused = true)]
async fn a_wiped_broker_is_filled_again_at_the_same_numbers() {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    for version in 1..=30 {
        weigh(&db, "a", 1, version).await;
    }
    let broker = MemoryBroker::new(1);
    let mut relay = Relay::new(&db, broker.clone());
    drain(&mut relay, &db, &broker).await;
    let before = broker.records();
    broker.restore(None);
    drain(&mut relay, &db, &broker).await;
    assert_eq!(broker.records(), before);
}

#[tokio::test(start_paused = true)]
async fn a_stream_deleted_while_nothing_is_written_is_noticed_by_the_timer() {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    weigh(&db, "a", 1, 1).await;
    let broker = MemoryBroker::new(1);
    let relay = Relay::new(&db, broker.clone());
    let stop = Stop::new();
    let running = tokio::spawn(relay.run(stop.clone()));
    eventually(|| broker.records().len() == 1).await;
    broker.delete();
    eventually(|| broker.records().len() == 1).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Two relays on copies of one file: the broker takes one line of events, the other relay halts and says so.
#[tokio::test(start_paused = true)]
async fn a_relay_on_a_copy_of_the_file_is_refused_and_halts() {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    weigh(&db, "a", 1, 1).await;
    let broker = MemoryBroker::new(1);
    let mut relay = Relay::new(&db, broker.clone());
    drain(&mut relay, &db, &broker).await;

    db.close().await;
    std::fs::create_dir(scratch.path("copy")).unwrap();
    std::fs::copy(scratch.path("parcels.db"), scratch.path("copy/parcels.db")).unwrap();
    let db = scratch.producer().await;
    let copy = Database::open(scratch.path("copy/parcels.db"), crate::support::options());
    let copy = copy.await.unwrap();
    let mut relay = Relay::new(&db, broker.clone());
    let mut rival = Relay::new(&copy, broker.clone());
    assert_eq!(relay.step().await.unwrap(), Step::Connected);
    assert_eq!(
        rival.step().await.unwrap(),
        Step::Connected,
        "so far both say the same"
    );

    weigh(&db, "a", 2, 2).await;
    assert_eq!(relay.step().await.unwrap(), Step::Published(1));
    let stream = broker.records();
    weigh(&copy, "a", 3, 2).await;
    rival
        .step()
        .await
        .expect_err("the broker refuses the second event at place 2");
    assert_eq!(rival.step().await.unwrap(), Step::Halted);
    assert_eq!(broker.records(), stream, "the rival changed nothing");
    let RelayState::Halted(reason) = rival.status().borrow().state.clone() else {
        panic!("not halted");
    };
    assert!(reason.contains("at 2 it holds"), "{reason}");
    let write = copy.write(|_| Ok::<_, ()>(())).await;
    assert!(matches!(write, Err(WriteError::Halted(_))));
    assert_eq!(
        relay.step().await.unwrap(),
        Step::Checked,
        "the original goes on"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_relay_notices_a_rival_by_the_timer() {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    weigh(&db, "a", 1, 1).await;
    let broker = MemoryBroker::new(1);
    let mut relay = Relay::new(&db, broker.clone());
    drain(&mut relay, &db, &broker).await;

    db.close().await;
    std::fs::copy(scratch.path("parcels.db"), scratch.path("copy.db")).unwrap();
    let db = scratch.producer().await;
    let mut options = crate::support::options();
    options.open_without_stream = true; // what a volume snapshot looks like: nothing says that it is a copy
    let copy = Database::open(scratch.path("copy.db"), options).await;
    let copy = copy.unwrap();
    let stop = Stop::new();
    let idle = Relay::new(&db, broker.clone());
    let status = idle.status();
    let idle = tokio::spawn(idle.run(stop.clone()));
    eventually(|| status.borrow().stream_head.is_some()).await;
    weigh(&copy, "a", 3, 2).await;
    let mut rival = Relay::new(&copy, broker.clone());
    drain(&mut rival, &copy, &broker).await;

    eventually(|| db.gate().reason().is_some()).await;
    assert!(
        db.gate()
            .reason()
            .unwrap()
            .contains("ends at 2, this database at 1"),
        "{:?}",
        db.gate()
    );
    stop.cancel();
    idle.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_databases_stream_is_left_alone() {
    let (scratch, other) = (Scratch::quick(), Scratch::quick());
    let (db, stranger) = (scratch.producer().await, other.producer().await);
    weigh(&db, "a", 1, 1).await;
    weigh(&stranger, "b", 1, 1).await;
    let broker = MemoryBroker::new(1);
    drain(&mut Relay::new(&db, broker.clone()), &db, &broker).await;
    let stream = broker.records();
    let mut relay = Relay::new(&stranger, broker.clone());
    assert_eq!(relay.step().await.unwrap(), Step::Halted);
    assert!(
        stranger
            .gate()
            .reason()
            .unwrap()
            .contains("was made by database")
    );
    assert_eq!(broker.records(), stream);
}

#[tokio::test(start_paused = true)]
async fn a_commit_wakes_the_relay() {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    let broker = MemoryBroker::new(1);
    let stop = Stop::new();
    let relay = Relay::new(&db, broker.clone());
    let mut status = relay.status();
    let running = tokio::spawn(relay.run(stop.clone()));
    let publishing = status.wait_for(|status| status.state == RelayState::Publishing);
    publishing.await.unwrap();
    weigh(&db, "a", 1, 1).await;
    status
        .wait_for(|status| status.stream_head == Some(1))
        .await
        .unwrap();
    assert_eq!(broker.records(), outbox_rows(&db).await);
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A volume rolled back to an older state, lock file and all, under clients that write at once and try again: between the
/// look at the stream and what it comes to, no write is acknowledged.
#[tokio::test(start_paused = true)]
async fn a_write_cannot_come_between_the_first_look_and_the_import_it_calls_for() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 2).await;
    let image = Image::take(db.path());
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    let mut log = outbox_rows(&db).await;
    db.close().await;
    image.roll_back(db.path());
    let db = scratch.producer().await;
    assert_eq!(
        db.gate(),
        Gate::Open,
        "nothing local tells that it is older"
    );

    let acknowledged = Arc::new(AtomicU64::new(0));
    let (clients, done) = (db.clone(), acknowledged.clone());
    let slow = Mortal::slow(&broker, move || {
        let (clients, done, before) = (clients.clone(), done.clone(), done.load(Ordering::Relaxed));
        let known = done.clone();
        tokio::spawn(async move {
            if weigh_again(&clients, "a", 1).await.is_ok() {
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
        Box::pin(async move {
            StillClock::moments(|| known.load(Ordering::Relaxed) > before).await;
        })
    });
    let _still = StillClock::new(); // the second for which writes wait does not end
    let mut relay = Relay::new(&db, slow);
    assert_eq!(
        relay.step().await.unwrap(),
        Step::Connected,
        "{:?}",
        db.gate()
    );
    log.push(weigh_again(&db, "a", 1).await.unwrap());
    assert_eq!(relay.step().await.unwrap(), Step::Published(1));
    assert_one_log(&db, &broker, &log).await;
    assert_eq!(acknowledged.load(Ordering::Relaxed), 0, "too early");
}

/// No write waits for a broker that is out of reach, nor for a relay that never looks.
#[tokio::test(start_paused = true)]
async fn writes_wait_for_the_first_look_only_while_there_can_be_one() {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    let broker = MemoryBroker::new(1);
    broker.fail(1.0);
    let mut relay = Relay::new(&db, broker.clone());
    assert!(matches!(db.gate(), Gate::Held { .. }), "{:?}", db.gate());
    relay.step().await.expect_err("there is no connection");
    assert_eq!(db.gate(), Gate::Open);
    weigh(&db, "a", 1, 1).await;
    drop(relay);

    let _never_looks = Relay::new(&db, broker.clone());
    assert!(matches!(db.gate(), Gate::Held { .. }), "{:?}", db.gate());
    weigh(&db, "a", 2, 2).await;
    assert_eq!(db.gate(), Gate::Open);
}

/// A broker that answers too late holds no write up. What is written meanwhile into an older copy is a fork, and is named.
#[tokio::test(start_paused = true)]
async fn a_look_that_takes_too_long_holds_no_write_up() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    let image = Image::take(db.path());
    weigh(&db, "a", 1, 1).await;
    meet(&db, &broker).await;
    db.close().await;
    image.roll_back(db.path());
    let db = scratch.producer().await;
    let client = db.clone();
    let slow = Mortal::slow(&broker, move || {
        let client = client.clone();
        Box::pin(async move {
            weigh(&client, "a", 2, 1).await;
        })
    });
    assert_eq!(Relay::new(&db, slow).step().await.unwrap(), Step::Halted);
    let why = db.gate().reason().unwrap().to_owned();
    assert!(why.contains("at 1 it holds"), "{why}");
}

/// A contact comes every two seconds, also under load: what waits is published before anything is compared, and after that
/// no publish waits for more than one small comparison.
#[tokio::test(start_paused = true)]
async fn nothing_that_can_wait_delays_a_publish_by_more_than_a_step() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 2_000).await;
    let watched = Mortal::watched(&broker);
    let mut relay = Relay::new(&db, watched.clone());
    for _ in 0..4 {
        relay.step().await.unwrap();
    }
    let reads = |asked: &[String]| -> Vec<usize> {
        let sizes = asked.iter().filter_map(|what| what.strip_prefix("read "));
        sizes.map(|size| size.parse().unwrap()).collect()
    };
    let quiet = reads(&watched.asked());
    assert!(
        quiet.iter().sum::<usize>() >= 500,
        "nothing was compared: {quiet:?}"
    );

    relay.look_next();
    weigh_many(&db, 1).await;
    assert_eq!(relay.step().await.unwrap(), Step::Checked);
    assert_eq!(
        watched.asked(),
        ["head", "read 1"],
        "the contact, and nothing else"
    );
    let mut compared = 0;
    for _ in 0..20 {
        assert_eq!(relay.step().await.unwrap(), Step::Published(1));
        let asked = watched.asked();
        let (last, before) = asked.split_last().unwrap();
        assert_eq!(last, "append 1");
        assert!(before.len() <= 1, "{before:?}");
        let sizes = reads(before);
        assert!(sizes.iter().all(|size| *size <= 50), "{before:?}");
        compared += sizes.iter().sum::<usize>();
        weigh_many(&db, 1).await;
    }
    assert_eq!(compared, 500, "and all is compared between the publishes");
}

/// A message that changed on the broker's disk without a trace is found by comparing, round after round.
#[tokio::test(start_paused = true)]
async fn an_event_that_changed_in_the_stream_is_found_and_replaced() {
    let (scratch, broker, other) = (Scratch::quick(), MemoryBroker::new(1), MemoryBroker::new(2));
    let db = scratch.producer().await;
    let log = weigh_many(&db, 1_200).await;
    let mut changed = log.clone();
    changed[699].bytes = log[698].bytes.clone();
    let mut relay = Relay::new(&db, broker.clone());
    settle(&mut relay).await;
    let mut session = other.connect().await.unwrap();
    let head = head_of(&broker).await;
    let head = session
        .create(1, &head.origin, &head.incarnation)
        .await
        .unwrap();
    session.append_after(&head, &changed).await.unwrap();
    broker.restore(other.store());
    let mut cases = Vec::new();
    for _ in 0..4 {
        cases.extend(settle(&mut relay).await);
    }
    assert!(cases.contains(&Case::Holed), "{cases:?}");
    assert_one_log(&db, &broker, &log).await;
    assert_eq!(
        set_aside(&db).await,
        found_in(FoundIn::Stream, &changed[699..700])
    );
}

/// What the scrub has found is over with the halt: it must not be looked for again and again.
#[tokio::test]
async fn a_stream_that_another_process_extends_while_a_difference_is_found_halts_the_relay() {
    let (scratch, broker, other) = (Scratch::quick(), MemoryBroker::new(1), MemoryBroker::new(2));
    let db = scratch.producer().await;
    let mut changed = weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    changed[1].bytes = changed[0].bytes.clone();
    let mut session = other.connect().await.unwrap();
    let head = head_of(&broker).await;
    let head = session
        .create(1, &head.origin, &head.incarnation)
        .await
        .unwrap();
    let head = session.append_after(&head, &changed).await.unwrap();
    let differs = other.store();
    let mut one_more = changed[2].clone();
    one_more.seq = 4;
    session.append_after(&head, &[one_more]).await.unwrap();
    let extended = other.store();

    let left = Arc::new(AtomicU64::new(u64::MAX));
    let (heads, whose) = (left.clone(), broker.clone());
    let watched = Mortal::slow(&broker, move || {
        // A cut contact asks, one on a new connection, a third, and then the scrub that has found the difference.
        if heads.fetch_sub(1, Ordering::Relaxed) == 1 {
            whose.restore(extended.clone());
        }
        Box::pin(async {})
    });
    let mut relay = Relay::new(&db, watched);
    relay.step().await.unwrap();
    relay.finish_chores().await.unwrap();
    broker.restore(differs);
    left.store(4, Ordering::Relaxed);
    let halted = async {
        for _ in 0..10 {
            relay.look_next();
            if let Ok(Step::Halted) = relay.step().await {
                return;
            }
            let _cut = relay.finish_chores().await;
        }
        panic!("it goes on: {:?}", relay.status().borrow());
    };
    let halted = tokio::time::timeout(Duration::from_secs(30), halted).await;
    halted.expect("a step ends");
    assert!(matches!(db.gate(), Gate::Halted(_)), "{:?}", db.gate());
}

/// What the broker refuses beside publishing is seen for as long as it is so, and the stream's size before it is full.
#[tokio::test(start_paused = true)]
async fn the_status_says_what_the_broker_refuses_and_how_full_the_stream_is() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    let watched = Mortal::watched(&broker);
    let mut relay = Relay::new(&db, watched.clone());
    let status = relay.status();
    relay.step().await.unwrap();
    assert_eq!(
        (&status.borrow().trouble, status.borrow().stream_bytes),
        (&None, None)
    );
    for (used, nearly_full) in [(79, false), (80, true), (100, true), (79, false)] {
        watched.about().room(used, 100);
        watched.about().refuse(nearly_full);
        relay.look_next();
        relay.step().await.unwrap();
        relay.finish_chores().await.unwrap();
        let status = status.borrow();
        assert_eq!(status.stream_bytes, Some((used, 100)));
        assert_eq!(status.is_nearly_full(), nearly_full, "{used}");
        let refused = "the stream stays as an earlier version made it: the broker says no";
        assert_eq!(status.trouble.as_deref(), nearly_full.then_some(refused));
        assert_eq!(status.state, RelayState::Publishing);
    }
}

async fn head_of(broker: &MemoryBroker) -> relay::log::Head {
    let mut session = broker.connect().await.unwrap();
    session.head().await.unwrap().unwrap()
}

/// Virtual time passes while this waits, so timers fire at once.
async fn eventually(fact: impl Fn() -> bool) {
    let waiting = async {
        while !fact() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .expect("it happens within a minute");
}

//! The consumer over the in-memory broker: once, in order, and never another log.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use relay::consume::Progress;
use relay::testing::AnyEvent;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Options, Received, Relay};

use crate::support::{
    Clock, MIGRATIONS, Scratch, Weighed, applied, catch_up, count, history, meet, owned, publish,
    remember, weigh,
};

#[tokio::test(start_paused = true)]
async fn every_event_is_applied_once_and_in_order_whatever_the_broker_does() {
    let first_seed: u64 = std::env::var("FREEHOLD_SEED").map_or(1, |seed| seed.parse().unwrap());
    let (mut behind, mut cut) = (0, 0);
    for seed in first_seed..first_seed + 40 {
        println!("seed {seed}");
        let scratch = Scratch::quick();
        let (producer, reader) = (scratch.producer().await, scratch.reader().await);
        let broker = MemoryBroker::new(seed);
        let consumer = history();
        for version in 1..=10 {
            for parcel in ["a", "b", "c"] {
                weigh(&producer, parcel, 1, version).await;
            }
            broker.fail(0.0);
            publish(&producer, &broker).await;
            broker.fail(0.3);
            catch_up(&consumer, &reader, &broker).await;
        }
        // `remember` refuses any version but the next: no dead letter means no gap, no repeat, no swap.
        assert_eq!(count(&reader, "relay_dead_letter").await, 0, "seed {seed}");
        assert_eq!(count(&reader, "history").await, 30, "seed {seed}");
        behind += broker.fired().behind;
        cut += broker.fired().cut_read;
    }
    assert!(
        behind > 0 && cut > 0,
        "a test without faults proves nothing"
    );
}

/// Live copies that skip, repeat, come late or come from a replaced log, and copies of the log that are behind.
#[tokio::test(start_paused = true)]
async fn every_event_is_applied_once_and_in_order_whatever_arrives_live() {
    let first_seed: u64 = std::env::var("FREEHOLD_SEED").map_or(1, |seed| seed.parse().unwrap());
    let (mut skipped, mut repeated, mut behind) = (0, 0, 0);
    for seed in first_seed..first_seed + 40 {
        println!("seed {seed}");
        let scratch = Scratch::quick();
        let (producer, reader) = (scratch.producer().await, scratch.reader().await);
        let broker = MemoryBroker::new(seed);
        meet(&producer, &broker).await;
        let consumer = history();
        let mut follower = consumer.follow(&reader, broker.reader());
        assert_eq!(follower.step().await.unwrap(), Progress::Connected);
        broker.mislead(0.4);
        for version in 1..=10 {
            for parcel in ["a", "b", "c"] {
                weigh(&producer, parcel, 1, version).await;
            }
            publish(&producer, &broker).await;
            while consumer.status().borrow().offset < 3 * version {
                let _missing = follower.step().await;
            }
        }
        assert_eq!(count(&reader, "relay_dead_letter").await, 0, "seed {seed}");
        assert_eq!(count(&reader, "history").await, 30, "seed {seed}");
        let fired = broker.fired();
        skipped += fired.live_skipped;
        repeated += fired.live_repeated;
        behind += fired.behind;
    }
    assert!(
        skipped > 0 && repeated > 0 && behind > 0,
        "a test without faults proves nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_transient_failure_keeps_what_came_before_and_is_retried_from_there() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    let open = Arc::new(AtomicBool::new(false));
    let consumer = Consumer::projection("parcel-history", {
        let open = open.clone();
        move |rows, event: &Received<Weighed>| match event.event.parcel.as_str() {
            "b" if !open.load(Ordering::Relaxed) => {
                Err(ApplyError::Transient("not yet".to_owned()))
            }
            _ => remember(rows, event),
        }
    });
    for parcel in ["a", "b", "c"] {
        weigh(&producer, parcel, 1, 1).await;
    }
    publish(&producer, &broker).await;
    let mut follower = consumer.follow(&reader, broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    let error = follower.step().await.unwrap_err();
    assert!(error.to_string().contains("not yet"), "{error}");
    assert_eq!(applied(&reader).await, [(1, "a")].map(owned));

    open.store(true, Ordering::Relaxed);
    catch_up(&consumer, &reader, &broker).await;
    assert_eq!(
        applied(&reader).await,
        [(1, "a"), (2, "b"), (3, "c")].map(owned)
    );
    assert_eq!(count(&reader, "relay_dead_letter").await, 0);
}

/// SQLite rolls the whole transaction back when it cannot get a page. Neither the offset nor a dead letter of that
/// batch may survive it.
#[tokio::test(start_paused = true)]
async fn a_full_disk_amid_a_batch_loses_no_event() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    for version in 1..=3 {
        weigh(&producer, "a", 1, version).await;
    }
    publish(&producer, &broker).await;
    let consumer = Consumer::projection("parcel-history", |rows, event: &Received<Weighed>| {
        remember(rows, event)?;
        if event.seq == 3 {
            rows.execute_batch("create table if not exists big (x blob)")?;
            rows.execute("insert into big values (zeroblob(500000))", [])?;
        }
        Ok(())
    })
    // A full disk is no event's fault, however few attempts an event has.
    .gives_up_after(1);
    limit_pages(&reader, 60).await;
    let mut follower = consumer.follow(&reader, broker.reader());
    follower.step().await.unwrap();
    follower
        .step()
        .await
        .expect_err("there is no room for the third event");
    assert_eq!(
        count(&reader, "relay_offset").await,
        0,
        "the offset moved without its effects"
    );
    assert_eq!(count(&reader, "relay_dead_letter").await, 0);

    limit_pages(&reader, 100_000).await;
    catch_up(&consumer, &reader, &broker).await;
    assert_eq!(
        applied(&reader).await,
        [(1, "a"), (2, "a"), (3, "a")].map(owned)
    );
}

async fn limit_pages(db: &Database, pages: u32) {
    let limit = db.write(move |tx| tx.pragma_update(None, "max_page_count", pages));
    limit.await.unwrap();
}

/// A step that is given up has not undone its transaction.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_given_up_and_repeated_applies_nothing_twice() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    weigh(&producer, "a", 1, 1).await;
    publish(&producer, &broker).await;
    let sql = "create table if not exists tally (seq integer)";
    reader.write(move |tx| tx.execute_batch(sql)).await.unwrap();
    let consumer = Consumer::projection("tally", |rows, event: &Received<Weighed>| {
        rows.execute("insert into tally values (?1)", [event.seq])?;
        Ok(())
    });
    // The writer is held up, so that the batch of the given-up step is still in its queue when the next step begins.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let holding = reader.write(move |_| held.recv().map_err(|_| ()));
    tokio::pin!(holding);
    assert!(futures::poll!(&mut holding).is_pending());
    let mut follower = consumer.follow(&reader, broker.reader());
    follower.step().await.unwrap();
    {
        let step = follower.step();
        tokio::pin!(step);
        let given_up = futures::poll!(&mut step);
        assert!(given_up.is_pending(), "the writer is held up");
    }
    let again = catch_up(&consumer, &reader, &broker);
    tokio::pin!(again);
    assert!(futures::poll!(&mut again).is_pending());
    release.send(()).unwrap();
    holding.await.unwrap();
    again.await;
    assert_eq!(count(&reader, "tally").await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_reaction_emits_commits_with_the_offset() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(7);
    let consumer = Consumer::reaction("echo", |tx, event: &Received<Weighed>| {
        tx.emit(&AnyEvent::new(
            "scales.noticed.v1",
            &event.aggregate,
            &event.event,
        ))?;
        Ok(())
    });
    for index in 0..60 {
        weigh(&producer, &format!("parcel-{index}"), 1, 1).await;
        publish(&producer, &broker).await;
        broker.fail(0.3);
        catch_up(&consumer, &reader, &broker).await;
        broker.fail(0.0);
    }
    assert_eq!(
        reader.outbox().committed(),
        60,
        "one for each, however often it was read"
    );
}

#[tokio::test(start_paused = true)]
async fn a_halted_database_still_projects_and_no_longer_reacts() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    weigh(&producer, "a", 1, 1).await;
    publish(&producer, &broker).await;
    reader.halt("a rival was seen");
    catch_up(&history(), &reader, &broker).await;
    assert_eq!(count(&reader, "history").await, 1);

    let nothing = |_: &relay::Tx<'_>, _: &Received<Weighed>| Ok(());
    let reaction = Consumer::reaction("echo", nothing);
    let mut follower = reaction.follow(&reader, broker.reader());
    follower.step().await.unwrap();
    let error = follower.step().await.unwrap_err().to_string();
    assert!(error.contains("a rival was seen"), "{error}");
    assert_eq!(reaction.status().borrow().offset, 0);
}

#[tokio::test(start_paused = true)]
async fn another_log_at_the_same_numbers_is_never_applied() {
    let (scratch, other) = (Scratch::quick(), Scratch::quick());
    let (producer, stranger, reader) = (
        scratch.producer().await,
        other.producer().await,
        scratch.reader().await,
    );
    for db in [&producer, &stranger] {
        for version in 1..=3 {
            weigh(db, "a", 1, version).await;
        }
    }
    let (broker, elsewhere) = (MemoryBroker::new(1), MemoryBroker::new(2));
    publish(&producer, &broker).await;
    weigh(&stranger, "a", 1, 4).await;
    publish(&stranger, &elsewhere).await;
    let consumer = history();
    catch_up(&consumer, &reader, &broker).await;

    let mut follower = consumer.follow(&reader, broker.reader());
    follower.step().await.unwrap();
    broker.restore(elsewhere.store());
    follower.step().await.expect_err("the connection was cut");
    for _ in 0..3 {
        let error = follower.step().await.unwrap_err();
        assert!(error.to_string().contains("this is another log"), "{error}");
    }
    assert_eq!(count(&reader, "history").await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_stream_recreated_under_a_living_reader_is_checked_again() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    weigh(&producer, "a", 1, 1).await;
    let broker = MemoryBroker::new(1);
    publish(&producer, &broker).await;
    let consumer = history();
    let mut follower = consumer.follow(&reader, broker.reader());
    while consumer.status().borrow().offset < 1 {
        follower.step().await.unwrap();
    }
    broker.delete();
    publish(&producer, &broker).await;
    let seen = loop {
        if let Err(error) = follower.step().await {
            break error.to_string();
        }
    };
    assert!(seen.contains("was recreated"), "{seen}");
    weigh(&producer, "a", 1, 2).await;
    publish(&producer, &broker).await;
    catch_up(&consumer, &reader, &broker).await;
    assert_eq!(count(&reader, "history").await, 2);
}

#[tokio::test(start_paused = true)]
async fn events_trimmed_before_they_were_applied_are_reported_and_nothing_is_skipped() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    let consumer = history();
    weigh(&producer, "a", 1, 1).await;
    publish(&producer, &broker).await;
    catch_up(&consumer, &reader, &broker).await;
    for version in 2..=5 {
        weigh(&producer, "a", 1, version).await;
    }
    publish_all(&producer, &broker).await;

    broker.trim(1); // up to the offset: nothing is missing
    let mut follower = consumer.follow(&reader, broker.reader());
    follower.step().await.unwrap();
    broker.trim(3);
    let error = loop {
        if let Err(error) = follower.step().await {
            break error.to_string();
        }
    };
    assert!(error.contains("reading again"), "{error}");
    let error = follower.step().await.unwrap_err().to_string();
    assert!(error.contains("begins at 4, after the offset 1"), "{error}");
    let newcomer = Consumer::projection("newcomer", remember);
    let error = newcomer
        .follow(&reader, broker.reader())
        .step()
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("begins at 4, after the offset 0"), "{error}");
    assert_eq!(count(&reader, "history").await, 1);
}

async fn publish_all(db: &Database, broker: &MemoryBroker) {
    let mut relay = Relay::new(db, broker.clone());
    while relay.status().borrow().stream_head != Some(db.outbox().committed()) {
        relay.step().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_knows_when_it_last_had_everything() {
    let scratch = Scratch::quick();
    let (producer, broker) = (scratch.producer().await, MemoryBroker::new(1));
    let clock = Arc::new(Clock::at(1_000));
    let options = Options {
        environment: clock.clone(),
        ..Options::new("scale-service", "SCALES", MIGRATIONS)
    };
    let path = scratch.path("scales.db");
    let reader = Database::open(path, options).await.unwrap();
    let consumer = history();
    let mut follower = consumer.follow(&reader, broker.reader());
    let at_s = || {
        let at_ms = consumer.status().borrow().caught_up_at_ms;
        at_ms.map(|ms| ms / 1000)
    };
    weigh(&producer, "a", 1, 1).await;
    publish(&producer, &broker).await;
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    assert_eq!(at_s(), None, "an event waits");
    clock.tick(10);
    assert_eq!(follower.step().await.unwrap(), Progress::Applied(1));
    let why = "all that was there at the look, and who knows what has come since";
    assert_eq!(at_s(), Some(1_000), "{why}");
    assert_eq!(follower.step().await.unwrap(), Progress::Idle); // it waited, and then it looks
    assert_eq!(follower.step().await.unwrap(), Progress::Idle);
    assert_eq!(at_s(), Some(1_010), "nothing came, and that is news too");

    clock.tick(10);
    weigh(&producer, "a", 1, 2).await;
    publish(&producer, &broker).await;
    assert_eq!(follower.step().await.unwrap(), Progress::Applied(1));
    assert_eq!(at_s(), Some(1_010));
    broker.cut();
    clock.tick(10);
    follower.step().await.unwrap_err();
    assert_eq!(
        at_s(),
        Some(1_010),
        "a consumer without a stream knows nothing new"
    );
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    assert_eq!(at_s(), Some(1_030));
}

#[tokio::test]
async fn what_was_applied_before_a_restart_is_known_before_the_stream_is() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    weigh(&producer, "a", 1, 1).await;
    weigh(&producer, "b", 1, 1).await;
    publish(&producer, &broker).await;
    catch_up(&history(), &reader, &broker).await;
    broker.delete();

    let restarted = history();
    assert_eq!(restarted.status().borrow().offset, 0);
    let mut follower = restarted.follow(&reader, broker.reader());
    follower.step().await.unwrap_err();
    assert_eq!(restarted.status().borrow().offset, 2);
}

/// While one transaction is open no other write of the service gets through, so a slow handler gets many of them.
#[tokio::test]
async fn a_transaction_ends_after_a_while_and_the_next_one_goes_on_with_the_events_that_are_left() {
    let scratch = Scratch::quick();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    for version in 1..=8 {
        weigh(&producer, "a", 1, version).await;
    }
    publish(&producer, &broker).await;
    let slow = |rows: &relay::Rows<'_>, event: &Received<Weighed>| {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(40) {
            std::thread::yield_now();
        }
        remember(rows, event)
    };
    let consumer = Consumer::projection("parcel-history", slow);
    let mut follower = consumer.follow(&reader, broker.reader());
    let mut most = 0;
    while consumer.status().borrow().offset < 8 {
        if let Progress::Applied(count) = follower.step().await.unwrap() {
            most = most.max(count);
        }
    }
    assert!((1..8).contains(&most), "{most} of 8 events at once");
    let all: Vec<_> = (1..=8).map(|seq| (seq, "a")).map(owned).collect();
    assert_eq!(applied(&reader).await, all);
}

//! Retention: what may go, what never goes, and in which order.

use std::sync::Arc;
use std::time::Duration;

use relay::memory::MemoryBroker;
use relay::{Database, Options, Relay, Retention, Step};

use crate::support::{
    Clock, Front, Mortal, Scratch, follow, kill, meet, options, outbox_rows, settle,
    store_and_emit, totals, weigh_many, weighed,
};

fn newest(max_events: u64) -> Retention {
    Retention {
        max_events: Some(max_events),
        ..Retention::default()
    }
}

/// The oldest place that the outbox keeps, and the stream.
async fn firsts(db: &Database, broker: &MemoryBroker) -> (u64, u64) {
    (outbox_rows(db).await[0].seq, broker.records()[0].seq)
}

async fn keep(db: &Database, broker: &MemoryBroker, retention: Retention) {
    settle(&mut Relay::new(db, broker.clone()).keep(retention)).await;
    let (outbox, stream) = (outbox_rows(db).await, broker.records());
    assert_eq!(outbox.last(), stream.last(), "the head stays");
    assert!(
        outbox.ends_with(&stream),
        "the outbox can always fill the stream"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_unless_somebody_asks() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 20).await;
    keep(&db, &broker, Retention::default()).await;
    assert_eq!(firsts(&db, &broker).await, (1, 1));
    let readers_only = Retention {
        past_readers: true,
        ..Retention::default()
    };
    keep(&db, &broker, readers_only).await;
    assert_eq!(firsts(&db, &broker).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn so_many_of_the_newest_events_are_kept_and_never_none() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 20).await;
    for (most, first) in [(30, 1), (20, 1), (5, 16), (1, 20), (0, 20)] {
        keep(&db, &broker, newest(most)).await;
        assert_eq!(firsts(&db, &broker).await, (first, first), "at most {most}");
    }
    let more = weigh_many(&db, 2).await;
    keep(&db, &broker, newest(2)).await;
    assert_eq!(outbox_rows(&db).await, more, "and it goes on from there");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_published_stays() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 6).await;
    meet(&db, &broker).await;
    weigh_many(&db, 6).await;
    let mut relay = Relay::new(&db, broker.clone()).keep(newest(2));
    assert_eq!(relay.step().await.unwrap(), Step::Connected);
    let mut head = 12;
    while firsts(&db, &broker).await == (1, 1) {
        assert!(matches!(relay.step().await.unwrap(), Step::Published(_)));
        let published = broker.records().last().unwrap().seq;
        assert_eq!(published, head, "rows wait only for a step");
        head = weigh_many(&db, 6).await.last().unwrap().seq;
    }
    let published = head - 6;
    let kept = firsts(&db, &broker).await;
    assert_eq!(kept, (published - 6, published - 6), "what the stream had");
}

#[tokio::test(start_paused = true)]
async fn events_older_than_the_limit_go() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let clock = Arc::new(Clock::at(1_000_000));
    let options = Options {
        environment: clock.clone(),
        ..options()
    };
    let db = Database::open(scratch.path("parcels.db"), options)
        .await
        .unwrap();
    let tick = |seconds| clock.tick(seconds);
    for _ in 0..5 {
        weigh_many(&db, 2).await;
        tick(60);
    }
    // The oldest two are 300 seconds old, the newest two 60.
    let aged = |seconds| Retention {
        max_age: Some(Duration::from_secs(seconds)),
        ..Retention::default()
    };
    for (age, first) in [(301, 1), (300, 1), (299, 3), (120, 7), (10, 10)] {
        keep(&db, &broker, aged(age)).await;
        assert_eq!(firsts(&db, &broker).await, (first, first), "{age} seconds");
    }
    // With two limits, what either permits.
    weigh_many(&db, 4).await;
    tick(60);
    weigh_many(&db, 4).await;
    let both = |max_events, seconds| Retention {
        max_events: Some(max_events),
        ..aged(seconds)
    };
    keep(&db, &broker, both(6, 1_000)).await;
    assert_eq!(firsts(&db, &broker).await.0, 13);
    keep(&db, &broker, both(100, 30)).await;
    assert_eq!(firsts(&db, &broker).await.0, 15);
}

async fn many(db: &Database, count: u64) {
    let write = db.write(move |tx| {
        (0..count).try_for_each(|index| store_and_emit(tx, &weighed("a", 1, index + 1)).map(drop))
    });
    write.await.unwrap();
}

/// Other writes have their turn in between.
#[tokio::test(start_paused = true)]
async fn an_outbox_is_pruned_in_small_steps() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    many(&db, 6_000).await;
    meet(&db, &broker).await;
    let mut relay = Relay::new(&db, broker.clone()).keep(newest(1));
    assert_eq!(relay.step().await.unwrap(), Step::Connected);
    assert_eq!(
        firsts(&db, &broker).await,
        (5_001, 6_000),
        "one contact takes 5000 at most"
    );
    assert_eq!(relay.step().await.unwrap(), Step::Checked);
    assert_eq!(
        firsts(&db, &broker).await,
        (6_000, 6_000),
        "the next one goes on"
    );
}

/// The stream first, then the outbox: wherever it is killed, the outbox can fill the stream.
#[tokio::test(start_paused = true)]
async fn a_kill_amid_the_removal_leaves_nothing_that_only_the_stream_holds() {
    for operations in 1..12 {
        let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
        let db = scratch.producer().await;
        weigh_many(&db, 8).await;
        meet(&db, &broker).await;
        let mut relay = Relay::new(&db, Mortal::after(operations, &broker)).keep(newest(3));
        while relay.step().await.is_ok() {}
        drop(relay);
        let (outbox, stream) = firsts(&db, &broker).await;
        assert!(
            outbox <= stream,
            "after {operations} operations: {outbox} {stream}"
        );
        let path = db.path().to_owned();
        kill(db).await;
        let db = Database::open(&path, options()).await.unwrap();
        keep(&db, &broker, newest(3)).await;
        assert_eq!(firsts(&db, &broker).await, (6, 6));
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_was_passed_comes_up_from_a_snapshot() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let (db, reader) = (scratch.producer().await, scratch.reader().await);
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    let consumer = totals(Front::of(&db));
    follow(&consumer, &reader, &broker).await;
    weigh_many(&db, 9).await;
    let past = Retention {
        past_readers: true,
        ..newest(2)
    };
    keep(&db, &broker, past).await;
    assert_eq!(firsts(&db, &broker).await, (11, 11));
    follow(&consumer, &reader, &broker).await;
    assert_eq!(consumer.status().borrow().rebuilt, 1);
    let (ours, theirs) = (
        reader.read(crate::support::read_totals),
        db.read(crate::support::read_totals),
    );
    assert_eq!(ours.await.unwrap(), theirs.await.unwrap());
    assert!(reader.set_aside().await.unwrap().is_empty());
}

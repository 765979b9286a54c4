//! The suite over the logs that need no broker, and the suite's own proof: each planted bug must be seen.

use relay::log::{AppendLog, Connect, Log, Origin, Reader, Stream};
use relay::testing::conformance::{Logs, chain, stream_suite, suite};
use relay::testing::memory::{MemoryBroker, MemoryReadApi, MemorySession, PlantedBug};
use relay::{Database, Fold, Options};

use crate::support::Scratch;

/// A rule that silently stops running is a lost test.
const RULES: usize = 11;
const STREAM_RULES: usize = 7;

async fn fresh_stream(broker: &MemoryBroker) -> MemorySession {
    let origin = Origin {
        database_id: uuid::Uuid::from_u128(7),
        epoch: 1,
    };
    let mut writer = broker.connect().await.unwrap();
    writer.create(1, &origin, "0").await.unwrap();
    writer
}

/// All three sessions are the owner's.
async fn memory(bug: Option<PlantedBug>) -> Logs<MemorySession, MemorySession> {
    let broker = MemoryBroker::new(1);
    let writer = fresh_stream(&broker).await;
    if let Some(bug) = bug {
        broker.plant(bug);
    }
    Logs {
        writer,
        rival: broker.connect().await.unwrap(),
        reader: broker.connect().await.unwrap(),
    }
}

/// The reader is no owner: it has its three calls only.
async fn as_a_reader(broker: &MemoryBroker) -> Logs<MemorySession, Reader<MemoryReadApi>> {
    Logs {
        writer: fresh_stream(broker).await,
        rival: broker.connect().await.unwrap(),
        reader: broker.reader().connect().await.unwrap(),
    }
}

/// Half of what arrives live misleads, and half of the answers come from a copy that is behind.
#[tokio::test(start_paused = true)]
async fn a_reader_that_is_misled_keeps_every_rule() {
    let mut fired = 0;
    for seed in 1..=20 {
        let brokers = std::cell::RefCell::new(Vec::new());
        let misled = async || {
            let broker = MemoryBroker::new(seed);
            broker.mislead(0.5);
            brokers.borrow_mut().push(broker.clone());
            as_a_reader(&broker).await
        };
        assert_eq!(suite(misled).await, Ok(RULES), "seed {seed}");
        assert_eq!(stream_suite(misled).await, Ok(STREAM_RULES), "seed {seed}");
        let skipped = |broker: &MemoryBroker| broker.fired().live_skipped;
        fired += brokers.borrow().iter().map(skipped).sum::<u64>();
    }
    assert!(fired > 0, "a test without faults proves nothing");
}

#[tokio::test(start_paused = true)]
async fn a_reader_takes_more_live_copies_at_once_than_the_runtime_has_patience_for() {
    let broker = MemoryBroker::new(1);
    let Logs {
        mut writer,
        mut reader,
        ..
    } = as_a_reader(&broker).await;
    let empty = reader.head().await.unwrap().unwrap();
    let events = chain(0, None, 1000);
    writer.append_after(&empty, &events).await.unwrap();
    let read = reader.read_after(0, 1000, std::time::Duration::ZERO).await;
    assert_eq!(read.unwrap(), events);
}

#[tokio::test]
async fn the_in_memory_log_keeps_every_rule() {
    assert_eq!(suite(async || memory(None).await).await, Ok(RULES));
    let as_a_stream = stream_suite(async || memory(None).await).await;
    assert_eq!(as_a_stream, Ok(STREAM_RULES));
}

#[tokio::test]
async fn the_outbox_keeps_every_rule() {
    let folders = std::cell::RefCell::new(Vec::new());
    let fresh = async || {
        let scratch = Scratch::new();
        let options = Options::new("user-service", "USERS", &[]).fold(Fold::nothing());
        let db = Database::open(scratch.path("users.db"), options).await;
        let db = db.unwrap();
        folders.borrow_mut().push(scratch); // the files stay until the end
        Logs {
            writer: db.outbox(),
            rival: db.outbox(),
            reader: db.outbox(),
        }
    };
    assert_eq!(suite(fresh).await, Ok(RULES));
}

#[tokio::test(start_paused = true)]
async fn each_planted_bug_breaks_a_named_rule() {
    let cases = [
        (
            PlantedBug::IgnoresTheSequence,
            "an append anywhere but the end is refused",
        ),
        (
            PlantedBug::IgnoresTheIncarnation,
            "an append to another incarnation is not taken",
        ),
        (
            PlantedBug::SkipsAnEvent,
            "what is appended is read byte for byte",
        ),
        (
            PlantedBug::KeepsPartOfTheRefused,
            "an append anywhere but the end is refused",
        ),
        (
            PlantedBug::RewritesTheBytes,
            "what is appended is read byte for byte",
        ),
        (PlantedBug::ForgetsToWake, "a waiting reader is woken"),
    ];
    for (bug, rule) in cases {
        let broken = suite(async || memory(Some(bug)).await).await.unwrap_err();
        assert!(broken.starts_with(rule), "{bug:?} was seen as: {broken}");
    }
}

#[tokio::test]
async fn each_bug_planted_in_a_stream_breaks_a_named_rule() {
    let cases = [
        (
            PlantedBug::DrawsItsOwnIncarnation,
            "a log is created at the sequence and with the incarnation",
        ),
        (PlantedBug::KeepsTheDeleted, "a deleted log is gone"),
        (PlantedBug::StaysOpen, "a closed log takes no append"),
        (
            PlantedBug::IgnoresTheIncarnation,
            "what was meant for a deleted log is not taken",
        ),
        (
            PlantedBug::TrimsOneTooMany,
            "trimming removes the events before",
        ),
        (
            PlantedBug::TrimsTheHead,
            "trimming never takes the last event",
        ),
    ];
    for (bug, rule) in cases {
        let broken = stream_suite(async || memory(Some(bug)).await).await;
        let broken = broken.unwrap_err();
        assert!(broken.starts_with(rule), "{bug:?} was seen as: {broken}");
    }
}

/// What no rule can ask of a real broker: it has no way to lose one event on purpose.
#[tokio::test]
async fn a_lost_event_leaves_a_hole_and_moves_no_other() {
    let broker = MemoryBroker::new(1);
    let mut writer = fresh_stream(&broker).await;
    let events = chain(0, None, 5);
    let empty = writer.head().await.unwrap().unwrap();
    writer.append_after(&empty, &events).await.unwrap();

    broker.lose(3);
    let mut writer = broker.connect().await.unwrap();
    let head = writer.head().await.unwrap().unwrap();
    assert_eq!((head.first, head.seq, head.holes), (1, 5, 1));
    let next = chain(5, None, 1);
    let head = writer.append_after(&head, &next).await.unwrap();
    assert_eq!(head.seq, 6);
    let kept = [&events[..2], &events[3..], &next[..]].concat();
    assert_eq!(broker.records(), kept);
}

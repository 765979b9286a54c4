//! The suite over the logs that need no broker, and the suite's own proof: each planted bug must be seen.

use relay::conformance::{Logs, chain, stream_suite, suite};
use relay::memory::{MemoryBroker, MemorySession, PlantedBug};
use relay::{AppendLog, Connect, Database, Fold, Log, Options, Origin, Stream};

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
            PlantedBug::IgnoresThePlace,
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
            "a log is made at the place and with the incarnation",
        ),
        (PlantedBug::KeepsTheDeleted, "a deleted log is gone"),
        (PlantedBug::StaysOpen, "a closed log takes no append"),
        (
            PlantedBug::IgnoresTheIncarnation,
            "what was meant for a deleted log is not taken",
        ),
        (
            PlantedBug::TrimsOneTooMany,
            "trimming removes the places before",
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

//! The suite over the logs that need no broker, and the suite's own proof: each planted bug must be seen.

use relay::conformance::{Logs, suite};
use relay::memory::{MemoryBroker, MemorySession, PlantedBug};
use relay::{Connect, Origin, Stream};

use crate::support::Scratch;

/// A rule that silently stops running is a lost test.
const RULES: usize = 11;

async fn memory(bug: Option<PlantedBug>) -> Logs<MemorySession, MemorySession> {
    let broker = MemoryBroker::new(1);
    let origin = Origin {
        database_id: uuid::Uuid::from_u128(7),
        epoch: 1,
    };
    let mut writer = broker.connect().await.unwrap();
    writer.create(1, &origin).await.unwrap();
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
}

#[tokio::test]
async fn the_outbox_keeps_every_rule() {
    let folders = std::cell::RefCell::new(Vec::new());
    let fresh = async || {
        let scratch = Scratch::new();
        let db = scratch.producer().await;
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

//! A cache compared with what its producer shares, row by row as they come, and a stream with its outbox.

use std::time::Duration;

use relay::Options;
use relay::error::LogError;
use relay::log::{Connect, Head, Log, Record};
use relay::operate::{ReadOnly, Verified, verify_cache, verify_stream};
use relay::testing::memory::MemoryBroker;

use crate::support::{Front, MIGRATIONS, Scratch, follow, meet, options, totals, weigh_many};

/// A broker of several nodes: the one that answers a read without patience lags behind the one that leads.
struct Lagging(MemoryBroker);

const LAGS_AT: u64 = 20;

struct LaggingSession(<MemoryBroker as Connect>::Session);

impl Connect for Lagging {
    type Session = LaggingSession;

    async fn connect(&self) -> Result<LaggingSession, LogError> {
        self.0.connect().await.map(LaggingSession)
    }

    fn stream(&self) -> &str {
        self.0.stream()
    }
}

impl Log for LaggingSession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.0.head().await
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let mut found = self.0.read_after(after, limit, wait).await?;
        found.retain(|record| record.seq <= LAGS_AT || !wait.is_zero());
        Ok(found)
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lags_behind_is_not_taken_for_a_stream_that_lacks_events() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 30).await;
    meet(&db, &broker).await;
    let beside = ReadOnly::open(db.path(), &options()).await.unwrap();
    let found = verify_stream(&beside, &Lagging(broker.clone())).await;
    assert_eq!(found.unwrap(), Verified::Equal { compared: 30 });
    broker.lose(25);
    let found = verify_stream(&beside, &Lagging(broker)).await.unwrap();
    let Verified::Differs(why) = found else {
        panic!("{found:?}");
    };
    assert!(why.starts_with("event 25 ("), "{why}");
}

#[tokio::test]
async fn a_cache_is_equal_until_a_row_is_changed_missing_or_too_many() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    weigh_many(&producer, 30).await;
    meet(&producer, &broker).await;
    let consumer = totals(Front::of(&producer));
    follow(&consumer, &reader, &broker).await;
    let options = Options::new("scale-service", "SCALES", MIGRATIONS);
    let beside = ReadOnly::open(reader.path(), &options).await.unwrap();
    let equal = Verified::Equal { compared: 3 };
    assert_eq!(verify_cache(&beside, &consumer).await.unwrap(), equal);

    let changes = [
        (
            "update totals set times = 9 where parcel = 'b'",
            "\"times\":9",
        ),
        (
            "delete from totals where parcel = 'c'",
            "the cache has no more rows",
        ),
        (
            "insert into totals values ('d', 1, 1, 1)",
            "the producer shares no more rows",
        ),
    ];
    for (change, named) in changes {
        let written = reader.write(move |tx| {
            tx.execute_batch("create table if not exists kept as select * from totals")?;
            tx.execute(change, [])
        });
        written.await.unwrap();
        let found = verify_cache(&beside, &consumer).await.unwrap();
        let Verified::Differs(why) = found else {
            panic!("{change}: {found:?}");
        };
        assert!(why.contains(named), "{why}");
        let restored = reader.write(|tx| {
            tx.execute_batch("delete from totals; insert into totals select * from kept")
        });
        restored.await.unwrap();
    }
    assert_eq!(verify_cache(&beside, &consumer).await.unwrap(), equal);

    weigh_many(&producer, 1).await;
    meet(&producer, &broker).await;
    let found = verify_cache(&beside, &consumer).await.unwrap();
    assert!(matches!(found, Verified::NotYet(_)), "{found:?}");
    beside.close().await;
}

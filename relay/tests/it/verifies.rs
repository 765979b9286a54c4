//! A cache compared with what its producer shares, row by row as they come.

use relay::memory::MemoryBroker;
use relay::{Options, ReadOnly, Verified, verify_cache};

use crate::support::{Front, MIGRATIONS, Scratch, follow, meet, totals, weigh_many};

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

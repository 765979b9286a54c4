//! A fast test of a consumer: real files, the broker in memory, one step at a time. Nothing waits for real time.
//!
//!     cargo test -p freehold-examples --test unit_test

use relay::consume::Progress;
use relay::publish::Step;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Options, Received, Relay, Rows, rusqlite};
use visits::{VisitEvent, Visited};

const TABLE: &str = "create table popular (page text primary key, count integer) strict";

fn apply(rows: &Rows<'_>, event: &Received<VisitEvent>) -> Result<(), ApplyError> {
    let VisitEvent::Visited(visit) = &event.event;
    Ok(rows.execute("replace into popular values (?1, ?2)", (&visit.page, visit.count)).map(drop)?)
}

#[tokio::test(start_paused = true)]
async fn a_visit_is_counted_by_the_reader_although_each_third_operation_fails() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name| folder.path().join(name);
    let owner = Database::open(file("visits.db"), Options::new("visits", "VISITS", &[])).await.unwrap();
    let reader = Database::open(file("reports.db"), Options::new("reports", "REPORTS", &[TABLE])).await.unwrap();
    let visit = VisitEvent::Visited(Visited { page: "welcome".to_owned(), count: 1 });
    owner.write(move |tx| tx.emit(&visit)).await.unwrap();

    let broker = MemoryBroker::new(7); // the seed of its faults
    broker.fail(0.33);
    let mut relay = Relay::new(&owner, broker.clone());
    while !matches!(relay.step().await, Ok(Step::Checked)) {}
    let consumer = Consumer::projection("popular", apply);
    let mut follower = consumer.follow(&reader, broker.reader());
    while !matches!(follower.step().await, Ok(Progress::Applied(1))) {}

    let sql = "select page, count from popular";
    let read = reader.read(|rows| rows.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))));
    let found: Result<(String, u64), relay::error::ReadError<rusqlite::Error>> = read.await;
    assert_eq!(found.unwrap(), ("welcome".to_owned(), 1));
}

//! A service small enough to test with: parcels that are weighed, in a file of their own.

use std::path::PathBuf;

use relay::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, NewEvent, Options, Received, Record, Relay, Rows, Tx};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

pub const MIGRATIONS: &[&str] = &[
    "create table parcels (id text primary key, weight_g integer not null check (weight_g > 0)) strict",
];

/// The one event of the test service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weighed {
    pub parcel: String,
    pub weight_g: i64,
    pub version: u64,
}

pub fn decode(event_type: &str, data: &[u8]) -> Result<Option<Weighed>, serde_json::Error> {
    match event_type {
        "parcels.weighed.v1" => serde_json::from_slice(data).map(Some),
        _ => Ok(None),
    }
}

/// A database file that goes away with the test.
pub struct Scratch {
    pub dir: TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub async fn producer(&self) -> Database {
        Database::open(self.path("parcels.db"), options())
            .await
            .unwrap()
    }

    /// The database of a service that reads parcels and tells of its own.
    pub async fn reader(&self) -> Database {
        let options = Options::new("scale-service", "SCALES", MIGRATIONS);
        Database::open(self.path("scales.db"), options)
            .await
            .unwrap()
    }
}

pub fn options() -> Options {
    Options::new("parcel-service", "PARCELS", MIGRATIONS)
}

/// Stores a parcel's weight and tells it, in one transaction.
pub async fn weigh(db: &Database, parcel: &str, weight_g: i64, version: u64) -> u64 {
    let event = weighed(parcel, weight_g, version);
    db.write(move |tx| store_and_emit(tx, &event))
        .await
        .unwrap()
}

pub fn weighed(parcel: &str, weight_g: i64, version: u64) -> Weighed {
    Weighed {
        parcel: parcel.to_owned(),
        weight_g,
        version,
    }
}

pub fn store_and_emit(tx: &Tx<'_>, event: &Weighed) -> Result<u64, relay::EmitError> {
    let sql = "insert or replace into parcels (id, weight_g) values (?1, ?2)";
    tx.execute(sql, (&event.parcel, event.weight_g))?;
    emit(tx, event)
}

pub fn emit(tx: &Tx<'_>, event: &Weighed) -> Result<u64, relay::EmitError> {
    tx.emit(NewEvent {
        event_type: "parcels.weighed.v1",
        aggregate: event.parcel.clone(),
        data: event,
        decode,
    })
}

/// Every row of a database's outbox.
pub async fn outbox_rows(db: &Database) -> Vec<Record> {
    use relay::Log;
    let mut outbox = db.outbox();
    match outbox.committed() {
        0 => Vec::new(),
        _ => outbox
            .read_after(0, 1_000_000, std::time::Duration::ZERO)
            .await
            .unwrap(),
    }
}

pub async fn count(db: &Database, table: &'static str) -> i64 {
    let sql = format!("select count(*) from {table}");
    let read = db.read(move |rows| rows.query_row(&sql, [], |row| row.get(0)));
    read.await.unwrap()
}

/// Keeps the last weight of each parcel, and refuses a version that is not the next.
pub fn remember(rows: &Rows<'_>, event: &Received<Weighed>) -> Result<(), ApplyError> {
    let Weighed {
        parcel,
        weight_g,
        version,
    } = &event.event;
    rows.execute_batch("create table if not exists history (seq integer, parcel text, version integer, weight_g integer)")?;
    let last: u64 = rows.query_row(
        "select coalesce(max(version), 0) from history where parcel = ?1",
        [parcel],
        |row| row.get(0),
    )?;
    if *version != last + 1 {
        return Err(ApplyError::Rejected(format!(
            "version {version} after {last}"
        )));
    }
    rows.execute(
        "insert into history values (?1, ?2, ?3, ?4)",
        (event.seq, parcel, version, weight_g),
    )?;
    Ok(())
}

pub fn history() -> Consumer {
    Consumer::projection("parcel-history", "PARCELS", decode, remember)
}

pub async fn publish(db: &Database, broker: &MemoryBroker) {
    let mut relay = Relay::new(db, broker.clone());
    while broker.records().len() as u64 != db.outbox().committed() {
        let _retried = relay.step().await;
    }
}

/// Steps until everything published is applied.
pub async fn catch_up(consumer: &Consumer, db: &Database, broker: &MemoryBroker) {
    let mut follower = consumer.follow(db, broker.clone());
    for _ in 0..10_000 {
        let _retried = follower.step().await;
        if consumer.status().borrow().offset == broker.records().len() as u64 {
            return;
        }
    }
    panic!("stuck: {:?}", consumer.status().borrow());
}

pub fn owned((seq, parcel): (u64, &str)) -> (u64, String) {
    (seq, parcel.to_owned())
}

/// The history in the order it was written.
pub async fn applied(db: &Database) -> Vec<(u64, String)> {
    let read = db.read(|rows| {
        let mut history = rows.prepare("select seq, parcel from history order by rowid")?;
        history
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<_>, _>>()
    });
    read.await.unwrap()
}

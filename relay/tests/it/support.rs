//! A service small enough to test with: parcels that are weighed, in a file of their own.

mod faults;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use relay::consume::DeadLetter;
use relay::environment::{Environment, System};
use relay::error::LogError;
use relay::log::{AppendLog, Holds, Lines, Log, Position, Producer, Record, Sink, row};
use relay::operate::{ReadOnly, Report};
use relay::outbox::FoundIn;
use relay::publish::{Answers, Case, Step};
use relay::rusqlite::{self, Connection};
use relay::testing::memory::MemoryBroker;
use relay::{
    ApplyError, Consumer, Database, Event, Fold, Options, Received, Relay, Rows, Tx, WriteError,
};
use schemars::{JsonSchema, Schema};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

pub use faults::{Image, Mortal, StillClock, beside, close_stream, kill, reopen};

pub const MIGRATIONS: &[&str] = &[
    "create table parcels (id text primary key, weight_g integer not null check (weight_g > 0)) strict;
     create table totals (
       parcel text primary key, version integer not null, times integer not null, total_g integer not null
     ) strict;",
];

/// The one event of the test service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Weighed {
    pub parcel: String,
    pub weight_g: i64,
    pub version: u64,
}

/// By hand, so that tests need no enum around it.
impl Event for Weighed {
    const STREAM: &'static str = "PARCELS";

    fn event_type(&self) -> &str {
        "parcels.weighed.v1"
    }

    fn aggregate(&self) -> String {
        self.parcel.clone()
    }

    fn decode(event_type: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        match event_type {
            "parcels.weighed.v1" => serde_json::from_slice(data).map(Some),
            _ => Ok(None),
        }
    }

    fn schemas() -> Vec<(&'static str, Schema)> {
        Vec::new()
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

    /// In memory, where the system has a folder for that: for tests that open many files and never lose power.
    pub fn quick() -> Self {
        let folder = Path::new("/dev/shm");
        let dir = match folder.is_dir() {
            true => tempfile::tempdir_in(folder),
            false => tempfile::tempdir(),
        };
        Self { dir: dir.unwrap() }
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

/// A clock that only a test moves.
#[derive(Debug)]
pub struct Clock(AtomicI64);

impl Clock {
    pub fn at(unix_s: i64) -> Self {
        Self(AtomicI64::new(unix_s))
    }

    pub fn tick(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Environment for Clock {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        System.fill_random(bytes);
    }
}

/// So many seeds, or the one that FREEHOLD_SEED names.
pub fn seeds(count: u64) -> std::ops::Range<u64> {
    match std::env::var("FREEHOLD_SEED") {
        Ok(seed) => seed.parse().unwrap()..seed.parse::<u64>().unwrap() + 1,
        Err(_) => 1..count + 1,
    }
}

pub fn options() -> Options {
    Options::new("parcel-service", "PARCELS", MIGRATIONS)
        .fold(Fold::new(&["parcels", "totals"], |rows, event| {
            Ok(store(rows, &event.event)?)
        }))
}

/// A file that was copied in a way nothing local can see: a person's word stands for the missing evidence.
pub fn unmarked() -> Options {
    Options {
        open_without_stream: true,
        ..options()
    }
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
    store(tx.rows(), event)?;
    emit(tx, event)
}

/// How the parcels follow from their events, when they are emitted and when they are imported.
pub fn store(rows: &Rows<'_>, event: &Weighed) -> relay::rusqlite::Result<()> {
    let sql = "insert or replace into parcels (id, weight_g) values (?1, ?2)";
    rows.execute(sql, (&event.parcel, event.weight_g))?;
    add(rows, event)
}

/// Adds a weighing to its parcel's totals: one that is added twice, or not at all, shows.
fn add(rows: &Rows<'_>, event: &Weighed) -> rusqlite::Result<()> {
    let sql = "insert into totals values (?1, ?2, 1, ?3)
               on conflict do update set version = ?2, times = times + 1, total_g = total_g + ?3";
    rows.execute(sql, (&event.parcel, event.version, event.weight_g))?;
    Ok(())
}

/// Weighs a parcel once more; answers the event as the outbox holds it.
pub async fn weigh_again(
    db: &Database,
    parcel: &str,
    weight_g: i64,
) -> Result<Record, WriteError<relay::EmitError>> {
    let parcel = parcel.to_owned();
    db.write(move |tx| {
        let sql = "select coalesce(max(version), 0) + 1 from totals where parcel = ?1";
        let version = tx.query_row(sql, [&parcel], |row| row.get(0))?;
        let seq = store_and_emit(tx, &weighed(&parcel, weight_g, version))?;
        let sql = "select subject, envelope from relay_outbox where seq = ?1";
        let record = tx.query_row(sql, [seq], |row| {
            let bytes: Vec<u8> = row.get(1)?;
            Ok(Record {
                seq,
                subject: row.get(0)?,
                bytes: bytes.into(),
            })
        });
        Ok(record?)
    })
    .await
}

/// So many more weighings, of three parcels in turn.
pub async fn weigh_many(db: &Database, count: u64) -> Vec<Record> {
    let mut records = Vec::new();
    for _ in 0..count {
        let at = db.outbox().committed();
        let parcel = ["a", "b", "c"][usize::try_from(at % 3).unwrap()];
        let weight_g = i64::try_from(at + 1).unwrap();
        records.push(weigh_again(db, parcel, weight_g).await.unwrap());
    }
    records
}

pub fn emit(tx: &Tx<'_>, event: &Weighed) -> Result<u64, relay::EmitError> {
    tx.emit(event)
}

/// Every row of a database's outbox.
pub async fn outbox_rows(db: &Database) -> Vec<Record> {
    let mut outbox = db.outbox();
    match outbox.committed() {
        0 => Vec::new(),
        _ => outbox
            .read_after(0, 1_000_000, std::time::Duration::ZERO)
            .await
            .unwrap(),
    }
}

pub async fn origin(db: &Database) -> relay::log::Origin {
    db.outbox().head().await.unwrap().unwrap().origin
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
    Consumer::projection("parcel-history", remember)
}

/// What the producer shares, and what `totals` keeps of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    pub parcel: String,
    pub version: u64,
    pub times: u64,
    pub total_g: i64,
}

pub fn share(rows: &Connection, sink: &mut Sink<'_>) -> rusqlite::Result<()> {
    for total in read_totals(rows)? {
        if !sink(row(&total)) {
            break;
        }
    }
    Ok(())
}

pub fn read_totals(rows: &Connection) -> rusqlite::Result<Vec<Total>> {
    rows.prepare("select parcel, version, times, total_g from totals order by parcel")?
        .query_map([], |row| {
            Ok(Total {
                parcel: row.get(0)?,
                version: row.get(1)?,
                times: row.get(2)?,
                total_g: row.get(3)?,
            })
        })?
        .collect()
}

/// Adds up what the parcels weighed; a version that is not the next makes a dead letter.
pub fn totals(producer: impl Producer) -> Consumer {
    Consumer::projection("parcel-totals", |rows, event: &Received<Weighed>| {
        let event = &event.event;
        let sql = "select coalesce(max(version), 0) from totals where parcel = ?1";
        let known: u64 = rows.query_row(sql, [&event.parcel], |row| row.get(0))?;
        if event.version != known + 1 {
            let why = format!("version {} after {known}", event.version);
            return Err(ApplyError::Rejected(why));
        }
        Ok(add(rows, event)?)
    })
    .loads(
        &["totals"],
        |rows, total: &Total| {
            let sql = "insert into totals values (?1, ?2, ?3, ?4)";
            rows.execute(
                sql,
                (&total.parcel, total.version, total.times, total.total_g),
            )?;
            Ok(())
        },
        share,
    )
    .asks(Arc::new(producer))
}

/// The producer as its consumers reach it: whatever process runs just now, if one does.
#[derive(Clone, Default)]
pub struct Front(Arc<Mutex<Option<Answers>>>);

impl Front {
    pub fn of(db: &Database) -> Self {
        let front = Self::default();
        front.serve(db);
        front
    }

    pub fn serve(&self, db: &Database) {
        *self.0.lock().unwrap() = Some(Answers::new(db, share));
    }

    pub fn leave(&self) {
        *self.0.lock().unwrap() = None;
    }

    fn answers(&self) -> Result<Answers, LogError> {
        let answers = self.0.lock().unwrap().clone();
        answers.ok_or_else(|| LogError::Disconnected("the producer does not run".to_owned(), None))
    }
}

impl Producer for Front {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        Box::pin(async move { self.answers()?.holds(at).await })
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        Box::pin(async move { self.answers()?.snapshot(at).await })
    }
}

/// How the file stands, seen from beside it.
pub async fn report(db: &Database) -> Report {
    let beside = ReadOnly::open(db.path(), &options()).await.unwrap();
    let report = beside.report().await.unwrap();
    beside.close().await;
    report
}

/// What was done to the file, oldest first.
pub async fn audited(db: &Database) -> Vec<String> {
    let audit = report(db).await.audit;
    audit.into_iter().rev().map(|line| line.action).collect()
}

/// A relay's steps until it has nothing more to do; answers what its contacts found, each case once in a row.
pub async fn settle(relay: &mut Relay<MemoryBroker>) -> Vec<Case> {
    let cases = Arc::new(Mutex::new(Vec::new()));
    let (mut status, seen) = (relay.status(), cases.clone());
    let watching = tokio::spawn(async move {
        while status.changed().await.is_ok() {
            let case = status.borrow_and_update().case;
            let mut seen = seen.lock().unwrap();
            let news = case.filter(|case| seen.last() != Some(case));
            seen.extend(news);
        }
    });
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
        let step = relay.step().await;
        if matches!(step, Ok(Step::Checked)) && relay.finish_chores().await.is_err() {
            continue;
        }
        if let Ok(Step::Checked | Step::Halted) = step {
            tokio::task::yield_now().await; // so that the watcher has seen everything
            watching.abort();
            return std::mem::take(&mut *cases.lock().unwrap());
        }
    }
    panic!("no rest: {:?}", relay.status().borrow());
}

/// The same, with a relay of its own.
pub async fn meet(db: &Database, broker: &MemoryBroker) -> Vec<Case> {
    settle(&mut Relay::new(db, broker.clone())).await
}

/// Puts a copy of an open file elsewhere and opens it as if it were the original.
pub async fn clone_of(db: &Database, to: &Path) -> Database {
    Image::take(db.path()).copy_to(to);
    Database::open(to, unmarked()).await.unwrap()
}

/// The service's own tables, row by row.
pub async fn tables(db: &Database) -> Vec<String> {
    let read = db.read(|rows| {
        let mut all: Vec<String> = rows
            .prepare("select id || ' ' || weight_g from parcels order by id")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        all.extend(read_totals(rows)?.iter().map(|total| format!("{total:?}")));
        Ok::<_, rusqlite::Error>(all)
    });
    read.await.unwrap()
}

/// The service's own tables, as a new file makes them from these events.
pub async fn tables_from(events: &[Record]) -> Vec<String> {
    let scratch = Scratch::quick();
    let db = scratch.producer().await;
    let mut outbox = db.outbox();
    let head = outbox.head().await.unwrap().unwrap();
    outbox.append_after(&head, events).await.unwrap();
    tables(&db).await
}

/// The quarantined events: where each was found, its sequence, its bytes.
pub async fn set_aside(db: &Database) -> Vec<(FoundIn, u64, Vec<u8>)> {
    let lies = db.quarantined().await.unwrap();
    lies.into_iter()
        .map(|one| (one.found_in, one.seq, one.envelope.unwrap()))
        .collect()
}

pub fn found_in(place: FoundIn, records: &[Record]) -> Vec<(FoundIn, u64, Vec<u8>)> {
    let of = |record: &Record| (place, record.seq, record.bytes.to_vec());
    records.iter().map(of).collect()
}

/// What a file and a stream must be to each other when all is well, and the stream holds everything.
pub async fn assert_one_log(db: &Database, broker: &MemoryBroker, log: &[Record]) {
    assert_same_log(db, broker, log).await;
    assert_eq!(broker.records(), log, "the stream is not the log");
}

/// The same for a stream that may begin later.
pub async fn assert_same_log(db: &Database, broker: &MemoryBroker, log: &[Record]) {
    assert_eq!(outbox_rows(db).await, log, "the outbox is not the log");
    let stream = broker.records();
    let end = &log[log.len() - stream.len().min(log.len())..];
    assert_eq!(stream, end, "the stream is not the log");
    assert!(
        !stream.is_empty() || log.is_empty(),
        "the stream never loses its head"
    );
    assert_eq!(tables(db).await, tables_from(log).await);
    assert_eq!(db.gate(), relay::database::Gate::Open);
    assert_eq!(report(db).await.must_import, None);
}

/// Steps until the consumer has applied what the stream holds.
pub async fn follow(consumer: &Consumer, db: &Database, broker: &MemoryBroker) {
    let mut follower = consumer.follow(db, broker.reader());
    for _ in 0..1_000 {
        let _retried = follower.step().await;
        let (end, status) = (
            broker.records().last().map(|last| last.seq),
            consumer.status(),
        );
        if Some(status.borrow().offset) == end && status.borrow().trouble.is_none() {
            return;
        }
    }
    panic!("stuck: {:?}", consumer.status().borrow());
}

pub async fn publish(db: &Database, broker: &MemoryBroker) {
    let mut relay = Relay::new(db, broker.clone());
    while broker.records().len() as u64 != db.outbox().committed() {
        let _retried = relay.step().await;
    }
}

/// Steps until everything published is applied.
pub async fn catch_up(consumer: &Consumer, db: &Database, broker: &MemoryBroker) {
    let mut follower = consumer.follow(db, broker.reader());
    for _ in 0..10_000 {
        let _retried = follower.step().await;
        if consumer.status().borrow().offset == broker.records().len() as u64 {
            return;
        }
    }
    panic!("stuck: {:?}", consumer.status().borrow());
}

/// The dead and parked events of a consumer.
pub async fn letters_of(consumer: &Consumer, db: &Database) -> Vec<DeadLetter> {
    let name = consumer.name().to_owned();
    let list = db.read(move |rows| DeadLetter::list(rows, &name, 100));
    list.await.unwrap()
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

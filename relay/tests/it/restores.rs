//! Copies put back, brokers wiped, processes killed, in any order that a seed draws: when the faults end, all becomes one
//! log again, and nothing is lost that any file or stream still held.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use relay::consume::Follower;
use relay::database::Gate;
use relay::event::{Envelope, EventId};
use relay::log::Record;
use relay::operate::{adopt_stream, backup, new_epoch, restore};
use relay::publish::{Case, Step};
use relay::rusqlite;
use relay::testing::memory::{Fired, MemoryBroker, MemoryReader, Store};
use relay::{Consumer, Database, Options, Relay, WriteError};

use crate::support::{
    Front, Image, Scratch, Total, Weighed, assert_same_log, count, kill, outbox_rows, read_totals,
    reopen, seeds, set_aside, totals, weigh_again,
};

const ACTIONS: usize = 60;

/// What can go wrong: first what happens to the producer's file. Each must have been tried over the seeds.
const FAULTS: [&str; 18] = [
    "backup restored",
    "copy put in place",
    "copy written over the file",
    "volume rolled back",
    "database deleted",
    "process killed",
    "process dropped",
    "process closed",
    "broker fails",
    "connections cut",
    "broker wiped",
    "stream deleted",
    "older broker put back",
    "tail lost",
    "event lost",
    "stream purged",
    "consumer put back",
    "consumer killed",
];

/// What cannot come up with one process and an outbox that keeps everything, or only by great luck.
const NOT_HERE: [Case; 5] = [
    Case::AheadLater,
    Case::BehindTheOutbox,
    Case::Closed,
    Case::ForeignReplaced,
    Case::LaterEpoch,
];

/// One producer, one broker, one consumer; and copies of each, of all ages.
struct Walk {
    random: SmallRng,
    scratch: Scratch,
    broker: MemoryBroker,
    producer: Option<Process>,
    front: Front,
    consumer: Consumer,
    reader: Option<Database>,
    follower: Option<Follower<MemoryReader>>,
    backups: Vec<PathBuf>,
    images: Vec<Image>,
    stores: Vec<Option<Store>>,
    readers: Vec<Image>,
    /// Every write that was acknowledged.
    written: BTreeMap<EventId, Record>,
    /// Those of them that a file or a stream held after the last fault: from then on they must not be lost.
    held: BTreeSet<EventId>,
    tried: BTreeMap<&'static str, u64>,
    cases: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

struct Process {
    db: Database,
    relay: Relay<MemoryBroker>,
    halted: bool,
}

#[tokio::test(start_paused = true)]
async fn whatever_is_put_back_or_lost_all_becomes_one_log_again() {
    let (mut tried, mut cases) = (BTreeMap::new(), BTreeMap::new());
    let mut fired = Fired::default();
    let seeds = seeds(50);
    let many = seeds.end - seeds.start > 1;
    for seed in seeds {
        println!("seed {seed}");
        let mut walk = Walk::new(seed).await;
        for _ in 0..ACTIONS {
            walk.act().await;
        }
        walk.heal().await;
        walk.check().await;
        for (fault, times) in walk.tried {
            *tried.entry(fault).or_insert(0) += times;
        }
        for (case, times) in std::mem::take(&mut *walk.cases.lock().unwrap()) {
            *cases.entry(case).or_insert(0) += times;
        }
        let now = walk.broker.fired();
        fired.not_connected += now.not_connected;
        fired.cut_before_store += now.cut_before_store;
        fired.cut_amid_store += now.cut_amid_store;
        fired.cut_after_store += now.cut_after_store;
        fired.cut_read += now.cut_read;
        fired.short_read += now.short_read;
        fired.live_skipped += now.live_skipped;
        fired.live_repeated += now.live_repeated;
        fired.live_replaced += now.live_replaced;
        fired.behind += now.behind;
    }
    println!("{tried:?}\n{cases:?}\n{fired:?}");
    if many {
        let untried: Vec<_> = FAULTS
            .iter()
            .filter(|fault| !tried.contains_key(*fault))
            .collect();
        assert!(untried.is_empty(), "never tried: {untried:?}");
        let unseen: Vec<_> = Case::ALL
            .iter()
            .filter(|case| !NOT_HERE.contains(case) && !cases.contains_key(case.name()))
            .collect();
        assert!(
            unseen.is_empty(),
            "hardly a walk: these never came up: {unseen:?}"
        );
        let each = [
            fired.not_connected,
            fired.cut_before_store,
            fired.cut_amid_store,
        ];
        let of_readers = [
            fired.cut_after_store,
            fired.cut_read,
            fired.live_skipped,
            fired.live_repeated,
            fired.live_replaced,
            fired.behind,
        ];
        let each = [&each[..], &of_readers].concat();
        assert!(each.iter().all(|times| *times > 0), "{fired:?}");
    }
}

fn options() -> Options {
    Options {
        readers: 1, // it is opened often
        ..crate::support::options()
    }
}

impl Walk {
    async fn new(seed: u64) -> Self {
        let (scratch, front) = (Scratch::quick(), Front::default());
        let mut walk = Self {
            random: SmallRng::seed_from_u64(seed),
            broker: MemoryBroker::new(seed),
            producer: None,
            consumer: totals(front.clone()),
            front,
            reader: Some(scratch.reader().await),
            follower: None,
            scratch,
            backups: Vec::new(),
            images: Vec::new(),
            stores: vec![None],
            readers: Vec::new(),
            written: BTreeMap::new(),
            held: BTreeSet::new(),
            tried: BTreeMap::new(),
            cases: Arc::default(),
        };
        walk.broker
            .fail([0.0, 0.15, 0.3][usize::try_from(seed % 3).unwrap()]);
        walk.start().await;
        walk
    }

    async fn act(&mut self) {
        match self.random.random_range(0..100) {
            0..20 => self.write().await,
            20..42 => self.publish().await,
            42..58 => self.apply().await,
            58..70 => self.copy(),
            70..76 => self.decide().await,
            _ => return self.fault().await,
        }
        self.assert_held().await;
    }

    async fn write(&mut self) {
        for _ in 0..self.random.random_range(1..5) {
            let parcel = ["a", "b", "c"][self.random.random_range(0..3)];
            let weight_g = self.random.random_range(1..1000);
            let db = &self.process().db;
            match weigh_again(db, parcel, weight_g).await {
                Ok(record) => {
                    let id = record.event_id().unwrap();
                    self.held.insert(id);
                    self.written.insert(id, record);
                }
                Err(WriteError::MustImport(_) | WriteError::Halted(_)) => return,
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    async fn publish(&mut self) {
        for _ in 0..self.random.random_range(1..6) {
            let process = self.producer.as_mut().unwrap();
            if !process.halted {
                process.halted = matches!(process.relay.step().await, Ok(Step::Halted));
            }
        }
    }

    async fn apply(&mut self) {
        let reader = self.reader.clone().unwrap();
        let (consumer, broker) = (&self.consumer, &self.broker);
        let follower = self
            .follower
            .get_or_insert_with(|| consumer.follow(&reader, broker.reader()));
        for _ in 0..self.random.random_range(1..6) {
            let _retried = follower.step().await;
        }
    }

    /// Keeps a copy of something, to be put back later.
    fn copy(&mut self) {
        let path = self.path();
        match self.random.random_range(0..4) {
            0 => {
                let to = self
                    .scratch
                    .path(&format!("backup-{}.db", self.backups.len()));
                backup(&path, &options(), &to).unwrap();
                self.backups.push(to);
            }
            1 => self.images.push(Image::take(&path)),
            2 => self.stores.push(self.broker.store()),
            _ => self
                .readers
                .push(Image::take(&self.scratch.path("scales.db"))),
        }
    }

    /// A person looks at a service that has halted: restarts it, and decides if that was not enough.
    async fn decide(&mut self) {
        if !self.process().halted {
            return;
        }
        let case = self.process().relay.status().borrow().case;
        self.stop("process closed").await;
        self.start().await;
        if case == Some(Case::AheadLater) {
            return;
        }
        let db = self.process().db.clone();
        let owner = self.broker.clone();
        let follows = self.random.random_bool(0.5) && adopt_stream(&db, &owner).await.is_ok();
        if !follows {
            let _tried = new_epoch(&db, &owner).await;
        }
    }

    async fn fault(&mut self) {
        let of = if self.random.random_bool(0.45) {
            0..5
        } else {
            5..FAULTS.len()
        };
        let fault = FAULTS[self.random.random_range(of)];
        let path = self.path();
        match fault {
            "backup restored" if !self.backups.is_empty() => {
                let from = self.random.random_range(0..self.backups.len());
                self.stop_somehow().await;
                while let Err(error) = restore(&self.backups[from], &options(), &path) {
                    assert!(error.to_string().contains("in use"), "{error}");
                    tokio::task::spawn_blocking(std::thread::yield_now)
                        .await
                        .unwrap();
                }
            }
            "copy put in place" | "copy written over the file" | "volume rolled back"
                if !self.images.is_empty() =>
            {
                let image = self.random.random_range(0..self.images.len());
                self.stop("process closed").await;
                match fault {
                    "copy put in place" => self.images[image].copy_to(&path),
                    "volume rolled back" => self.images[image].roll_back(&path),
                    _ => self.images[image].write_over(&path),
                }
            }
            "database deleted" if self.random.random_bool(0.3) => {
                self.stop("process closed").await;
                std::fs::remove_file(&path).unwrap();
            }
            "process killed" | "process dropped" | "process closed" => self.stop(fault).await,
            "broker fails" => self
                .broker
                .fail([0.0, 0.2, 0.4, 1.0][self.random.random_range(0..4)]),
            "connections cut" => self.broker.cut(),
            "broker wiped" => self.broker.restore(None),
            "stream deleted" => self.broker.delete(),
            "older broker put back" => {
                let store = self.random.random_range(0..self.stores.len());
                self.broker.restore(self.stores[store].clone());
            }
            "tail lost" => self.broker.lose_tail(self.random.random_range(1..5)),
            "event lost" => {
                let end = self.broker.records().last().map_or(1, |last| last.seq);
                self.broker.lose(self.random.random_range(1..=end));
            }
            "stream purged" => {
                let end = self.broker.records().last().map_or(0, |last| last.seq);
                let all = self.random.random_bool(0.3);
                self.broker.trim(if all {
                    end
                } else {
                    self.random.random_range(0..=end)
                });
            }
            "consumer put back" if !self.readers.is_empty() => {
                let image = self.random.random_range(0..self.readers.len());
                self.follower = None;
                self.reader.take().unwrap().close().await;
                self.readers[image].write_over(&self.scratch.path("scales.db"));
            }
            "consumer killed" => {
                self.follower = None;
                kill(self.reader.take().unwrap()).await;
            }
            _ => return,
        }
        *self.tried.entry(fault).or_insert(0) += 1;
        self.start().await;
        self.held = self.all_held().await;
        if self.random.random_bool(0.3) {
            self.write().await; // before the stream is met
        }
    }

    fn path(&self) -> PathBuf {
        self.scratch.path("parcels.db")
    }

    fn process(&self) -> &Process {
        self.producer.as_ref().unwrap()
    }

    /// Starts what does not run.
    async fn start(&mut self) {
        if self.producer.is_none() {
            let db = reopen(&self.path(), options()).await;
            self.front.serve(&db);
            let mut relay = Relay::new(&db, self.broker.clone());
            self.watch(&relay);
            if self.random.random_bool(0.5) {
                relay.import_one_by_one();
            }
            let halted = false;
            self.producer = Some(Process { db, relay, halted });
        }
        if self.reader.is_none() {
            self.reader = Some(self.scratch.reader().await);
        }
    }

    /// Counts what the relay's contacts find.
    fn watch(&self, relay: &Relay<MemoryBroker>) {
        let (mut status, cases) = (relay.status(), self.cases.clone());
        tokio::spawn(async move {
            while status.changed().await.is_ok() {
                if let Some(case) = status.borrow_and_update().case {
                    *cases.lock().unwrap().entry(case.name()).or_insert(0) += 1;
                }
            }
        });
    }

    async fn stop_somehow(&mut self) {
        let ways = ["process killed", "process dropped", "process closed"];
        let how = ways[self.random.random_range(0..3)];
        self.stop(how).await;
    }

    async fn stop(&mut self, how: &str) {
        self.front.leave();
        let Process { db, relay, .. } = self.producer.take().unwrap();
        drop(relay);
        match how {
            "process closed" => db.close().await,
            "process killed" => kill(db).await,
            _ => drop(db),
        }
    }

    /// The events written here that the file, what it has set aside, or the stream holds now.
    async fn all_held(&self) -> BTreeSet<EventId> {
        let read = self.process().db.read(|rows| {
            let sql = "select event_id from relay_outbox
                       union select event_id from relay_set_aside where envelope is not null";
            let mut ids = rows.prepare(sql)?;
            ids.query_map([], |row| row.get::<_, String>(0))?
                .collect::<Result<Vec<_>, _>>()
        });
        let in_file = read
            .await
            .map_err(|error: relay::error::ReadError<rusqlite::Error>| error)
            .unwrap();
        let in_stream = self.broker.records();
        let mut ids: BTreeSet<EventId> = in_file.iter().filter_map(|id| id.parse().ok()).collect();
        ids.extend(in_stream.iter().filter_map(Record::event_id));
        ids.retain(|id| self.written.contains_key(id));
        ids
    }

    async fn assert_held(&self) {
        let now = self.all_held().await;
        let lost: Vec<_> = self
            .held
            .difference(&now)
            .map(|id| self.written[id].seq)
            .collect();
        assert!(
            lost.is_empty(),
            "without any fault these were lost: {lost:?}"
        );
    }

    /// No more faults: everything comes to rest, with a person's help where it is needed.
    async fn heal(&mut self) {
        self.broker.fail(0.0);
        for _ in 0..200 {
            self.publish().await;
            self.assert_held().await;
            if self.process().halted {
                self.decide().await;
                continue;
            }
            self.apply().await;
            let (db, end) = (&self.process().db, self.process().db.outbox().committed());
            let applied = self.consumer.status().borrow().offset == end;
            let published = self.process().relay.status().borrow().stream_head == Some(end);
            if applied && published && db.gate() == Gate::Open && self.quiet().await {
                return;
            }
        }
        let status = self.process().relay.status();
        panic!(
            "no rest: {:?} {:?}",
            status.borrow(),
            self.consumer.status().borrow()
        );
    }

    /// Another look of everybody finds nothing to do.
    async fn quiet(&mut self) -> bool {
        let before = self.broker.store();
        for _ in 0..3 {
            self.publish().await;
            self.apply().await;
        }
        let well = self.consumer.status().borrow().trouble.is_none();
        well && !self.process().halted && self.broker.store() == before
    }

    async fn check(&self) {
        let (db, reader) = (&self.process().db, self.reader.as_ref().unwrap());
        let log = outbox_rows(db).await;
        assert_same_log(db, &self.broker, &log).await;
        assert_eq!(count(reader, "relay_dead_letter").await, 0);
        let applied = reader.read(read_totals).await.unwrap();
        assert_eq!(
            applied,
            added_up(&log),
            "the consumer is no fold of the log"
        );
        let mut kept: BTreeMap<EventId, Vec<u8>> = BTreeMap::new();
        for (_, _, bytes) in set_aside(db).await {
            kept.insert(Envelope::parse(&bytes).unwrap().id, bytes);
        }
        kept.extend(
            log.iter()
                .map(|event| (event.event_id().unwrap(), event.bytes.to_vec())),
        );
        for id in &self.held {
            let written = &self.written[id];
            assert_eq!(
                kept.get(id).map(|bytes| &bytes[..]),
                Some(&written.bytes[..]),
                "{}",
                written.seq
            );
        }
    }
}

/// What the log says, reckoned here.
fn added_up(log: &[Record]) -> Vec<Total> {
    let mut totals: BTreeMap<String, Total> = BTreeMap::new();
    for event in log {
        let envelope = Envelope::parse(&event.bytes).unwrap();
        let weighed: Weighed = serde_json::from_str(envelope.data.get()).unwrap();
        let total = totals.entry(weighed.parcel.clone()).or_insert(Total {
            parcel: weighed.parcel,
            version: 0,
            times: 0,
            total_g: 0,
        });
        total.version = weighed.version;
        total.times += 1;
        total.total_g += weighed.weight_g;
    }
    totals.into_values().collect()
}

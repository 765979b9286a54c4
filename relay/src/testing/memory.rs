//! A stream in memory with the faults of a real one, drawn from a seed: for tests of the library and of its users.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::error::LogError;
use crate::log::reader::{ReadApi, Reader};
use crate::log::{AppendLog, Connect, Head, Log, Origin, Record, Stream, check_next};

/// A broker with room for one stream, and how its owner connects to it. Clones share it.
#[derive(Clone)]
pub struct MemoryBroker {
    state: Arc<Mutex<State>>,
    /// Counts changes, so that a reader can wait for one.
    changed: watch::Sender<u64>,
}

/// How a reader connects, with the faults of live delivery.
#[derive(Clone)]
pub struct MemoryReader(MemoryBroker);

/// What the broker holds; a copy of it is a backup of the broker's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    /// The last sequence taken, whether its event is kept or not.
    last: u64,
    records: Vec<Record>,
    incarnation: String,
    origin: Origin,
    closed_by: Option<u32>,
}

/// A rule broken on purpose, which the conformance suite must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlantedBug {
    /// Appends at its end, whatever the caller expected.
    IgnoresTheSequence,
    /// Takes appends that were meant for another incarnation.
    IgnoresTheIncarnation,
    /// Hands out events from one sequence too late.
    SkipsAnEvent,
    /// Refuses an append after storing its first event.
    KeepsPartOfTheRefused,
    /// Stores other bytes than it was given.
    RewritesTheBytes,
    /// Does not wake a reader that waits for an event.
    ForgetsToWake,
    /// Creates the log with an incarnation of its own choice.
    DrawsItsOwnIncarnation,
    /// Reports that the log is closed, and goes on taking appends.
    StaysOpen,
    /// Reports that the log is deleted, and keeps it.
    KeepsTheDeleted,
    /// Removes one event more than it should.
    TrimsOneTooMany,
    /// Removes the last event too, when everything before it is to go.
    TrimsTheHead,
}

/// How many faults of each kind have fired: a test without any proves nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fired {
    /// A connection was refused.
    pub not_connected: u64,
    /// The connection was cut before an append was stored.
    pub cut_before_store: u64,
    /// It was cut after a part of the records was stored.
    pub cut_amid_store: u64,
    /// It was cut after all were stored, before the answer.
    pub cut_after_store: u64,
    /// It was cut during a read.
    pub cut_read: u64,
    /// A read answered fewer events than there were.
    pub short_read: u64,
    /// A live copy did not arrive.
    pub live_skipped: u64,
    /// A live copy arrived late, or for the second time.
    pub live_repeated: u64,
    /// A live copy arrived from a log that has been replaced since.
    pub live_replaced: u64,
    /// A replica answered that is behind.
    pub behind: u64,
}

struct State {
    store: Option<Store>,
    random: SmallRng,
    /// How likely each operation fails, from 0 to 1.
    fault_rate: f64,
    /// How likely a live copy or a replica misleads its reader, from 0 to 1.
    misleading_rate: f64,
    /// Every live copy ever sent, with the incarnation that stored it.
    live: Vec<(String, Record)>,
    bug: Option<PlantedBug>,
    fired: Fired,
    /// Sessions of an older generation are cut.
    generation: u64,
}

impl MemoryBroker {
    /// An empty broker that never fails before [`Self::fail`].
    pub fn new(seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                store: None,
                random: SmallRng::seed_from_u64(seed),
                fault_rate: 0.0,
                misleading_rate: 0.0,
                live: Vec::new(),
                bug: None,
                fired: Fired::default(),
                generation: 0,
            })),
            changed: watch::Sender::new(0),
        }
    }

    /// The way of a reader to the same broker.
    pub fn reader(&self) -> MemoryReader {
        MemoryReader(self.clone())
    }

    /// From now on each operation fails this often, from 0 (never) to 1 (always), and readers are misled as often.
    pub fn fail(&self, rate: f64) {
        self.lock().fault_rate = rate;
        self.mislead(rate);
    }

    /// From now on live copies skip, repeat or come late this often, and replicas are behind; nothing fails.
    pub fn mislead(&self, rate: f64) {
        self.lock().misleading_rate = rate;
    }

    /// From now on the log has this fault of its own, which a check must find.
    pub fn plant(&self, bug: PlantedBug) {
        self.lock().bug = Some(bug);
    }

    /// The faults so far.
    pub fn fired(&self) -> Fired {
        self.lock().fired
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.lock().generation += 1;
        self.wake();
    }

    /// What is on the broker's disk: `None` without a stream.
    pub fn store(&self) -> Option<Store> {
        self.lock().store.clone()
    }

    /// Replaces the disk by an older copy, or an empty one. Connections are cut, as by any restart.
    pub fn restore(&self, store: Option<Store>) {
        self.lock().store = store;
        self.cut();
    }

    /// Loses the last `count` events, as a broker does that did not flush before a power cut.
    pub fn lose_tail(&self, count: usize) {
        if let Some(store) = &mut self.lock().store {
            let kept = store.records.len().saturating_sub(count);
            if let Some(lost) = store.records.get(kept) {
                store.last = lost.seq - 1;
            }
            store.records.truncate(kept);
        }
        self.cut();
    }

    /// Loses the event at `seq` and keeps its sequence, as a damaged disk does; it shows after a restart.
    pub fn lose(&self, seq: u64) {
        if let Some(store) = &mut self.lock().store {
            store.records.retain(|record| record.seq != seq);
        }
        self.cut();
    }

    /// Removes the events up to and including `seq`, even the last one, as a careless operator does.
    pub fn trim(&self, seq: u64) {
        if let Some(store) = &mut self.lock().store {
            store.records.retain(|record| record.seq > seq);
            store.last = store.last.max(seq);
        }
        self.wake();
    }

    /// Deletes the stream under living connections, as an operator can.
    pub fn delete(&self) {
        self.lock().store = None;
        self.wake();
    }

    /// The last sequence taken, whether its event is still there or not; 0 without a stream.
    pub fn last(&self) -> u64 {
        self.lock().store.as_ref().map_or(0, |store| store.last)
    }

    /// Every event in the stream.
    pub fn records(&self) -> Vec<Record> {
        self.store().map_or(Vec::new(), |store| store.records)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics inside the broker")
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

impl Connect for MemoryBroker {
    type Session = MemorySession;

    async fn connect(&self) -> Result<MemorySession, LogError> {
        let mut state = self.lock();
        if state.strikes() {
            state.fired.not_connected += 1;
            return Err(LogError::disconnected("not connected"));
        }
        Ok(MemorySession {
            generation: state.generation,
            changed: self.changed.subscribe(),
            broker: self.clone(),
        })
    }

    fn stream(&self) -> &str {
        "MEMORY"
    }
}

/// One connection.
pub struct MemorySession {
    broker: MemoryBroker,
    generation: u64,
    changed: watch::Receiver<u64>,
}

impl Log for MemorySession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let mut state = self.alive()?;
        state.maybe_cut_read()?;
        Ok(state.store.as_ref().map(Store::head))
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            self.changed.borrow_and_update(); // before looking, so that no change is missed
            let records = self.alive()?.read_after(after, limit)?;
            let woken = tokio::time::timeout_at(deadline, self.changed.changed());
            if !records.is_empty() || woken.await.is_err() {
                return Ok(records);
            }
        }
    }
}

impl AppendLog for MemorySession {
    async fn append_after(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        let appended = self.alive()?.append_after(head, records);
        if self.alive()?.bug != Some(PlantedBug::ForgetsToWake) {
            self.broker.wake();
        }
        appended
    }
}

impl Stream for MemorySession {
    async fn create(
        &mut self,
        first: u64,
        origin: &Origin,
        incarnation: &str,
    ) -> Result<Head, LogError> {
        let made = self.alive()?.create(first, origin, incarnation);
        self.broker.wake();
        made
    }

    async fn close(&mut self, epoch: u32, incarnation: &str) -> Result<Head, LogError> {
        self.alive()?.close(epoch, incarnation)
    }

    async fn delete(&mut self, incarnation: &str) -> Result<(), LogError> {
        self.alive()?.delete(incarnation)?;
        self.broker.wake();
        Ok(())
    }

    async fn trim(&mut self, first: u64) -> Result<(), LogError> {
        self.alive()?.trim(first)
    }
}

impl MemorySession {
    fn alive(&self) -> Result<MutexGuard<'_, State>, LogError> {
        let state = self.broker.lock();
        match state.generation == self.generation {
            true => Ok(state),
            false => Err(LogError::disconnected("the connection was cut")),
        }
    }
}

impl Connect for MemoryReader {
    type Session = Reader<MemoryReadApi>;

    async fn connect(&self) -> Result<Self::Session, LogError> {
        let session = self.0.connect().await?;
        let heard = session.alive()?.live.len();
        Ok(Reader::new(MemoryReadApi { session, heard }))
    }

    fn stream(&self) -> &str {
        self.0.stream()
    }
}

/// What one connection of a reader can call.
pub struct MemoryReadApi {
    session: MemorySession,
    /// How many of the live copies this connection has received.
    heard: usize,
}

impl ReadApi for MemoryReadApi {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.session.head().await
    }

    fn get(&self, first: u64, limit: usize) -> BoxFuture<'static, Result<Vec<Record>, LogError>> {
        let read = self.session.alive().and_then(|mut state| {
            let mut records = state.read_after(first - 1, limit)?;
            state.maybe_behind(&mut records);
            Ok(records)
        });
        futures::future::ready(read).boxed()
    }

    async fn live(&mut self) -> Result<Record, LogError> {
        loop {
            self.session.changed.borrow_and_update();
            let next = self.session.alive()?.next_live(&mut self.heard);
            if let Some(copy) = next {
                return Ok(copy);
            }
            let _broker_is_gone = self.session.changed.changed().await;
        }
    }
}

impl State {
    fn strikes(&mut self) -> bool {
        self.fault_rate > 0.0 && self.random.random_bool(self.fault_rate)
    }

    fn misleads(&mut self) -> bool {
        self.misleading_rate > 0.0 && self.random.random_bool(self.misleading_rate)
    }

    fn store(&mut self) -> Result<&mut Store, LogError> {
        let store = self.store.as_mut();
        store.ok_or_else(|| LogError::disconnected("there is no stream"))
    }

    /// A replica that is behind holds a beginning of the log, or nothing yet.
    fn maybe_behind(&mut self, records: &mut Vec<Record>) {
        if !records.is_empty() && self.misleads() {
            self.fired.behind += 1;
            let at = self.random.random_range(0..records.len());
            records.truncate(at);
        }
    }

    /// What arrives next at a connection that has received `heard` live copies.
    fn next_live(&mut self, heard: &mut usize) -> Option<Record> {
        while *heard < self.live.len() {
            if !self.misleads() {
                *heard += 1;
                return Some(self.live[*heard - 1].1.clone());
            }
            if *heard == 0 || self.random.random_bool(0.5) {
                self.fired.live_skipped += 1;
                *heard += 1;
                continue;
            }
            let mut copies: Vec<_> = self.live[..*heard].iter().collect();
            let now = self.store.as_ref().map(|store| &store.incarnation);
            let is_replaced = |(incarnation, _): &&(String, Record)| Some(incarnation) != now;
            if self.random.random_bool(0.5) && copies.iter().any(is_replaced) {
                copies.retain(is_replaced);
            }
            let copy = copies[self.random.random_range(0..copies.len())];
            match is_replaced(&copy) {
                true => self.fired.live_replaced += 1,
                false => self.fired.live_repeated += 1,
            }
            return Some(copy.1.clone());
        }
        None
    }

    fn maybe_cut_read(&mut self) -> Result<(), LogError> {
        if !self.strikes() {
            return Ok(());
        }
        self.fired.cut_read += 1;
        Err(LogError::disconnected(
            "the connection was cut under a read",
        ))
    }

    fn create(&mut self, first: u64, origin: &Origin, incarnation: &str) -> Result<Head, LogError> {
        if self.store.is_some() {
            return Err(LogError::Refused("the stream exists".to_owned()));
        }
        let incarnation = match self.bug {
            Some(PlantedBug::DrawsItsOwnIncarnation) => "of its own",
            _ => incarnation,
        };
        let store = Store {
            last: first - 1,
            records: Vec::new(),
            incarnation: incarnation.to_owned(),
            origin: origin.clone(),
            closed_by: None,
        };
        let head = store.head();
        self.store = Some(store);
        Ok(head)
    }

    fn close(&mut self, epoch: u32, incarnation: &str) -> Result<Head, LogError> {
        let stays_open = self.bug == Some(PlantedBug::StaysOpen);
        let store = self.store()?;
        store.check(incarnation)?;
        if !stays_open {
            store.closed_by = Some(epoch);
        }
        Ok(store.head())
    }

    fn delete(&mut self, incarnation: &str) -> Result<(), LogError> {
        if let Some(store) = &self.store {
            store.check(incarnation)?;
        }
        if self.bug != Some(PlantedBug::KeepsTheDeleted) {
            self.store = None;
        }
        Ok(())
    }

    fn trim(&mut self, first: u64) -> Result<(), LogError> {
        let bug = self.bug;
        let store = self.store()?;
        let first = match bug {
            Some(PlantedBug::TrimsTheHead) => first,
            Some(PlantedBug::TrimsOneTooMany) => store.last.min(first + 1),
            _ => store.last.min(first),
        };
        store.records.retain(|record| record.seq >= first);
        Ok(())
    }

    fn read_after(&mut self, after: u64, limit: usize) -> Result<Vec<Record>, LogError> {
        self.maybe_cut_read()?;
        let after = after + u64::from(self.bug == Some(PlantedBug::SkipsAnEvent));
        let kept = self.store()?.records.iter();
        let kept = kept.filter(|record| record.seq > after).take(limit);
        let mut records: Vec<Record> = kept.cloned().collect();
        if records.len() > 1 && self.strikes() {
            self.fired.short_read += 1;
            records.truncate(self.random.random_range(1..records.len()));
        }
        Ok(records)
    }

    fn append_after(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        check_next(head, records)?;
        let bug = self.bug;
        let store = self.store()?;
        let end = store.head();
        if end.closed_by.is_some() {
            return Err(LogError::Refused("the stream is closed".to_owned()));
        }
        let seq_differs = end.seq != head.seq && bug != Some(PlantedBug::IgnoresTheSequence);
        let other = end.incarnation != head.incarnation;
        if seq_differs || other && bug != Some(PlantedBug::IgnoresTheIncarnation) {
            if bug == Some(PlantedBug::KeepsPartOfTheRefused) {
                let _stored = store.push(&records[..1], bug);
            }
            return Err(LogError::Refused(format!("it ends at {}", end.seq)));
        }
        self.store_or_cut(head, records)
    }

    /// Stores everything, or a prefix and a cut: the caller cannot know which.
    fn store_or_cut(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        let kept = match self.strikes() {
            false => records.len(),
            true => self.random.random_range(0..=records.len()),
        };
        let cut = kept < records.len() || self.strikes();
        let bug = self.bug;
        let store = self.store()?;
        let incarnation = store.incarnation.clone();
        let stored = store.push(&records[..kept], bug).to_vec();
        let copies = stored.into_iter();
        self.live
            .extend(copies.map(|copy| (incarnation.clone(), copy)));
        if !cut {
            let seq = head.seq + records.len() as u64;
            return Ok(Head {
                seq,
                ..head.clone()
            });
        }
        match kept {
            0 => self.fired.cut_before_store += 1,
            n if n == records.len() => self.fired.cut_after_store += 1,
            _ => self.fired.cut_amid_store += 1,
        }
        Err(LogError::disconnected(
            "the connection was cut under a publish",
        ))
    }
}

impl Store {
    fn check(&self, incarnation: &str) -> Result<(), LogError> {
        match self.incarnation == incarnation {
            true => Ok(()),
            false => Err(LogError::disconnected("the stream was recreated meanwhile")),
        }
    }

    fn head(&self) -> Head {
        let first = self.records.first();
        let first = first.map_or(self.last + 1, |first| first.seq);
        Head {
            seq: self.last,
            first,
            holes: self.last + 1 - first - self.records.len() as u64,
            incarnation: self.incarnation.clone(),
            origin: self.origin.clone(),
            closed_by: self.closed_by,
        }
    }

    /// The broker numbers what it stores. Answers the stored records.
    fn push(&mut self, records: &[Record], bug: Option<PlantedBug>) -> &[Record] {
        let before = self.records.len();
        for record in records {
            let mut stored = record.clone();
            self.last += 1;
            stored.seq = self.last;
            if bug == Some(PlantedBug::RewritesTheBytes) {
                stored.bytes = [&record.bytes[..], b" "].concat().into();
            }
            self.records.push(stored);
        }
        &self.records[before..]
    }
}

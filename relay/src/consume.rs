//! The consumer: applies a stream in order, each event once, with its position in the transaction of the effect.

pub(crate) mod answered;
mod apply;
mod dead_letter;
mod follow;
mod heal;
pub(crate) mod import;
mod position;
mod rebuild;
mod report;
mod resume;
mod start;
mod step;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::Stop;
use crate::database::{Database, Rows, Tx, missing_table};
use crate::error::{ApplyError, Fatal, ReadError, WriteError, chain};
use crate::event::{Envelope, Event, Received, received};
use crate::log::{Connect, Position, Producer, Share};
use rebuild::Cache;

pub use dead_letter::{DeadLetter, LetterState, Retried};
pub use follow::Follower;
pub use start::Start;
pub use step::Progress;

/// A named reader of one stream and what it does with each event. Clones are the same consumer.
#[derive(Clone)]
pub struct Consumer {
    name: Arc<str>,
    stream: &'static str,
    handler: Handler,
    /// It is a reaction. A halted database refuses its writes.
    emits: bool,
    /// The tables a snapshot is loaded into, and the service that serves it.
    cache: Option<Cache>,
    producer: Option<Arc<dyn Producer>>,
    start: Start,
    /// After so many attempts a transient error makes a dead letter. `None`: the event is tried for as long as it takes.
    attempts: Option<u32>,
    rebuild_wanted: Arc<AtomicBool>,
    status: watch::Sender<ConsumerStatus>,
}

/// The consumer as of its last step, for metrics and operators.
#[derive(Clone, Debug, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct ConsumerStatus {
    /// Why nothing is applied; `None` while all is well.
    pub trouble: Option<String>,
    /// The last sequence applied.
    pub offset: u64,
    /// The stream's last known sequence; `None` before this process has reached it.
    pub stream_head: Option<u64>,
    /// Events of types this program does not know, since its start.
    pub skipped: u64,
    /// Dead and parked events that wait for an operator.
    pub dead_letters: u64,
    /// Rows received so far, while a snapshot is being loaded.
    pub rebuilding: Option<u64>,
    /// Snapshots loaded since the start of the process.
    pub rebuilt: u64,
    /// Why the last snapshot failed to load; cleared when another one is requested or loaded.
    pub not_rebuilt: Option<String>,
    /// When the stream last held no event that is not applied by now, in Unix milliseconds: the rows here are at least as new
    /// as that. `None` until this process has caught up for the first time.
    pub caught_up_at_ms: Option<u64>,
}

impl ConsumerStatus {
    /// Events in the stream that are not applied yet; `None` while that is unknown.
    pub fn behind(&self) -> Option<u64> {
        Some(self.stream_head?.saturating_sub(self.offset))
    }
}

/// The consumer's function with its event type erased. False: the type is not known here and the event is skipped, by
/// design: producers may add event types at any time.
type Handler = Arc<dyn Fn(&Tx<'_>, &Envelope<'_>) -> Result<bool, ApplyError> + Send + Sync>;

impl Consumer {
    /// A projection gets rows and no `emit`: replaying it publishes nothing.
    pub fn projection<E: Event>(
        name: &str,
        apply: impl Fn(&Rows<'_>, &Received<E>) -> Result<(), ApplyError> + Send + Sync + 'static,
    ) -> Self {
        let apply = move |tx: &Tx<'_>, event: &Received<E>| apply(tx.rows(), event);
        Self::new(name, apply, false)
    }

    /// A reaction may emit; its events commit together with the offset.
    ///
    /// An event counts as answered once the whole answer is in the service's log. If a reaction emits several events for one,
    /// an import may restore only the first of them, and the reaction gets its event again. Such a reaction decides from the
    /// service's tables, which follow from the imported events, what is still to be done.
    ///
    /// After a fork of its stream, a reaction that has a producer to [ask](Self::asks) goes back to the last event that it has
    /// answered and that the producer's log still holds. It sees the events in between again, which needed no answer.
    pub fn reaction<E: Event>(
        name: &str,
        apply: impl Fn(&Tx<'_>, &Received<E>) -> Result<(), ApplyError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, apply, true)
    }

    fn new<E: Event>(
        name: &str,
        apply: impl Fn(&Tx<'_>, &Received<E>) -> Result<(), ApplyError> + Send + Sync + 'static,
        emits: bool,
    ) -> Self {
        let handler = move |tx: &Tx<'_>, envelope: &Envelope<'_>| match received(envelope)? {
            Some(event) => apply(tx, &event).map(|()| true),
            None => Ok(false),
        };
        Self {
            name: name.into(),
            stream: E::STREAM,
            handler: Arc::new(handler),
            emits,
            cache: None,
            producer: None,
            start: Start::First,
            attempts: None,
            rebuild_wanted: Arc::default(),
            status: watch::Sender::default(),
        }
    }

    /// Lets a projection load its tables from a snapshot of its producer, row by row; `share` reads them back as such rows.
    /// `tables` are all that the projection writes to.
    #[must_use]
    pub fn loads<S: DeserializeOwned + 'static>(
        mut self,
        tables: &[&str],
        load: impl Fn(&Rows<'_>, &S) -> Result<(), ApplyError> + Send + Sync + 'static,
        share: Share,
    ) -> Self {
        self.cache = Some(Cache::new(tables, load, share));
        self
    }

    /// Where it begins as long as it has applied nothing. Decided once, then stored.
    #[must_use]
    pub fn starts(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// After so many attempts since the start of the process, an event whose error is
    /// [transient](ApplyError::Transient) becomes a dead letter. Without this, it is tried for as long as it takes.
    #[must_use]
    pub fn gives_up_after(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// The service that owns the stream: the consumer asks it when the stream alone does not show how to go on. A reaction
    /// needs it to recover from a fork by itself.
    #[must_use]
    pub fn asks(mut self, producer: Arc<dyn Producer>) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Requests a load of the cache from a snapshot. The consumer's next step does it.
    pub fn rebuild(&self) {
        self.status.send_modify(|status| status.not_rebuilt = None);
        self.rebuild_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether it emits.
    pub fn is_reaction(&self) -> bool {
        self.emits
    }

    /// Whether it keeps a copy of rows that its producer shares. A reaction does not.
    pub fn keeps_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Whether it can load a snapshot and has a producer to ask for it.
    pub fn can_rebuild(&self) -> bool {
        self.cache.is_some() && self.producer.is_some()
    }

    /// `orders-user-cache`: the name under which its offset is stored.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `USERS`: the stream that it follows.
    pub fn stream(&self) -> &'static str {
        self.stream
    }

    pub(crate) fn share(&self) -> Option<Share> {
        self.cache.as_ref().map(|cache| cache.share)
    }

    /// The service that owns the stream, if this consumer [asks](Self::asks) it.
    pub fn producer(&self) -> Option<&Arc<dyn Producer>> {
        self.producer.as_ref()
    }

    /// The last event that this consumer has applied in this database.
    ///
    /// # Errors
    ///
    /// An SQLite error; a position that no program of ours has written is one, too.
    pub fn position(&self, rows: &Connection) -> rusqlite::Result<Option<Position>> {
        position::load(rows, &self.name)
    }

    /// Refuses a consumer that cannot work with this database: its description is wrong, or a table of its cache is missing.
    /// It is checked when it starts in any case; a program may do it earlier.
    ///
    /// # Errors
    ///
    /// What is wrong with the description and the call that mends it; or which of its tables the migrations do not make.
    pub async fn check(&self, db: &Database) -> Result<(), Fatal> {
        self.check_description().map_err(Fatal)?;
        let Some(cache) = &self.cache else {
            return Ok(());
        };
        let tables = cache.tables.clone();
        let missing = db.read(move |rows| missing_table(rows, &tables)).await;
        match missing.map_err(|error| Fatal(chain(&error)))? {
            Some(table) => Err(Fatal(format!(
                "{} keeps its cache in table {table}, which no migration of the service makes: add one",
                self.name
            ))),
            None => Ok(()),
        }
    }

    fn check_description(&self) -> Result<(), String> {
        let (name, stream) = (&*self.name, self.stream);
        // A reaction's events name it and its stream, between spaces.
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        if !is_name(name) || !is_name(stream) {
            return Err(format!(
                "{name:?} or {stream:?} cannot name a consumer and its stream: leave out the spaces"
            ));
        }
        if self.start == Start::Snapshot && !self.can_rebuild() {
            return Err(format!(
                "{name} cannot begin with a snapshot: give it a way to load one (`loads`) and a producer to ask (`asks`)"
            ));
        }
        Ok(())
    }

    /// Its state, followed as it changes: for metrics and readiness.
    pub fn status(&self) -> watch::Receiver<ConsumerStatus> {
        self.status.subscribe()
    }

    /// Reads something of this consumer by its name.
    async fn read<T: Send + 'static>(
        &self,
        db: &Database,
        of: fn(&Connection, &str) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError<rusqlite::Error>> {
        let name = self.name.clone();
        db.read(move |rows| of(rows, &name)).await
    }

    /// A transaction of this consumer. A projection goes on in a halted database, since it emits nothing.
    async fn transact<T: Send + 'static>(
        &self,
        db: &Database,
        work: impl FnOnce(&Tx<'_>, &Self) -> Result<T, ApplyError> + Send + 'static,
    ) -> Result<T, WriteError<ApplyError>> {
        let consumer = self.clone();
        let work = move |tx: &Tx<'_>| work(tx, &consumer);
        match self.emits {
            true => db.write(work).await,
            false => db.write_past_gate(work).await,
        }
    }

    /// Applies until stopped. After an error the process should end: an operator must act.
    ///
    /// # Errors
    ///
    /// As [`Follower::run`].
    pub async fn run(&self, db: &Database, from: impl Connect, stop: Stop) -> Result<(), Fatal> {
        Box::pin(self.follow(db, from).run(stop)).await // 20 KB, which a caller would move around
    }

    /// The same, step by step.
    pub fn follow<C: Connect>(&self, db: &Database, from: C) -> Follower<C> {
        Follower::new(self.clone(), db.with_own_reader(), from)
    }
}

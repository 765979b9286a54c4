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
use crate::database::{Database, Rows, Tx};
use crate::error::{ApplyError, Fatal, ReadError, WriteError};
use crate::event::{Decode, Envelope, Received, received};
use crate::log::{Connect, Position, Producer, Share};
use rebuild::Cache;

pub use dead_letter::{DeadLetter, LetterState, Retried};
pub use follow::Follower;
pub use start::Start;
pub use step::Progress;

/// A named reader of one stream and what it does with each event. Clones are the same consumer.
#[derive(Clone)]
pub struct Consumer {
    name: &'static str,
    stream: &'static str,
    handler: Handler,
    /// A reaction. A halted database takes nothing from it.
    emits: bool,
    /// What a snapshot is loaded into, and who gives one.
    cache: Option<Cache>,
    producer: Option<Arc<dyn Producer>>,
    start: Start,
    /// After so many attempts a transient error makes a dead letter. `None`: the event is tried for as long as it takes.
    attempts: Option<u32>,
    rebuild_wanted: Arc<AtomicBool>,
    status: watch::Sender<ConsumerStatus>,
}

/// What the consumer last knew, for metrics and people.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ConsumerStatus {
    /// `None` while all is well; otherwise why nothing is applied.
    pub trouble: Option<String>,
    /// The last place applied.
    pub offset: u64,
    /// The stream's last place, as far as known; `None` before the first look at it since the start.
    pub stream_head: Option<u64>,
    /// Events of types this program does not know, since the start.
    pub skipped: u64,
    /// Dead and parked events that wait for a person.
    pub dead_letters: u64,
    /// While a snapshot comes in: the rows that have come.
    pub rebuilding: Option<u64>,
    /// Snapshots loaded since the start.
    pub rebuilt: u64,
    /// Why the last snapshot was not loaded; `None` since one is asked for or was loaded.
    pub not_rebuilt: Option<String>,
    /// When the stream was last seen to hold nothing but what is applied by now, in Unix milliseconds: what is kept here
    /// is at least as new as that. `None` until it is known for the first time since the start.
    pub caught_up_at_ms: Option<u64>,
}

impl ConsumerStatus {
    /// Events in the stream that are not applied; `None` while that is not known.
    pub fn behind(&self) -> Option<u64> {
        Some(self.stream_head?.saturating_sub(self.offset))
    }
}

/// The consumer's function with its event type erased. False: the type is not known here and the event is skipped, by
/// design: producers may add event types at any time.
type Handler = Arc<dyn Fn(&Tx<'_>, &Envelope<'_>) -> Result<bool, ApplyError> + Send + Sync>;

impl Consumer {
    /// A projection gets rows, not `emit`: replaying it cannot tell the world anything.
    pub fn projection<E: 'static>(
        name: &'static str,
        stream: &'static str,
        decode: Decode<E>,
        apply: impl Fn(&Rows<'_>, &Received<E>) -> Result<(), ApplyError> + Send + Sync + 'static,
    ) -> Self {
        let apply = move |tx: &Tx<'_>, event: &Received<E>| apply(tx.rows(), event);
        Self::new(name, stream, decode, apply, false)
    }

    /// A reaction may emit; what it emits commits together with the offset.
    ///
    /// An event is answered once its whole answer is in the service's log. Of several events that a reaction emits for one,
    /// a log that comes home may hold only the first: then the reaction is given the event again. So a reaction that emits
    /// several decides from the service's tables, which are folded from what did come home, what is still to be done.
    ///
    /// After a fork of its stream it goes back to the last event that it has answered and that its producer's log still
    /// holds, if it is told whom to [ask](Self::asks). So it is given some events again that it has looked at before and
    /// that needed no answer.
    pub fn reaction<E: 'static>(
        name: &'static str,
        stream: &'static str,
        decode: Decode<E>,
        apply: impl Fn(&Tx<'_>, &Received<E>) -> Result<(), ApplyError> + Send + Sync + 'static,
    ) -> Self {
        Self::new(name, stream, decode, apply, true)
    }

    fn new<E: 'static>(
        name: &'static str,
        stream: &'static str,
        decode: Decode<E>,
        apply: impl Fn(&Tx<'_>, &Received<E>) -> Result<(), ApplyError> + Send + Sync + 'static,
        emits: bool,
    ) -> Self {
        let handler = move |tx: &Tx<'_>, envelope: &Envelope<'_>| match received(envelope, decode)?
        {
            Some(event) => apply(tx, &event).map(|()| true),
            None => Ok(false),
        };
        Self {
            name,
            stream,
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

    /// Says how a projection's tables are loaded from a snapshot of its producer, row by row, and how they are read as
    /// such rows. `tables` are all that the projection writes to.
    #[must_use]
    pub fn loads<S: DeserializeOwned + 'static>(
        mut self,
        tables: &'static [&'static str],
        load: impl Fn(&Rows<'_>, &S) -> Result<(), ApplyError> + Send + Sync + 'static,
        share: Share,
    ) -> Self {
        self.cache = Some(Cache::new(tables, load, share));
        self
    }

    /// Where it begins while it has applied nothing yet. Once that is decided, it is stored and never asked again.
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

    /// Names the service that owns the stream: it is asked when the stream alone cannot say how to go on. A reaction needs
    /// it to go on by itself after a fork.
    #[must_use]
    pub fn asks(mut self, producer: Arc<dyn Producer>) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Loads the cache anew from a snapshot, as soon as the consumer's step comes round.
    pub fn rebuild(&self) {
        self.status.send_modify(|status| status.not_rebuilt = None);
        self.rebuild_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether it emits, so that what it does is told by this service's own log.
    pub fn is_reaction(&self) -> bool {
        self.emits
    }

    /// Whether it keeps a copy of what its producer shares. A reaction does not.
    pub fn keeps_cache(&self) -> bool {
        self.cache.is_some()
    }

    /// Whether it was told how to load a snapshot, and whom to ask for one.
    pub fn can_rebuild(&self) -> bool {
        self.cache.is_some() && self.producer.is_some()
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn stream(&self) -> &'static str {
        self.stream
    }

    pub(crate) fn share(&self) -> Option<Share> {
        self.cache.as_ref().map(|cache| cache.share)
    }

    /// Who is asked when the stream alone cannot say how to go on.
    pub fn producer(&self) -> Option<&Arc<dyn Producer>> {
        self.producer.as_ref()
    }

    /// Where this consumer is in `rows`.
    pub fn position(&self, rows: &Connection) -> rusqlite::Result<Option<Position>> {
        position::load(rows, self.name)
    }

    /// Whether its program describes it in a way that can work; otherwise why not.
    fn check(&self) -> Result<(), String> {
        let (name, stream) = (self.name, self.stream);
        // A reaction's events name it and its stream, between spaces.
        let is_name = |name: &str| !name.is_empty() && !name.contains(char::is_whitespace);
        if !is_name(name) || !is_name(stream) {
            return Err(format!(
                "{name:?} or {stream:?} cannot name a consumer and its stream: leave out the spaces"
            ));
        }
        if self.start == Start::Snapshot && !self.can_rebuild() {
            return Err(format!(
                "{name} cannot begin with a snapshot: it does not say how to load one and which producer to ask for it"
            ));
        }
        Ok(())
    }

    pub fn status(&self) -> watch::Receiver<ConsumerStatus> {
        self.status.subscribe()
    }

    /// Reads something of this consumer by its name.
    async fn read<T: Send + 'static>(
        &self,
        db: &Database,
        of: fn(&Connection, &str) -> rusqlite::Result<T>,
    ) -> Result<T, ReadError<rusqlite::Error>> {
        let name = self.name;
        db.read(move |rows| of(rows, name)).await
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
            false => db.apply(work).await,
        }
    }

    /// Applies until stopped. An error means that a person must look and that the process should end.
    pub async fn run(&self, db: &Database, from: impl Connect, stop: Stop) -> Result<(), Fatal> {
        self.follow(db, from).run(stop).await
    }

    /// The same, step by step.
    pub fn follow<C: Connect>(&self, db: &Database, from: C) -> Follower<C> {
        Follower::new(self.clone(), db.with_own_reader(), from)
    }
}

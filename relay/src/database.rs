//! The one SQLite file a service owns: one writer that commits in groups, a few readers, and its outbox.

pub(crate) mod connect;
mod disk;
mod fold;
mod gate;
pub(crate) mod head;
pub(crate) mod identity;
pub(crate) mod lock;
pub(crate) mod open;
pub(crate) mod path;
mod readers;
pub(crate) mod threaded;
mod tx;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use crate::environment::{Environment, System};
use crate::error::{OpenError, ReadError, WriteError};
use crate::event::Keys;
use crate::event::trace::{self, Trace};
use disk::Disk;
use readers::{Pool, Readers};
use writer::Writer;

pub use disk::{DiskHealth, OnDiskFailure};
pub use fold::Fold;
pub(crate) use fold::missing_table;
pub use gate::Gate;
pub(crate) use identity::{
    Identity, clear_mark, mark, origin, set_origin, set_replaces, set_unfit,
};
pub use open::key_in_use;
pub use path::real_path;
pub use tx::{Rows, Tx};

/// What a database is for, and its limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The only program that may open the file: `user-service`.
    pub service: String,
    /// The stream its outbox is copied to: `USERS`.
    pub stream: String,
    /// The service's own tables: numbered, final, applied in order.
    pub migrations: Vec<String>,
    /// Writes that share one commit, at most. 1 switches group commit off.
    pub max_group: usize,
    /// Writes that may wait for the writer; past it callers wait.
    pub max_queue: usize,
    /// How long a caller waits for room in the queue before it receives `Busy`.
    pub max_wait: Duration,
    /// Connections that the application's reads share. The relay and each consumer have one each of their own.
    pub readers: usize,
    /// How the service's own tables follow from its own events. Without it a file that lacks some of its stream cannot
    /// import them, and halts instead.
    pub fold: Option<Fold>,
    /// Fills in, after the migrations of each opening, what SQL alone cannot.
    pub fill: Option<fn(&Connection) -> rusqlite::Result<()>>,
    /// What the sealed parts of its events are sealed with.
    pub keys: Option<Keys>,
    /// Writes are accepted although the file may be an older copy of itself: the operator decided so. Audited.
    pub open_without_stream: bool,
    /// What happens when the disk fails under a commit, and nothing more can be known of the file until it is opened again.
    /// By default the process ends with exit code 74; a program with more to do than this database sets its own.
    pub on_disk_failure: OnDiskFailure,
    /// The clock and the random bytes: the operating system's, unless a test replaces them.
    pub environment: Arc<dyn Environment>,
}

impl Options {
    /// A service, the stream it owns, and its migrations, which are numbered by their place: append, never change one that has
    /// been released. The limits are those of the README's table.
    pub fn new(service: &str, stream: &str, migrations: &[&str]) -> Self {
        Self {
            service: service.to_owned(),
            stream: stream.to_owned(),
            migrations: migrations.iter().map(|sql| (*sql).to_owned()).collect(),
            max_group: 256,
            max_queue: 1024,
            max_wait: Duration::from_secs(5),
            readers: 4,
            fold: None,
            fill: None,
            keys: None,
            open_without_stream: false,
            on_disk_failure: OnDiskFailure::default(),
            environment: Arc::new(System),
        }
    }

    /// Sets [`fold`](Self#structfield.fold).
    #[must_use]
    pub fn fold(mut self, fold: Fold) -> Self {
        self.fold = Some(fold);
        self
    }

    /// Sets [`fill`](Self#structfield.fill).
    #[must_use]
    pub fn fill(mut self, fill: fn(&Connection) -> rusqlite::Result<()>) -> Self {
        self.fill = Some(fill);
        self
    }

    /// Sets [`keys`](Self#structfield.keys).
    #[must_use]
    pub fn keys(mut self, keys: Keys) -> Self {
        self.keys = Some(keys);
        self
    }

    /// What is the same in every transaction.
    fn context(&self, gate: watch::Receiver<Gate>) -> Context {
        Context {
            gate,
            stream: self.stream.clone(),
            fold: self.fold.clone(),
            keys: self.keys.clone(),
            environment: self.environment.clone(),
        }
    }
}

/// A handle to the open file; clones share it.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
    /// What this handle reads with.
    reader: Arc<Pool>,
}

struct Shared {
    path: PathBuf,
    context: Arc<Context>,
    writer: Writer,
    readers: Arc<Readers>,
    disk: watch::Receiver<DiskHealth>,
    gate: watch::Sender<Gate>,
    /// Whether this process has found its stream to be a copy of the outbox.
    met: AtomicBool,
    /// The sequence of the last committed event: what the relay waits on.
    head: watch::Receiver<u64>,
}

/// What became of a write when its turn came.
enum Turn<T, W> {
    /// What it answered, and the log's head after it for those who trace it.
    Done(T, Option<u64>),
    /// The gate is held: the write waits again.
    Held(W),
}

/// What is known of the database without asking its file.
#[derive(Debug)]
pub(crate) struct Context {
    gate: watch::Receiver<Gate>,
    pub(crate) stream: String,
    pub(crate) fold: Option<Fold>,
    pub(crate) keys: Option<Keys>,
    pub(crate) environment: Arc<dyn Environment>,
}

impl Context {
    /// The gate, unless it is open.
    fn closed(&self) -> Option<Gate> {
        let gate = self.gate.borrow();
        (*gate != Gate::Open).then(|| gate.clone())
    }

    /// `users` for stream `USERS`: the first word of its subjects.
    pub(crate) fn root(&self) -> String {
        self.stream.to_lowercase()
    }
}

impl Database {
    /// Opens the file, or creates it where there is none. A file of another service, or a damaged one, is refused before a
    /// byte is changed; see [`Refusal`](crate::error::Refusal) for the cases.
    ///
    /// # Errors
    ///
    /// [`OpenError`] with the path and the [`Refusal`](crate::error::Refusal): another process has it open, it belongs to
    /// another service or a newer program, it is damaged, or the disk does not serve.
    pub async fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(path.as_ref().to_owned(), options.clone()).await?;
        let (announce, head) = watch::channel(opened.head);
        let (ownership, gate) = (Arc::new(opened.ownership), watch::Sender::new(opened.gate));
        let context = Arc::new(options.context(gate.subscribe()));
        let readers = Arc::new(Readers::new(ownership.clone(), opened.readers));
        let index = Arc::new(opened.index);
        let disk = Disk::new(ownership.clone(), index.clone(), gate.clone());
        let health = disk.health();
        let owned = writer::Owned {
            connection: opened.writer,
            readers: readers.clone(),
            index,
            ownership,
            thread: Arc::new(writer::Thread {
                context: context.clone(),
                announce,
                gate: gate.clone(),
                disk,
                on_disk_failure: options.on_disk_failure.clone(),
            }),
        };
        Ok(Self {
            reader: readers.shared(),
            shared: Arc::new(Shared {
                path: opened.path,
                context,
                writer: Writer::start(owned, &options),
                readers,
                disk: health,
                gate,
                met: AtomicBool::new(false),
                head,
            }),
        })
    }

    /// The same database, read through a connection of this handle's own and its clones': no other reads make it wait.
    #[must_use]
    pub fn with_own_reader(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            reader: self.shared.readers.lend(),
        }
    }

    /// Runs `work` in a transaction and answers after it is on disk. It shares the commit with whatever else waits,
    /// yet succeeds or fails alone. Dropping the future does not undo the write. What it emits carries the [`Trace`] of the
    /// task that calls this.
    ///
    /// Two things `work` must not do, because they would reach its neighbours: end the transaction itself, and break a
    /// *deferred* constraint, which SQLite only notices at the common commit.
    ///
    /// # Errors
    ///
    /// [`WriteError::Work`] with the error of `work`, and nothing is stored. [`Busy`](WriteError::Busy) and
    /// [`Full`](WriteError::Full) pass; [`MustImport`](WriteError::MustImport) passes with the first contact;
    /// [`Halted`](WriteError::Halted) needs the operator. Only after [`Unknown`](WriteError::Unknown) the write may be stored.
    pub async fn write<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>> {
        let mut waiting = (work, Trace::current());
        let is_traced = trace::is_traced();
        loop {
            self.wait_while_held().await;
            let (work, trace) = waiting;
            let guarded = move |tx: &Tx<'_>| {
                // Asked when its turn comes: what waits in the queue when the gate closes stays outside.
                if let Some(gate) = tx.context().closed() {
                    let held = || Ok(Turn::Held((work, trace)));
                    return Ok(gate.refusal().map_or_else(held, Err));
                }
                tx.set_trace(trace);
                let done = work(tx)?;
                let head = is_traced.then(|| tx.head().ok());
                Ok(Ok(Turn::Done(done, head.flatten())))
            };
            match self.shared.writer.write(guarded).await?? {
                Turn::Held(again) => waiting = again,
                Turn::Done(done, head) => {
                    head.into_iter().for_each(trace::note_written);
                    return Ok(done);
                }
            }
        }
    }

    /// What a projection uses: a halted database still applies other services' events, it only emits none.
    pub(crate) async fn write_past_gate<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>> {
        self.shared.writer.write(work).await
    }

    /// Runs `work` on a connection that cannot write. The writer never makes it wait, and all it reads is of one moment.
    ///
    /// # Errors
    ///
    /// [`ReadError::Work`] with the error of `work`; [`Panicked`](ReadError::Panicked) when it panicked;
    /// [`Closed`](ReadError::Closed) after [`close`](Self::close).
    pub async fn read<T: Send + 'static, E: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ReadError<E>> {
        self.reader.read(work).await
    }

    /// The sequence of the last committed event, which changes with each commit that emits.
    pub(crate) fn committed(&self) -> watch::Receiver<u64> {
        self.shared.head.clone()
    }

    /// The name of its stream: `USERS`.
    pub fn stream(&self) -> &str {
        &self.shared.context.stream
    }

    /// The clock and the random bytes that everything in this file is stamped with.
    pub fn environment(&self) -> &dyn Environment {
        &*self.shared.context.environment
    }

    pub(crate) fn has_fold(&self) -> bool {
        self.shared.context.fold.is_some()
    }

    /// Unix time in milliseconds, of the database's own clock.
    pub fn now_ms(&self) -> u64 {
        self.environment().now_ms()
    }

    /// The file, with every link followed.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Whether new writes are taken, and why not.
    pub fn gate(&self) -> Gate {
        self.shared.gate.borrow().clone()
    }

    /// The state of the disk under it.
    pub fn disk(&self) -> DiskHealth {
        self.shared.disk.borrow().clone()
    }

    /// Refuses all writes from now on, with this reason. Only a restart lifts it.
    pub fn halt(&self, reason: impl Into<String>) {
        self.shared.gate.send_replace(Gate::Halted(reason.into()));
    }

    /// Whether this process has found its stream to be a copy of the outbox.
    pub fn has_met_its_stream(&self) -> bool {
        self.shared.met.load(Ordering::Relaxed)
    }

    pub(crate) fn met_its_stream(&self) {
        self.shared.met.store(true, Ordering::Relaxed);
    }

    /// Opens or closes the gate, unless it is halted.
    pub(crate) fn set_gate(&self, to: Gate) {
        self.shared.gate.send_if_modified(|gate| {
            let changes = !matches!(gate, Gate::Halted(_)) && *gate != to;
            if changes {
                *gate = to;
            }
            changes
        });
    }

    /// Lets new writes wait from now on, for [`HOLD`](gate::HOLD) at most: until [`release`](Self::release). Those whose turn
    /// has come already are done when the next piece of work is. False: the gate was not open.
    pub(crate) fn hold(&self) -> bool {
        let until = tokio::time::Instant::now() + gate::HOLD;
        self.shared.gate.send_if_modified(|gate| {
            let holds = matches!(gate, Gate::Open | Gate::Held { .. });
            if holds {
                *gate = Gate::Held { until };
            }
            holds
        })
    }

    /// Releases the writes that wait.
    pub(crate) fn release(&self) {
        self.release_if(|_| true);
    }

    fn release_if(&self, due: impl Fn(tokio::time::Instant) -> bool) {
        self.shared.gate.send_if_modified(|gate| {
            let releases = matches!(gate, Gate::Held { until } if due(*until));
            if releases {
                *gate = Gate::Open;
            }
            releases
        });
    }

    /// A write waits no longer than the hold, even if the relay is gone.
    async fn wait_while_held(&self) {
        let Gate::Held { until: end } = *self.shared.gate.borrow() else {
            return;
        };
        let mut gate = self.shared.gate.subscribe();
        let opens = gate.wait_for(|gate| !matches!(gate, Gate::Held { .. }));
        if tokio::time::timeout_at(end, opens).await.is_err() {
            self.release_if(|until| until == end);
        }
    }

    /// Finishes the writes in the queue, then closes the file, so that no WAL is left.
    pub async fn close(&self) {
        self.shared.writer.close().await;
    }
}

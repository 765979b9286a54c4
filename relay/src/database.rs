//! The one SQLite file a service owns: one writer that commits in groups, a few readers, and its outbox.

mod open;
mod readers;
mod tx;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::watch;

use crate::error::{OpenError, ReadError, WriteError};
use crate::log::Origin;
use crate::outbox::Outbox;
use readers::Readers;
use writer::Writer;

pub use tx::{Rows, Tx};

/// What a database is for, and its limits.
#[derive(Clone, Debug)]
pub struct Options {
    /// The only program that may open the file: `user-service`.
    pub service: &'static str,
    /// The stream its outbox is copied to: `USERS`.
    pub stream: &'static str,
    /// The service's own tables: numbered, final, applied in order.
    pub migrations: &'static [&'static str],
    /// Writes that share one commit, at most. 1 switches group commit off.
    pub max_group: usize,
    /// Writes that may wait for the writer; past it callers wait.
    pub max_queue: usize,
    /// How long a caller waits for a place in the queue before it hears `Busy`.
    pub max_wait: Duration,
    /// Connections that read.
    pub readers: usize,
}

impl Options {
    pub fn new(
        service: &'static str,
        stream: &'static str,
        migrations: &'static [&'static str],
    ) -> Self {
        Self {
            service,
            stream,
            migrations,
            max_group: 256,
            max_queue: 1024,
            max_wait: Duration::from_secs(5),
            readers: 4,
        }
    }
}

/// A handle to the open file; clones share it.
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

struct Shared {
    path: PathBuf,
    identity: Arc<Identity>,
    writer: Writer,
    readers: Readers,
    halted: OnceLock<String>,
    /// The place of the last committed event: what the relay waits on.
    head: watch::Receiver<u64>,
}

/// Whose file this is: its identity row.
#[derive(Clone, Debug)]
pub struct Identity {
    pub service: String,
    pub stream: String,
    pub origin: Origin,
}

impl Identity {
    /// `users` for stream `USERS`: the first token of its subjects.
    pub fn root(&self) -> String {
        self.stream.to_lowercase()
    }
}

impl Database {
    /// Opens the file, or creates it where there is none. Everything that could be somebody else's or damaged is
    /// refused before a byte is changed; see [`OpenError`] for the cases.
    pub async fn open(path: impl AsRef<Path>, options: Options) -> Result<Self, OpenError> {
        let opened = open::open(path.as_ref().to_owned(), &options).await?;
        let (announce, head) = watch::channel(opened.head);
        let identity = Arc::new(opened.identity);
        Ok(Self {
            shared: Arc::new(Shared {
                path: opened.path,
                writer: Writer::start(
                    opened.writer,
                    opened.ownership,
                    identity.clone(),
                    announce,
                    &options,
                ),
                readers: Readers::new(opened.readers),
                identity,
                halted: OnceLock::new(),
                head,
            }),
        })
    }

    /// Runs `work` in a transaction and answers after it is on disk. It shares the commit with whatever else waits,
    /// yet succeeds or fails alone. Dropping the future does not undo the write.
    ///
    /// Two things `work` must not do, because they would reach its neighbours: end the transaction itself, and break a
    /// *deferred* constraint, which SQLite only notices at the common commit.
    pub async fn write<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        if let Some(reason) = self.halted() {
            return Err(WriteError::Halted(reason.to_owned()));
        }
        self.shared.writer.write(work).await
    }

    /// What a projection uses: a halted database still applies what others tell it, it only says nothing new.
    pub(crate) async fn apply<T, E>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, E> + Send + 'static,
    ) -> Result<T, WriteError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.shared.writer.write(work).await
    }

    /// Runs `work` on a connection that cannot write. The writer never makes it wait.
    pub async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ReadError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.shared.readers.read(work).await
    }

    /// The service's log.
    pub fn outbox(&self) -> Outbox {
        Outbox::new(self.clone(), self.shared.head.clone())
    }

    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Refuses all writes from now on, with this reason. Only a restart lifts it.
    pub fn halt(&self, reason: impl Into<String>) {
        let _already = self.shared.halted.set(reason.into());
    }

    /// Why writes are refused, if they are.
    pub fn halted(&self) -> Option<&str> {
        self.shared.halted.get().map(String::as_str)
    }

    /// Finishes the writes in the queue, then closes the file so that nothing is left beside it.
    pub async fn close(&self) {
        self.shared.readers.close().await;
        self.shared.writer.close().await;
    }
}

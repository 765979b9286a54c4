//! The connections that cannot write: a small pool for the application, and one each for what must not wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, ffi};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connect;
use super::lock::Ownership;
use crate::error::ReadError;
use crate::panics::message;

/// Every reader of one database.
pub(super) struct Readers {
    ownership: Arc<Ownership>,
    shared: Pool,
    /// `None` once they are closed.
    own: Mutex<Option<Own>>,
    /// The long reads that are under way.
    apart: TaskTracker,
    closing: CancellationToken,
}

/// How long closing waits for a long read: one that hands out rows may wait for its taker.
const APART: Duration = Duration::from_secs(5);
/// An interrupt stops the statement that runs. Between two there is none.
const INTERRUPT_EVERY: Duration = Duration::from_millis(50);

/// Connections of which each has one owner.
#[derive(Default)]
struct Own {
    all: Vec<Arc<Pool>>,
    /// Those whose owner has gone: the next one takes one of them.
    free: Vec<Arc<Pool>>,
}

impl Readers {
    pub(super) fn new(ownership: Arc<Ownership>, shared: Vec<tokio_rusqlite::Connection>) -> Self {
        Self {
            ownership,
            shared: Pool::new(shared),
            own: Mutex::new(Some(Own::default())),
            apart: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    pub(super) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ReadError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.shared.read(work).await
    }

    /// Runs long work on a connection of its own, so that it takes none from the pool. It is interrupted at the close.
    pub(super) async fn read_apart<T, E>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ReadError<E>>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
    {
        if self.closing.is_cancelled() {
            return Err(ReadError::Closed);
        }
        let mut rows = self.open().map_err(|error| ReadError::Work(error.into()))?;
        let interrupt = rows.get_interrupt_handle();
        let mut read = self.apart.spawn_blocking(move || work(&mut rows));
        let done = loop {
            tokio::select! {
                done = &mut read => break done,
                () = self.closing.cancelled() => interrupt.interrupt(),
            }
            tokio::time::sleep(INTERRUPT_EVERY).await;
        };
        match done {
            Ok(done) => done.map_err(ReadError::Work),
            Err(panic) => Err(ReadError::Panicked(panic.to_string())),
        }
    }

    /// A connection to the open file. SQLite knows the WAL by the file's name: it would delete this file's beside an empty
    /// one, and would read it into another one. A connection opens the file at once and looks at the WAL when it reads first.
    fn open(&self) -> rusqlite::Result<Connection> {
        self.check_in_place()?;
        let rows = connect::to_read(self.ownership.path())?;
        self.check_in_place()?;
        Ok(rows)
    }

    fn check_in_place(&self) -> rusqlite::Result<()> {
        let moved = || ffi::Error::new(ffi::SQLITE_READONLY_DBMOVED);
        match self.ownership.displaced() {
            Some(why) => Err(rusqlite::Error::SqliteFailure(moved(), Some(why))),
            None => Ok(()),
        }
    }

    /// Waits for the reads that are under way, also those whose callers gave up, and closes every connection. False: a long
    /// read goes on.
    pub(super) async fn close(&self) -> bool {
        self.closing.cancel();
        self.apart.close();
        let ended = tokio::time::timeout(APART, self.apart.wait()).await;
        if ended.is_err() {
            tracing::warn!("a long read goes on after the close: the WAL stays");
        }
        let own = lock(&self.own).take();
        for reader in own.into_iter().flat_map(|own| own.all) {
            reader.close().await;
        }
        self.shared.close().await;
        ended.is_ok()
    }

    fn lend(&self) -> Option<Arc<Pool>> {
        let mut own = lock(&self.own);
        let own = own.as_mut()?;
        if let Some(free) = own.free.pop() {
            return Some(free);
        }
        match self.open() {
            Ok(connection) => {
                let reader = Arc::new(Pool::new(vec![connection.into()]));
                own.all.push(reader.clone());
                Some(reader)
            }
            Err(error) => {
                tracing::warn!(%error, "no connection to read with could be opened: using the shared ones");
                None
            }
        }
    }
}

/// One connection for one owner, opened at the first read.
pub(super) struct OwnReader {
    readers: Arc<Readers>,
    own: Mutex<Option<Arc<Pool>>>,
}

impl OwnReader {
    pub(super) fn new(readers: Arc<Readers>) -> Self {
        let own = Mutex::default();
        Self { readers, own }
    }

    pub(super) async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ReadError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        match self.pool() {
            Some(own) => own.read(work).await,
            None => self.readers.read(work).await,
        }
    }

    fn pool(&self) -> Option<Arc<Pool>> {
        let mut own = lock(&self.own);
        if own.is_none() {
            *own = self.readers.lend();
        }
        own.clone()
    }
}

impl Drop for OwnReader {
    fn drop(&mut self) {
        if let Some(readers) = &mut *lock(&self.readers.own) {
            readers.free.extend(lock(&self.own).take());
        }
    }
}

/// Connections that any caller may use, one at a time.
struct Pool {
    idle: Arc<Idle>,
    /// One permit per idle connection.
    permits: Arc<Semaphore>,
    count: u32,
}

type Idle = Mutex<Vec<tokio_rusqlite::Connection>>;

impl Pool {
    fn new(connections: Vec<tokio_rusqlite::Connection>) -> Self {
        Self {
            count: u32::try_from(connections.len()).expect("a pool is small"),
            permits: Arc::new(Semaphore::new(connections.len())),
            idle: Arc::new(Mutex::new(connections)),
        }
    }

    async fn read<T, E>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ReadError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let permit = self.permits.clone().acquire_owned().await;
        let lent = Lent::take(&self.idle, permit.map_err(|_| ReadError::Closed)?);
        let connection = lent.connection.clone();
        // A panic would kill the connection's thread for good, so it is caught on that thread.
        let call = move |rows: &mut Connection| {
            let result = catch_unwind(AssertUnwindSafe(|| of_one_moment(rows, work)));
            end(rows);
            drop(lent);
            result
        };
        match connection.call_raw(call).await {
            Ok(Ok(result)) => result.map_err(ReadError::Work),
            Ok(Err(panic)) => Err(ReadError::Panicked(message(&*panic))),
            Err(_) => Err(ReadError::Closed),
        }
    }

    async fn close(&self) {
        let every = self.permits.acquire_many(self.count).await;
        if every.is_err() {
            return; // closed before
        }
        self.permits.close();
        let connections = std::mem::take(&mut *lock(&self.idle));
        for connection in connections {
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "a reader did not close cleanly");
            }
        }
    }
}

/// All that is read belongs together, however many statements ask for it.
fn of_one_moment<T, E>(
    rows: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    // Reads nothing yet, so it has nothing to fail with but a connection on which `work` fails, too, and says why.
    let _begun = rows.execute_batch("begin");
    work(rows)
}

/// A read that stays open would keep the WAL from ever shrinking.
fn end(rows: &Connection) {
    if !rows.is_autocommit()
        && let Err(error) = rows.execute_batch("rollback")
    {
        tracing::warn!(%error, "a read did not end cleanly");
    }
}

/// A connection at work. It goes home when the work is done, not when the caller has gone: a connection that still
/// works for somebody who gave up is no idle one.
struct Lent {
    connection: tokio_rusqlite::Connection,
    home: Arc<Idle>,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    fn take(idle: &Arc<Idle>, permit: OwnedSemaphorePermit) -> Self {
        let connection = lock(idle).pop();
        Self {
            connection: connection.expect("a permit stands for an idle connection"),
            home: idle.clone(),
            _permit: permit,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.home).push(self.connection.clone()); // before the permit is given back
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("no code panics while it holds the lock")
}

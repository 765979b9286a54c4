//! The connections that cannot write: a small pool for the application, and one each for what must not wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rusqlite::{Connection, InterruptHandle, ffi};
use tokio::sync::Semaphore;

use super::connect;
use super::lock::Ownership;
use super::threaded::Threaded;
use crate::error::ReadError;
use crate::panics::message;

/// Every reader of one database.
pub(super) struct Readers {
    ownership: Arc<Ownership>,
    shared: Arc<Pool>,
    /// Each of one connection. `None` once they are closed.
    own: Mutex<Option<Vec<Arc<Pool>>>>,
}

/// How long closing waits for a read on a connection of its own: one that hands out rows may wait for its taker.
const MAX_CLOSE: Duration = Duration::from_secs(5);
/// An interrupt stops the statement that runs. Between two statements it does nothing, so it is repeated.
const INTERRUPT_EVERY: Duration = Duration::from_millis(50);

impl Readers {
    pub(super) fn new(ownership: Arc<Ownership>, shared: Vec<Threaded>) -> Self {
        Self {
            ownership,
            shared: Arc::new(Pool::new(shared, None)),
            own: Mutex::new(Some(Vec::new())),
        }
    }

    pub(super) fn shared(&self) -> Arc<Pool> {
        self.shared.clone()
    }

    /// A connection of the caller's own: a new one, or one whose owner and last read are gone. If none can be opened, the
    /// shared ones.
    pub(super) fn lend(&self) -> Arc<Pool> {
        let mut own = lock(&self.own);
        let Some(own) = own.as_mut() else {
            return self.shared();
        };
        if let Some(free) = own.iter().find(|pool| Arc::strong_count(pool) == 1) {
            return free.clone();
        }
        match self.open() {
            Ok(rows) => {
                let interrupt = rows.get_interrupt_handle();
                let reader = Arc::new(Pool::new(vec![Threaded::new(rows)], Some(interrupt)));
                own.push(reader.clone());
                reader
            }
            Err(error) => {
                tracing::warn!(%error, "no connection to read with could be opened: using the shared ones");
                self.shared()
            }
        }
    }

    /// A connection to the open file. SQLite knows the WAL by the file's name: next to an empty file it would delete
    /// this one's WAL, and into another file it would read it.
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

    /// Waits for the reads that are under way, also those whose callers gave up, and closes every connection. False: a read on
    /// a connection of its own goes on.
    pub(super) async fn close(&self) -> bool {
        let until = Instant::now() + MAX_CLOSE;
        let own = lock(&self.own).take();
        let mut all_closed = true;
        for reader in own.into_iter().flatten() {
            all_closed &= reader.close(until).await;
        }
        if !all_closed {
            tracing::warn!("a long read goes on after the close: the WAL stays");
        }
        self.shared.close(until).await && all_closed
    }
}

/// Connections that any caller may use, one at a time.
pub(super) struct Pool {
    idle: Mutex<Vec<Threaded>>,
    /// One permit per idle connection.
    permits: Semaphore,
    count: u32,
    /// Ends what runs on a connection that is not shared.
    interrupt: Option<InterruptHandle>,
}

impl Pool {
    fn new(connections: Vec<Threaded>, interrupt: Option<InterruptHandle>) -> Self {
        Self {
            count: u32::try_from(connections.len()).expect("a pool is small"),
            permits: Semaphore::new(connections.len()),
            idle: Mutex::new(connections),
            interrupt,
        }
    }

    pub(super) async fn read<T: Send + 'static, E: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, ReadError<E>> {
        let lent = Lent::take(self).await.ok_or(ReadError::Closed)?;
        let connection = lent.connection.clone();
        // A panic would kill the connection's thread for good, so it is caught on that thread.
        let call = move |rows: &mut Connection| {
            let result = catch_unwind(AssertUnwindSafe(|| of_one_moment(rows, work)));
            end(rows);
            drop(lent);
            result
        };
        match connection.call(call).await {
            Ok(Ok(result)) => result.map_err(ReadError::Work),
            Ok(Err(panic)) => Err(ReadError::Panicked(message(&*panic))),
            Err(_) => Err(ReadError::Closed),
        }
    }

    /// False: a read that can be interrupted went on nevertheless, and its connection stays open.
    async fn close(&self, until: Instant) -> bool {
        while let Some(interrupt) = &self.interrupt
            && self.permits.available_permits() == 0
            && !self.permits.is_closed()
        {
            if Instant::now() >= until {
                return false;
            }
            interrupt.interrupt();
            // Of real time, whatever the runtime's clock says.
            let moment = tokio::task::spawn_blocking(|| std::thread::sleep(INTERRUPT_EVERY));
            moment.await.expect("sleeping does not panic");
        }
        let every = self.permits.acquire_many(self.count).await;
        if every.is_err() {
            return true; // closed before
        }
        self.permits.close();
        let connections = std::mem::take(&mut *lock(&self.idle));
        for connection in connections {
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "a reader did not close cleanly");
            }
        }
        true
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

/// A connection at work. It returns to its pool when the work is done, not when the caller is gone: a connection that still
/// works for a caller that gave up is not idle.
struct Lent {
    connection: Threaded,
    pool: Arc<Pool>,
}

impl Lent {
    /// `None`: the pool is closed.
    async fn take(pool: &Arc<Pool>) -> Option<Self> {
        pool.permits.acquire().await.ok()?.forget();
        let connection = lock(&pool.idle).pop();
        Some(Self {
            connection: connection.expect("a permit stands for an idle connection"),
            pool: pool.clone(),
        })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        lock(&self.pool.idle).push(self.connection.clone()); // before the permit is given back
        self.pool.permits.add_permits(1);
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().expect("no code panics while it holds the lock")
}

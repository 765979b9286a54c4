//! A small pool of connections that cannot write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::ReadError;
use crate::panics::message;

pub(super) struct Readers {
    idle: Arc<Idle>,
    /// One permit per idle connection.
    permits: Arc<Semaphore>,
    count: u32,
}

type Idle = Mutex<Vec<tokio_rusqlite::Connection>>;

impl Readers {
    pub(super) fn new(connections: Vec<tokio_rusqlite::Connection>) -> Self {
        Self {
            count: u32::try_from(connections.len()).expect("a pool is small"),
            permits: Arc::new(Semaphore::new(connections.len())),
            idle: Arc::new(Mutex::new(connections)),
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

    /// Waits for the reads that are under way, also those whose callers gave up, and closes every connection.
    pub(super) async fn close(&self) {
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

fn lock(idle: &Idle) -> MutexGuard<'_, Vec<tokio_rusqlite::Connection>> {
    idle.lock().expect("nothing panics while it holds the list")
}

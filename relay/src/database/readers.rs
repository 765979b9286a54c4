//! A small pool of connections that cannot write.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::error::ReadError;
use crate::panics::message;

pub(super) struct Readers {
    idle: Mutex<Vec<tokio_rusqlite::Connection>>,
    /// One permit per idle connection.
    permits: Semaphore,
    count: u32,
}

impl Readers {
    pub(super) fn new(connections: Vec<tokio_rusqlite::Connection>) -> Self {
        Self {
            count: u32::try_from(connections.len()).expect("a pool is small"),
            permits: Semaphore::new(connections.len()),
            idle: Mutex::new(connections),
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
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| ReadError::Closed)?;
        let connection = self.take();
        // A panic would kill the connection's thread for good, so it is caught on that thread.
        let call = |rows: &mut Connection| catch_unwind(AssertUnwindSafe(|| work(rows)));
        match connection.handle().call_raw(call).await {
            Ok(Ok(result)) => result.map_err(ReadError::Work),
            Ok(Err(panic)) => Err(ReadError::Panicked(message(&*panic))),
            Err(_) => Err(ReadError::Closed),
        }
    }

    /// Waits for the reads that are under way and closes every connection.
    pub(super) async fn close(&self) {
        let every = self.permits.acquire_many(self.count).await;
        if every.is_err() {
            return; // closed before
        }
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "a reader did not close cleanly");
            }
        }
    }

    fn take(&self) -> Borrowed<'_> {
        let connection = self.idle().pop();
        Borrowed {
            connection: Some(connection.expect("a permit stands for an idle connection")),
            home: self,
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<tokio_rusqlite::Connection>> {
        self.idle
            .lock()
            .expect("nothing panics while it holds the list")
    }
}

/// A connection that goes home when dropped, also when its caller gave up half-way.
struct Borrowed<'a> {
    connection: Option<tokio_rusqlite::Connection>,
    home: &'a Readers,
}

impl Borrowed<'_> {
    fn handle(&self) -> &tokio_rusqlite::Connection {
        self.connection.as_ref().expect("taken only by drop")
    }
}

impl Drop for Borrowed<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.home.idle().push(connection);
        }
    }
}

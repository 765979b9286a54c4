//! The outbox: the service's log, written by `emit` inside the transaction that changes the state.

mod emit;
pub(crate) mod quarantine;
pub(crate) mod rows;

use std::time::Duration;

use tokio::sync::watch;

use crate::database::Database;
use crate::error::LogError;
use crate::event::EventId;
use crate::log::{Head, Log, Record};
pub use quarantine::FoundIn;
pub(crate) use rows::{Ends, append_row, cut_after, emitted_at_ms_of, ends, prune, rows_after};
pub use rows::{event_at, event_id, head};

/// A handle to the log. As a [`Log`] it can be read, waited on, and appended to verbatim.
#[derive(Clone)]
pub struct Outbox {
    db: Database,
    committed: watch::Receiver<u64>,
}

impl Database {
    /// The service's log.
    pub fn outbox(&self) -> Outbox {
        Outbox {
            db: self.clone(),
            committed: self.committed(),
        }
    }
}

impl Outbox {
    /// The sequence of the last committed event, without reading the file.
    pub fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Waits until the event with this sequence is committed. False: the database was closed before.
    pub async fn reaches(&mut self, seq: u64) -> bool {
        let reached = self.committed.wait_for(|head| *head >= seq).await;
        reached.is_ok()
    }

    pub(crate) fn database(&self) -> &Database {
        &self.db
    }

    pub(crate) async fn ends(&self) -> Result<Ends, LogError> {
        Ok(self.db.read(ends).await?)
    }

    /// The id of the event with this sequence, if it is kept.
    ///
    /// # Errors
    ///
    /// [`LogError`] when the database is closed or cannot be read.
    pub async fn event_id(&self, seq: u64) -> Result<Option<EventId>, LogError> {
        Ok(self.db.read(move |rows| event_id(rows, seq)).await?)
    }

    /// How long the first event after `published` has been waiting; `None` when none waits.
    ///
    /// # Errors
    ///
    /// As [`event_id`](Self::event_id).
    pub async fn oldest_unpublished(&self, published: u64) -> Result<Option<Duration>, LogError> {
        let read = self
            .db
            .read(move |rows| emitted_at_ms_of(rows, published + 1))
            .await;
        let emitted_at = read?;
        let now_ms = self.db.environment().now_ms();
        Ok(emitted_at.map(|at| Duration::from_millis(now_ms.saturating_sub(at))))
    }
}

/// It is appended to by `emit`, and by an import (`consume::import`), which also applies the events.
impl Log for Outbox {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let ends = self.ends().await?;
        Ok(Some(Head {
            seq: ends.seq,
            first: ends.first,
            holes: 0,
            incarnation: ends.origin.database_id.to_string(),
            origin: ends.origin,
            closed_by: None,
        }))
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        // A commit announces itself after it is on disk, so its rows are there now.
        let arrived = self.committed.wait_for(|head| *head > after);
        match tokio::time::timeout(wait, arrived).await {
            Err(_) => return Ok(Vec::new()),
            Ok(Err(_)) => return Err(LogError::disconnected("the database is closed")),
            Ok(Ok(_)) => {}
        }
        let read = self.db.read(move |rows| rows_after(rows, after, limit));
        Ok(read.await?)
    }
}

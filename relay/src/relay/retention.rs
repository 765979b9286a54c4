//! Retention: how much of the log is kept. Nothing is removed unless somebody asks for it.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};

use crate::error::LogError;
use crate::log::{Head, Stream};
use crate::outbox::{self, Outbox};

/// What may be removed from outbox and stream. Without a limit nothing is; with two, what either of them permits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this may go.
    pub max_age: Option<Duration>,
    /// Events beyond this many may go.
    pub max_events: Option<u64>,
    /// Also those that a known reader has not read. It will load a snapshot instead.
    pub past_readers: bool,
}

/// Rows one write forgets, at most, and writes one contact makes for it: other writes wait their turn between them.
const ROWS: usize = 500;
const WRITES: usize = 10;

impl Retention {
    /// Removes what may go: first from the stream, then from the outbox, so that the outbox can always fill the stream.
    pub(super) async fn keep(
        &self,
        outbox: &Outbox,
        stream: &mut impl Stream,
        head: &mut Head,
    ) -> Result<(), LogError> {
        let Some(mut first) = self.oldest_wanted(outbox).await? else {
            return Ok(());
        };
        first = first.min(head.seq); // neither what is not published nor the head
        if first > head.first {
            stream.trim(first).await?;
            head.first = first;
            tracing::info!(first, "older events are removed, as the retention says");
        }
        for _ in 0..WRITES {
            let write = outbox
                .database()
                .apply(move |tx| outbox::prune(tx, first, ROWS));
            let rows = write.await;
            let rows =
                rows.map_err(|error| LogError::lost_because("the outbox cannot be pruned", error))?;
            if rows < ROWS {
                break;
            }
        }
        Ok(())
    }

    /// The oldest event that the limits want kept; `None` when there are no limits.
    async fn oldest_wanted(&self, outbox: &Outbox) -> Result<Option<u64>, LogError> {
        let by_number = self
            .max_events
            .map(|most| (outbox.committed() + 1).saturating_sub(most.max(1)));
        let by_age =
            match self.max_age {
                None => None,
                Some(age) => {
                    let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
                    let since = outbox
                        .database()
                        .environment()
                        .now_ms()
                        .saturating_sub(age_ms);
                    let read = outbox
                        .database()
                        .read(move |rows| first_since(rows, since))
                        .await;
                    Some(read.map_err(|error| {
                        LogError::lost_because("the outbox cannot be read", error)
                    })?)
                }
            };
        Ok(by_number.max(by_age))
    }
}

/// The first event since then; the head, when all are older.
fn first_since(rows: &Connection, since_ms: u64) -> rusqlite::Result<u64> {
    let sql = "select seq from relay_outbox where emitted_at_ms >= ?1 order by seq limit 1";
    let found = rows
        .query_row(sql, [since_ms], |row| row.get(0))
        .optional()?;
    found.map_or_else(|| outbox::head_seq(rows), Ok)
}

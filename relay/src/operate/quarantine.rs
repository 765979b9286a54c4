//! The list of quarantined events.

use rusqlite::Connection;

use super::read_only::ReadOnly;
use crate::database::Database;
use crate::error::ReadError;
use crate::outbox::quarantine::FoundIn;

/// Quarantined events that are read at once.
const PAGE: usize = 200;

/// A quarantined event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// When it was quarantined, in Unix milliseconds.
    pub at_ms: u64,
    /// Which log held it.
    pub found_in: FoundIn,
    /// The stream's name.
    pub log: String,
    /// The sequence that it had there.
    pub seq: u64,
    /// `none` when it was no event of Freehold's.
    pub event_id: String,
    /// The event, byte for byte. `None` from a consumer: it keeps ids, not bytes.
    pub envelope: Option<Vec<u8>>,
    /// Why it is in no log any more.
    pub reason: String,
}

impl Database {
    /// The events quarantined in this file, oldest first.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the database is closed, or SQLite cannot read it.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, ReadError<rusqlite::Error>> {
        let all = |rows: &Connection| Ok(page(rows, 0, usize::MAX)?.events);
        self.read(all).await
    }

    /// How many there are.
    ///
    /// # Errors
    ///
    /// As [`quarantined`](Self::quarantined).
    pub async fn count_quarantined(&self) -> Result<u64, ReadError<rusqlite::Error>> {
        let count = |rows: &Connection| {
            rows.query_row("select count(*) from relay_set_aside", [], |row| row.get(0))
        };
        self.read(count).await
    }
}

impl ReadOnly {
    /// Hands out the quarantined events, oldest first, one by one: there may be as many as a stream holds. `work` answers
    /// whether it wants the next. Answers how many it was given. Nothing is read while `work` runs: a pager that waits for a
    /// person would make the WAL grow.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when a page cannot be read; the events before it have been handed out.
    pub async fn each_quarantined(
        &self,
        mut work: impl FnMut(Quarantined) -> bool,
    ) -> Result<u64, ReadError<rusqlite::Error>> {
        let (mut after, mut given) = (0, 0);
        loop {
            let some = self.read(move |rows| page(rows, after, PAGE)).await?;
            if some.events.is_empty() {
                return Ok(given);
            }
            after = some.last;
            for event in some.events {
                given += 1;
                if !work(event) {
                    return Ok(given);
                }
            }
        }
    }
}

/// Some of the quarantined events, and the number of the last one.
struct Page {
    last: i64,
    events: Vec<Quarantined>,
}

fn page(rows: &Connection, after: i64, limit: usize) -> rusqlite::Result<Page> {
    let mut statement = rows.prepare_cached(
        "select id, at_ms, found_in, log, seq, event_id, envelope, reason from relay_set_aside
         where id > ?1 order by id limit ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut found = statement.query((after, limit))?;
    let (mut last, mut events) = (after, Vec::new());
    while let Some(row) = found.next()? {
        last = row.get(0)?;
        let found_in: String = row.get(2)?;
        events.push(Quarantined {
            at_ms: row.get(1)?,
            found_in: match found_in.as_str() {
                "outbox" => FoundIn::Outbox,
                "stream" => FoundIn::Stream,
                _ => FoundIn::Consumer,
            },
            log: row.get(3)?,
            seq: row.get(4)?,
            event_id: row.get(5)?,
            envelope: row.get(6)?,
            reason: row.get(7)?,
        });
    }
    Ok(Page { last, events })
}

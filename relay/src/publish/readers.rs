//! Readers of this service's log that report how far they have come: what retention holds for, and what `status` lists.

use rusqlite::Connection;

use super::answers;
use crate::database::{Database, Tx};
use crate::error::{LogError, ReadError};
use crate::log::{Holds, Position};

/// A reader, as it last reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportedReader {
    /// The name of the consumer.
    pub reader: String,
    /// The last sequence that it has applied; 0 before the first.
    pub seq: u64,
    /// When it reported, in Unix milliseconds.
    pub at_ms: u64,
}

/// Readers stored at a time. Each costs a row, and each may hold the log.
const MAX_READERS: u64 = 1_000;
const MAX_NAME_BYTES: usize = 100;

impl Database {
    /// The readers that report to this service.
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the database is closed, or SQLite cannot read it.
    pub async fn readers(&self) -> Result<Vec<ReportedReader>, ReadError<rusqlite::Error>> {
        self.read(all).await
    }
}

/// Whether a reader may report under this name: 1 to 100 letters, digits, dots, dashes and underscores, the first of them
/// a letter or a digit. It stands in paths.
pub fn is_reader_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.bytes().all(plain)
}

/// Stores a report, unless the log does not hold the position.
pub(crate) fn store(tx: &Tx<'_>, reader: &str, at: Option<Position>) -> Result<Holds, LogError> {
    if !is_reader_name(reader) {
        let why =
            format!("a reader's name has 1 to {MAX_NAME_BYTES} letters, digits, `.`, `_` and `-`");
        return Err(LogError::Refused(why));
    }
    let held = at.map_or(Ok(Holds::Yes), |at| answers::holds(tx, at))?;
    if held == Holds::Yes {
        if is_full(tx, reader)? {
            let why = format!("{MAX_READERS} readers are stored already");
            return Err(LogError::Refused(why));
        }
        upsert(tx, reader, at)?;
    }
    Ok(held)
}

/// Removes a reader that has not reported since `at_ms`. Its next report stores it again.
pub(crate) fn drop_silent(tx: &Tx<'_>, silent: &ReportedReader) -> rusqlite::Result<()> {
    let ReportedReader { reader, seq, at_ms } = silent;
    let sql = "delete from relay_reader where reader = ?1 and heard_at_ms = ?2";
    if tx.execute(sql, (reader, at_ms))? > 0 {
        let detail = format!("{reader}, at {seq}: it has fallen silent");
        tx.audit("reader dropped", &detail)?;
    }
    Ok(())
}

/// A clock that was ahead has stored timestamps in the future. They count from now.
pub(crate) fn restamp(tx: &Tx<'_>) -> rusqlite::Result<()> {
    let sql = "update relay_reader set heard_at_ms = ?1 where heard_at_ms > ?1";
    tx.execute(sql, [tx.now_ms()]).map(drop)
}

pub(crate) fn all(rows: &Connection) -> rusqlite::Result<Vec<ReportedReader>> {
    rows.prepare_cached("select reader, seq, heard_at_ms from relay_reader order by reader")?
        .query_map([], |row| {
            Ok(ReportedReader {
                reader: row.get(0)?,
                seq: row.get(1)?,
                at_ms: row.get(2)?,
            })
        })?
        .collect()
}

fn is_full(rows: &Connection, reader: &str) -> rusqlite::Result<bool> {
    let sql = "select count(*) >= ?2 and total(reader = ?1) = 0 from relay_reader";
    rows.query_row(sql, (reader, MAX_READERS), |row| row.get(0))
}

fn upsert(tx: &Tx<'_>, reader: &str, at: Option<Position>) -> rusqlite::Result<()> {
    let (seq, id) = at.map_or((0, None), |at| (at.seq, Some(at.id)));
    tx.prepare_cached(
        "insert into relay_reader (reader, seq, event_id, heard_at_ms) values (?1, ?2, ?3, ?4)
         on conflict do update set seq = ?2, event_id = ?3, heard_at_ms = ?4",
    )?
    .execute((reader, seq, id, tx.now_ms()))?;
    Ok(())
}

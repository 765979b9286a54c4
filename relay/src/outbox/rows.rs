//! The rows of the outbox: every statement on them.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

use crate::database::{self, Tx, head};
use crate::event::EventId;
use crate::log::reader::MAX_READ_BYTES;
use crate::log::{Origin, Record};

/// Where the log begins and ends, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// 0 while it is empty.
    pub(crate) seq: u64,
    pub(crate) last: Option<EventId>,
    /// The oldest row kept; `seq + 1` when there is none.
    pub(crate) first: u64,
    pub(crate) origin: Origin,
}

/// The last event's sequence and id, as `rows` sees it; 0 and none while the log is empty.
///
/// # Errors
///
/// An SQLite error; a file that [`Database::open`](crate::Database::open) has never opened has no such table.
pub fn head(rows: &Connection) -> rusqlite::Result<(u64, Option<EventId>)> {
    head::row(rows).map(|(seq, id, _)| (seq, id))
}

/// The event with this sequence, as the log stores it, if it is kept.
///
/// # Errors
///
/// As [`head`].
pub fn event_at(rows: &Connection, seq: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    rows.prepare_cached("select envelope from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

pub(crate) fn ends(rows: &Connection) -> rusqlite::Result<Ends> {
    let (seq, last, _) = head::row(rows)?;
    let sql = "select min(seq) from relay_outbox";
    let first: Option<u64> = rows.query_row(sql, [], |row| row.get(0))?;
    Ok(Ends {
        seq,
        last,
        first: first.unwrap_or(seq + 1),
        origin: database::origin(rows)?,
    })
}

pub(crate) fn append_row(
    tx: &Tx<'_>,
    seq: u64,
    id: EventId,
    subject: &str,
    bytes: &[u8],
    emitted_at_ms: u64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "insert into relay_outbox (seq, event_id, subject, envelope, emitted_at_ms) values (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((seq, id, subject, bytes, emitted_at_ms))?;
    head::set(tx, seq, Some(id))
}

/// A committed row never changes, so the trigger forbids an update, and this one is written again. Only for an event that this
/// transaction has emitted itself.
pub(super) fn replace_row(tx: &Tx<'_>, seq: u64, bytes: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "insert or replace into relay_outbox (seq, event_id, subject, envelope, emitted_at_ms)
         select seq, event_id, subject, ?2, emitted_at_ms from relay_outbox where seq = ?1",
    )?
    .execute((seq, bytes))?;
    Ok(())
}

/// Removes the rows after `seq`, which leaves the head there. The caller has saved them.
pub(crate) fn cut_after(rows: &Connection, seq: u64) -> rusqlite::Result<()> {
    let id = event_id(rows, seq)?;
    rows.execute("delete from relay_outbox where seq > ?1", [seq])?;
    head::set(rows, seq, id)
}

/// Removes the rows before `first`, at most `limit` of them, and never the last one; answers how many.
pub(crate) fn prune(rows: &Connection, first: u64, limit: usize) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "delete from relay_outbox where seq < min(
           ?1, (select seq from relay_head), (select min(seq) from relay_outbox) + ?2)",
    )?
    .execute((first, limit))
}

/// The id of the event with this sequence, if it is kept.
///
/// # Errors
///
/// As [`head`].
pub fn event_id(rows: &Connection, seq: u64) -> rusqlite::Result<Option<EventId>> {
    rows.prepare_cached("select event_id from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

pub(crate) fn emitted_at_ms_of(rows: &Connection, seq: u64) -> rusqlite::Result<Option<u64>> {
    rows.prepare_cached("select emitted_at_ms from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

pub(crate) fn rows_after(
    rows: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = rows.prepare_cached(
        "select seq, subject, envelope from relay_outbox where seq > ?1 order by seq limit ?2",
    )?;
    let mut found = statement.query((after, limit))?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let envelope: Vec<u8> = row.get(2)?;
        bytes += envelope.len();
        if bytes > MAX_READ_BYTES && !records.is_empty() {
            break;
        }
        records.push(Record {
            seq: row.get(0)?,
            subject: row.get(1)?,
            bytes: Bytes::from(envelope),
        });
    }
    Ok(records)
}

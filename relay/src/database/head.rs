//! The head of the service's log: the last event's sequence and id.

use rusqlite::Connection;

use crate::event::EventId;

/// The last event's sequence and id, and the epoch the next one is emitted in. 0 and none while the log is empty.
pub(crate) fn row(rows: &Connection) -> rusqlite::Result<(u64, Option<EventId>, u32)> {
    rows.prepare_cached("select seq, event_id, (select epoch from relay_identity) from relay_head")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

pub(crate) fn seq(rows: &Connection) -> rusqlite::Result<u64> {
    row(rows).map(|(seq, ..)| seq)
}

pub(crate) fn set(rows: &Connection, seq: u64, id: Option<EventId>) -> rusqlite::Result<()> {
    rows.prepare_cached("update relay_head set seq = ?1, event_id = ?2")?
        .execute((seq, id))?;
    Ok(())
}

//! The sequences of the events that changed an order, a driver or a refused intent.

use std::num::NonZeroU64;

use event_schema::Version;
use relay::outbox;
use relay::rusqlite::{self, Connection};
use service_kit::Limit;

/// A change and its event, as the log holds it. `None` if the log does not go back so far.
pub struct Change {
    pub version: u64,
    pub seq: u64,
    pub event: Option<Vec<u8>>,
}

pub(super) fn add(
    rows: &Connection,
    aggregate: &str,
    version: Version,
    seq: u64,
) -> rusqlite::Result<()> {
    rows.prepare_cached("insert into history (aggregate, version, seq) values (?1, ?2, ?3)")?
        .execute((aggregate, version.get(), seq))?;
    Ok(())
}

/// Whether it is the id of an order, a driver or a refused intent.
pub fn has(rows: &Connection, aggregate: &str) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from history where aggregate = ?1 limit 1")?
        .exists([aggregate])
}

/// Of the aggregate's next event.
pub(super) fn next_version(rows: &Connection, aggregate: &str) -> rusqlite::Result<Version> {
    let next: NonZeroU64 = rows
        .prepare_cached("select coalesce(max(version), 0) + 1 from history where aggregate = ?1")?
        .query_row([aggregate], |row| row.get(0))?;
    Ok(next.into())
}

/// The changes after version `after`; one more than the limit if there are more.
pub fn list(
    rows: &Connection,
    aggregate: &str,
    after: i64,
    limit: Limit,
) -> rusqlite::Result<Vec<Change>> {
    let mut statement = rows.prepare_cached(
        "select version, seq from history where aggregate = ?1 and version > ?2 order by version limit ?3",
    )?;
    let found = statement.query_map((aggregate, after, limit.and_one_more()), |row| {
        let (version, seq) = (row.get(0)?, row.get(1)?);
        let event = outbox::event_at(rows, seq)?;
        Ok(Change {
            version,
            seq,
            event,
        })
    })?;
    found.collect()
}

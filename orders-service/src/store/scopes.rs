//! What each driver may know: the orders they have, and the ones that left them.

use event_schema::{DriverId, OrderId};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::parsed;

use super::orders;
use crate::domain::Order;

/// A change that concerns a driver, at its place in the log.
pub struct Entry {
    pub seq: u64,
    pub order_id: OrderId,
    /// `None`: it is not theirs any more.
    pub order: Option<Order>,
}

/// After a change at `seq` of the order that `before` had until then.
pub(super) fn follow(
    rows: &Connection,
    order_id: &str,
    before: Option<String>,
    seq: u64,
) -> rusqlite::Result<()> {
    let now = orders::driver_of(rows, order_id)?;
    if let Some(before) = before.filter(|before| now.as_ref() != Some(before)) {
        put(rows, &before, order_id, seq, true)?;
    }
    match now {
        Some(now) => put(rows, &now, order_id, seq, false),
        None => Ok(()),
    }
}

fn put(
    rows: &Connection,
    driver_id: &str,
    order_id: &str,
    seq: u64,
    gone: bool,
) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into scopes (driver_id, order_id, seq, gone) values (?1, ?2, ?3, ?4)
         on conflict (driver_id, order_id) do update set seq = excluded.seq, gone = excluded.gone",
    )?
    .execute((driver_id, order_id, seq, gone))?;
    Ok(())
}

/// Whether the driver has the order: `None`, not now and never before; `Some(false)`, not any more.
pub fn has(
    rows: &Connection,
    driver_id: DriverId,
    order_id: OrderId,
) -> rusqlite::Result<Option<bool>> {
    rows.prepare_cached("select not gone from scopes where driver_id = ?1 and order_id = ?2")?
        .query_row((driver_id.to_string(), order_id.to_string()), |row| {
            row.get(0)
        })
        .optional()
}

/// What changed for the driver after this place, at most `limit` entries.
pub fn after(
    rows: &Connection,
    driver_id: DriverId,
    seq: u64,
    limit: u32,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = rows.prepare_cached(
        "select seq, order_id, gone from scopes where driver_id = ?1 and seq > ?2 order by seq limit ?3",
    )?;
    let found = statement.query_map((driver_id.to_string(), seq, limit), place)?;
    found.map(|found| entry(rows, found?)).collect()
}

/// What the driver has now and what they finished since a moment, in the order of the orders' ids.
pub fn present(
    rows: &Connection,
    driver_id: DriverId,
    after: Option<OrderId>,
    finished_since_ms: i64,
    limit: u32,
) -> rusqlite::Result<Vec<Entry>> {
    let after = after.map_or_else(String::new, |id| id.to_string());
    let mut statement = rows.prepare_cached(
        "select scopes.seq, order_id, gone from scopes join orders on orders.id = order_id
         where scopes.driver_id = ?1 and order_id > ?2 and not gone
           and (status in ('placed', 'assigned', 'picked_up') or changed_at_ms >= ?3)
         order by order_id limit ?4",
    )?;
    let known = (driver_id.to_string(), after, finished_since_ms, limit);
    let found = statement.query_map(known, place)?;
    found.map(|found| entry(rows, found?)).collect()
}

fn place(row: &Row<'_>) -> rusqlite::Result<(u64, OrderId, bool)> {
    Ok((row.get(0)?, parsed(row, 1)?, row.get(2)?))
}

fn entry(
    rows: &Connection,
    (seq, order_id, gone): (u64, OrderId, bool),
) -> rusqlite::Result<Entry> {
    let order = match gone {
        true => None,
        false => orders::find(rows, order_id)?,
    };
    Ok(Entry {
        seq,
        order_id,
        order,
    })
}

//! What each driver may see: the orders they have, and those that were taken from them.

use event_schema::{DriverId, OrderId};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::parsed;

use super::orders;
use crate::domain::Order;

/// The last change of an order that concerns a driver.
pub struct Entry {
    pub seq: u64,
    pub order_id: OrderId,
    /// `None`: it is no longer theirs.
    pub order: Option<Order>,
}

/// After a change at `seq`. `former` is the driver from before it.
pub(super) fn follow(
    rows: &Connection,
    order: &Order,
    former: Option<DriverId>,
    seq: u64,
) -> rusqlite::Result<()> {
    let former = former.filter(|_| former != order.driver_id);
    for (driver_id, gone) in [(former, true), (order.driver_id, false)] {
        let Some(driver_id) = driver_id else { continue };
        rows.prepare_cached(
            "insert into scopes (driver_id, order_id, seq, gone) values (?1, ?2, ?3, ?4)
             on conflict (driver_id, order_id) do update set seq = excluded.seq, gone = excluded.gone",
        )?
        .execute((driver_id.to_string(), order.id.to_string(), seq, gone))?;
    }
    Ok(())
}

/// Whether the driver has the order. `None`: neither now nor before; `Some(false)`: no longer.
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

/// The driver's entries after this sequence.
pub fn after(
    rows: &Connection,
    driver_id: DriverId,
    seq: u64,
    limit: u32,
) -> rusqlite::Result<Vec<Entry>> {
    let mut statement = rows.prepare_cached(
        "select seq, order_id, gone from scopes where driver_id = ?1 and seq > ?2 order by seq limit ?3",
    )?;
    let key = (driver_id.to_string(), seq, limit);
    let found = statement.query_map(key, |row| entry(rows, row))?;
    found.collect()
}

/// The driver's open orders and those finished since a time, in the order of the orders' ids.
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
    let key = (driver_id.to_string(), after, finished_since_ms, limit);
    let found = statement.query_map(key, |row| entry(rows, row))?;
    found.collect()
}

fn entry(rows: &Connection, row: &Row<'_>) -> rusqlite::Result<Entry> {
    let (order_id, gone) = (parsed(row, 1)?, row.get(2)?);
    Ok(Entry {
        seq: row.get(0)?,
        order_id,
        order: if gone {
            None
        } else {
            orders::find(rows, order_id)?
        },
    })
}

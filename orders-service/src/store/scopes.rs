//! What each driver may see: the orders they have, and those that were taken from them.

use event_schema::sync::Delivery;
use event_schema::{DriverId, OrderId};
use relay::rusqlite::{self, Connection, OptionalExtension};
use serde::Deserialize;

use super::orders::{DELIVERY, ORDER};
use super::rows;
use crate::domain::Order;

/// The last change of an order that concerns a driver.
#[derive(Deserialize)]
pub struct Entry {
    pub seq: u64,
    pub order_id: OrderId,
    /// `None`: it is no longer theirs.
    pub delivery: Option<Delivery>,
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

/// An order, if it is or was the driver's.
pub fn order(
    rows: &Connection,
    driver_id: DriverId,
    order_id: OrderId,
) -> rusqlite::Result<Option<Order>> {
    rows.prepare_cached(&format!(
        "select {ORDER} from scopes join orders on id = order_id where scopes.driver_id = ?1 and order_id = ?2"
    ))?
    .query_row((driver_id.to_string(), order_id.to_string()), rows::json)
    .optional()
}

/// The order of a lane as its driver may see it, while it is theirs.
pub fn delivery(
    rows: &Connection,
    driver_id: DriverId,
    lane: &str,
) -> rusqlite::Result<Option<Delivery>> {
    rows.prepare_cached(&format!(
        "select {DELIVERY} from scopes join orders on id = order_id
         where scopes.driver_id = ?1 and order_id = ?2 and not gone"
    ))?
    .query_row((driver_id.to_string(), lane), rows::json)
    .optional()
}

/// The driver's entries after this sequence.
pub fn after(
    rows: &Connection,
    driver_id: DriverId,
    seq: u64,
    limit: u32,
) -> rusqlite::Result<Vec<Entry>> {
    rows.prepare_cached(&format!(
        "select {} where scopes.driver_id = ?1 and scopes.seq > ?2 order by scopes.seq limit ?3",
        entry()
    ))?
    .query_map((driver_id.to_string(), seq, limit), rows::json)?
    .collect()
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
    rows.prepare_cached(&format!(
        "select {} where scopes.driver_id = ?1 and order_id > ?2 and not gone
           and (status in ('placed', 'assigned', 'picked_up') or changed_at_ms >= ?3)
         order by order_id limit ?4",
        entry()
    ))?
    .query_map(
        (driver_id.to_string(), after, finished_since_ms, limit),
        rows::json,
    )?
    .collect()
}

/// An [`Entry`] as JSON.
fn entry() -> String {
    format!(
        "json_object('seq', scopes.seq, 'order_id', order_id, 'delivery', json(iif(gone, null, {DELIVERY})))
         from scopes join orders on orders.id = order_id"
    )
}

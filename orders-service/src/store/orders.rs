//! Orders: their current state.

use std::fmt::Display;
use std::num::NonZeroU64;

use event_schema::{DriverId, OrderPlaced, OrderSnapshot, UserId};
use relay::Sink;
use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::{Limit, parsed};

use crate::domain::{Amount, Order, Status};

/// As `order` reads them.
const COLUMNS: &str = "id, user_id, amount_minor, currency, status, driver_id, note, cancel_reason, problems, version,
    office_version, created_at_ms, changed_at_ms, seq";

/// Which orders a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    pub user_id: Option<UserId>,
    pub driver_id: Option<DriverId>,
    pub status: Option<Status>,
}

pub(super) fn insert(
    rows: &Connection,
    event: &OrderPlaced,
    emitted_at_ms: i64,
    seq: u64,
) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "insert into orders (id, user_id, amount_minor, currency, status, version, created_at_ms, changed_at_ms, seq)
         values (?1, ?2, ?3, ?4, 'placed', ?5, ?6, ?6, ?7)",
    )?
    .execute((
        event.order_id.to_string(),
        event.user_id.to_string(),
        event.amount_minor,
        &event.currency,
        event.version.get(),
        event.created_at_ms.unwrap_or(emitted_at_ms),
        seq,
    ))
}

/// What can change of an order. Updates nothing if the order was not at the version before.
pub(super) fn update(rows: &Connection, order: &Order) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set status = ?2, driver_id = ?3, note = ?4, cancel_reason = ?5, problems = ?6, version = ?7,
         office_version = ?8, changed_at_ms = ?9 where id = ?1 and version = ?7 - 1",
    )?
    .execute((
        order.id.to_string(),
        order.status.as_str(),
        order.driver_id.map(|id| id.to_string()),
        &order.note,
        &order.cancel_reason,
        order.problems,
        order.version.get(),
        order.owner_version.get(),
        order.changed_at_ms,
    ))
}

pub fn find(rows: &Connection, id: impl Display) -> rusqlite::Result<Option<Order>> {
    rows.prepare_cached(&format!("select {COLUMNS} from orders where id = ?1"))?
        .query_row([id.to_string()], order)
        .optional()
}

/// In the order of placing, after the sequence `after`; one more than the limit if there are more.
pub fn list(
    rows: &Connection,
    filter: Filter,
    after: Option<i64>,
    limit: Limit,
) -> rusqlite::Result<Vec<Order>> {
    let select = format!("select {COLUMNS} from orders where true");
    let (after, limit) = (after.unwrap_or(i64::MIN), limit.and_one_more().into());
    super::list(rows, &select, &filter.columns(), after, limit, order)
}

/// Open orders of a user or of a driver.
pub fn open_of(rows: &Connection, filter: Filter) -> rusqlite::Result<Vec<Order>> {
    let open = "status in ('placed', 'assigned', 'picked_up')";
    let select = format!("select {COLUMNS} from orders where {open}");
    super::list(rows, &select, &filter.columns(), i64::MIN, -1, order)
}

/// Whether the user has ever ordered.
pub fn has_any(rows: &Connection, user_id: UserId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from orders where user_id = ?1 limit 1")?
        .exists([user_id.to_string()])
}

/// Every order as other services may know it, in the order of the ids.
pub fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut orders = rows.prepare(&format!("select {COLUMNS} from orders order by id"))?;
    let mut orders = orders.query([])?;
    while let Some(row) = orders.next()? {
        let order = order(row)?;
        let shared = OrderSnapshot {
            order_id: order.id,
            user_id: order.user_id,
            amount_minor: order.amount.minor(),
            currency: order.currency.to_string(),
            status: order.status.as_str().to_owned(),
            version: order.version,
            created_at_ms: order.created_at_ms,
            driver_id: order.driver_id,
        };
        if !to(relay::row(&shared)) {
            break;
        }
    }
    Ok(())
}

impl Filter {
    fn columns(self) -> [(&'static str, Option<String>); 3] {
        [
            ("user_id", self.user_id.map(|id| id.to_string())),
            ("driver_id", self.driver_id.map(|id| id.to_string())),
            ("status", self.status.map(|status| status.to_string())),
        ]
    }
}

fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    let driver_id: Option<String> = row.get(5)?;
    Ok(Order {
        id: parsed(row, 0)?,
        user_id: parsed(row, 1)?,
        amount: amount(row, 2)?,
        currency: parsed(row, 3)?,
        status: parsed(row, 4)?,
        driver_id: driver_id.map(|_| parsed(row, 5)).transpose()?,
        note: row.get(6)?,
        cancel_reason: row.get(7)?,
        problems: row.get(8)?,
        version: row.get::<_, NonZeroU64>(9)?.into(),
        owner_version: row.get::<_, NonZeroU64>(10)?.into(),
        created_at_ms: row.get(11)?,
        changed_at_ms: row.get(12)?,
        seq: row.get(13)?,
    })
}

fn amount(row: &Row<'_>, column: usize) -> rusqlite::Result<Amount> {
    let minor: i64 = row.get(column)?;
    Amount::try_from(minor).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error))
    })
}

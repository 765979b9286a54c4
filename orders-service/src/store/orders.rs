//! Orders: what they are now.

use std::num::NonZeroU64;

use event_schema::{
    DriverId, OrderAssigned, OrderCancelled, OrderDelivered, OrderId, OrderPickedUp, OrderPlaced,
    OrderProblemReported, OrderReleased, OrderSnapshot, UserId, Version,
};
use relay::Sink;
use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::{Limit, parsed};

use crate::domain::{Amount, Order, Status};

/// As `order` reads them.
const COLUMNS: &str = "id, user_id, amount_minor, currency, status, driver_id, note, cancel_reason, problems, version,
    office_version, created_at_ms, changed_at_ms";

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

pub(super) fn assign(rows: &Connection, event: &OrderAssigned) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set status = 'assigned', driver_id = ?4, version = ?2, office_version = ?2, changed_at_ms = ?3
         where id = ?1 and version = ?2 - 1",
    )?
    .execute((
        event.order_id.to_string(),
        event.version.get(),
        event.at_ms,
        event.driver_id.to_string(),
    ))
}

pub(super) fn release(rows: &Connection, event: &OrderReleased) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set status = 'placed', driver_id = null, version = ?2, office_version = ?2, changed_at_ms = ?3
         where id = ?1 and version = ?2 - 1",
    )?
    .execute((event.order_id.to_string(), event.version.get(), event.at_ms))
}

pub(super) fn pick_up(rows: &Connection, event: &OrderPickedUp) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set status = 'picked_up', version = ?2, changed_at_ms = ?3
         where id = ?1 and version = ?2 - 1",
    )?
    .execute((event.order_id.to_string(), event.version.get(), event.at_ms))
}

/// One that a person has let count is the office's change, and its driver's again.
pub(super) fn deliver(rows: &Connection, event: &OrderDelivered) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set status = 'delivered', driver_id = ?4, note = ?5, cancel_reason = null, version = ?2,
         office_version = iif(?6, ?2, office_version), changed_at_ms = ?3
         where id = ?1 and version = ?2 - 1",
    )?
    .execute((
        event.order_id.to_string(),
        event.version.get(),
        event.at_ms,
        event.driver_id.to_string(),
        &event.note,
        event.upheld,
    ))
}

pub(super) fn cancel(rows: &Connection, event: &OrderCancelled) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set status = 'cancelled', note = ?4, cancel_reason = ?5, version = ?2, office_version = ?2,
         changed_at_ms = ?3 where id = ?1 and version = ?2 - 1",
    )?
    .execute((
        event.order_id.to_string(),
        event.version.get(),
        event.at_ms,
        &event.note,
        event.reason.as_str(),
    ))
}

pub(super) fn report_problem(
    rows: &Connection,
    event: &OrderProblemReported,
) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set problems = problems + 1, version = ?2, changed_at_ms = ?3
         where id = ?1 and version = ?2 - 1",
    )?
    .execute((event.order_id.to_string(), event.version.get(), event.at_ms))
}

/// In older logs, a refusal or a decision was a change of the order.
pub(super) fn touch(
    rows: &Connection,
    order_id: &str,
    version: Version,
    at_ms: Option<i64>,
) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update orders set version = ?2, changed_at_ms = coalesce(?3, changed_at_ms) where id = ?1 and version = ?2 - 1",
    )?
    .execute((order_id, version.get(), at_ms))
}

pub(super) fn driver_of(rows: &Connection, order_id: &str) -> rusqlite::Result<Option<String>> {
    let driver = rows
        .prepare_cached("select driver_id from orders where id = ?1")?
        .query_row([order_id], |row| row.get(0))
        .optional()?;
    Ok(driver.flatten())
}

pub fn find(rows: &Connection, id: OrderId) -> rusqlite::Result<Option<Order>> {
    rows.prepare_cached(&format!("select {COLUMNS} from orders where id = ?1"))?
        .query_row([id.to_string()], order)
        .optional()
}

/// Of the event that placed it.
pub fn seq(rows: &Connection, id: OrderId) -> rusqlite::Result<Option<i64>> {
    rows.prepare_cached("select seq from orders where id = ?1")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()
}

/// Orders with their sequences in the log, in the order of these: after `after`, or from the first; one more than the limit
/// when there are more.
pub fn list(
    rows: &Connection,
    filter: Filter,
    after: Option<i64>,
    limit: Limit,
) -> rusqlite::Result<Vec<(i64, Order)>> {
    let (by, of) = filter.narrowest();
    let sql = format!(
        "select {COLUMNS}, seq from orders
         where {by} = ?1 and seq > ?2 and (?3 is null or status = ?3) and (?4 is null or driver_id = ?4)
         order by seq limit ?5"
    );
    rows.prepare_cached(&sql)?
        .query_map(
            (
                of,
                after.unwrap_or(i64::MIN),
                filter.status.map(Status::as_str),
                filter.driver_id.map(|id| id.to_string()),
                limit.and_one_more(),
            ),
            |row| Ok((row.get("seq")?, order(row)?)),
        )?
        .collect()
}

/// Whether the user has ever ordered here.
pub fn has_any(rows: &Connection, user_id: UserId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from orders where user_id = ?1 limit 1")?
        .exists([user_id.to_string()])
}

/// What is open for a user, or in a driver's hands.
pub fn open_of(rows: &Connection, filter: Filter) -> rusqlite::Result<Vec<Order>> {
    let (by, of) = filter.narrowest();
    let sql = format!(
        "select {COLUMNS} from orders
         where {by} = ?1 and status in ('placed', 'assigned', 'picked_up') order by seq"
    );
    rows.prepare_cached(&sql)?.query_map([of], order)?.collect()
}

/// Every order as others may know one, in the order of their ids.
pub fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut orders = rows.prepare(&format!("select {COLUMNS} from orders order by id"))?;
    let mut orders = orders.query([])?;
    while let Some(row) = orders.next()? {
        let order = order(row)?;
        let order = OrderSnapshot {
            order_id: order.id,
            user_id: order.user_id,
            amount_minor: order.amount.minor(),
            currency: order.currency.to_string(),
            status: order.status.as_str().to_owned(),
            version: order.version,
            created_at_ms: order.created_at_ms,
            driver_id: order.driver_id,
        };
        if !to(relay::row(&order)) {
            break;
        }
    }
    Ok(())
}

impl Filter {
    /// The column whose index leads to the fewest rows; `1` when there is none to look by.
    fn narrowest(self) -> (&'static str, String) {
        match self {
            Self {
                user_id: Some(id), ..
            } => ("user_id", id.to_string()),
            Self {
                driver_id: Some(id),
                ..
            } => ("driver_id", id.to_string()),
            Self {
                status: Some(status),
                ..
            } => ("status", status.to_string()),
            _ => ("'all'", "all".to_owned()),
        }
    }
}

pub(super) fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
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
        office_version: row.get::<_, NonZeroU64>(10)?.into(),
        created_at_ms: row.get(11)?,
        changed_at_ms: row.get(12)?,
    })
}

fn amount(row: &Row<'_>, column: usize) -> rusqlite::Result<Amount> {
    let minor: i64 = row.get(column)?;
    Amount::try_from(minor).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error))
    })
}

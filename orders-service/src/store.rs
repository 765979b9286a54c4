//! Every SQL statement about orders, one function each. Those about users are in `cache`.

use std::num::NonZeroU64;

use event_schema::{OrderEvent, OrderId, OrderPlaced, OrderSnapshot, UserId};
use relay::Sink;
use relay::rusqlite::types::Type;
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::{Limit, parsed};

use crate::domain::{Amount, Order, Status};

/// Makes the change that the event tells of: when it is emitted, and again when the log comes home. Nothing else writes
/// orders, so both make the same rows. The first program's events do not say when an order was placed; for them it is
/// when they were emitted.
pub fn apply(rows: &Connection, event: &OrderEvent, emitted_at_ms: i64) -> rusqlite::Result<()> {
    match event {
        OrderEvent::Placed(event) => insert(rows, event, emitted_at_ms),
    }
}

fn insert(rows: &Connection, event: &OrderPlaced, emitted_at_ms: i64) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into orders (id, user_id, amount_minor, currency, status, version, created_at_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        event.order_id.to_string(),
        event.user_id.to_string(),
        event.amount_minor,
        &event.currency,
        Status::Placed.as_str(),
        event.version.get(),
        event.created_at_ms.unwrap_or(emitted_at_ms),
    ))?;
    Ok(())
}

pub fn find(rows: &Connection, id: OrderId) -> rusqlite::Result<Option<Order>> {
    rows.prepare_cached(
        "select id, user_id, amount_minor, currency, status, version, created_at_ms from orders where id = ?1",
    )?
    .query_row([id.to_string()], order)
    .optional()
}

/// Orders after `after`, or from the first, in the order of their ids; one more than the limit when there are more.
pub fn list(
    rows: &Connection,
    after: Option<OrderId>,
    limit: Limit,
) -> rusqlite::Result<Vec<Order>> {
    rows.prepare_cached(
        "select id, user_id, amount_minor, currency, status, version, created_at_ms from orders
         where id > ?1 order by id limit ?2",
    )?
    .query_map((place(after), limit.and_one_more()), order)?
    .collect()
}

/// The same, of one user.
pub fn list_of_user(
    rows: &Connection,
    user_id: UserId,
    after: Option<OrderId>,
    limit: Limit,
) -> rusqlite::Result<Vec<Order>> {
    rows.prepare_cached(
        "select id, user_id, amount_minor, currency, status, version, created_at_ms from orders
         where user_id = ?1 and id > ?2 order by id limit ?3",
    )?
    .query_map(
        (user_id.to_string(), place(after), limit.and_one_more()),
        order,
    )?
    .collect()
}

pub fn has_orders(rows: &Connection, user_id: UserId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select exists (select 1 from orders where user_id = ?1)")?
        .query_row([user_id.to_string()], |row| row.get(0))
}

/// Every order as others may know one, in the order of their ids.
pub fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut orders = rows.prepare(
        "select id, user_id, amount_minor, currency, status, version, created_at_ms from orders order by id",
    )?;
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
        };
        if !to(relay::row(&order)) {
            break;
        }
    }
    Ok(())
}

/// Every id is greater than no text.
fn place(after: Option<OrderId>) -> String {
    after.map_or_else(String::new, |id| id.to_string())
}

fn order(row: &Row<'_>) -> rusqlite::Result<Order> {
    Ok(Order {
        id: parsed(row, 0)?,
        user_id: parsed(row, 1)?,
        amount: amount(row, 2)?,
        currency: parsed(row, 3)?,
        status: parsed(row, 4)?,
        version: row.get::<_, NonZeroU64>(5)?.into(),
        created_at_ms: row.get(6)?,
    })
}

fn amount(row: &Row<'_>, column: usize) -> rusqlite::Result<Amount> {
    let minor: i64 = row.get(column)?;
    Amount::try_from(minor).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, Box::new(error))
    })
}

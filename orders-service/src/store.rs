//! Every SQL statement about orders and drivers, one function each. Those about users are in `cache`.

pub mod deleted_users;
pub mod drivers;
pub mod history;
pub mod intents;
pub mod orders;
pub mod rows;
pub mod scopes;

use event_schema::{CancelReason, Event, OrderEvent};
use relay::rusqlite::{self, Connection};

use crate::domain::OwnEvent;

/// Why an event cannot be applied. Only imported events fail like this: an event that is made here follows from the rows as
/// they are.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the tables do not match this event: another program has changed them; restore a backup from before that"
    )]
    OutOfOrder,
    #[error("it has no sealed part with the hash of the device's token")]
    NoToken,
    #[error("the orders cannot be written")]
    Database(#[from] rusqlite::Error),
}

/// Applies the event at `seq` to the tables, when it is emitted and again when it is imported. Nothing else writes these
/// tables, so both make the same rows. The events of the first version do not say when an order was placed; those orders get
/// the time of emitting.
pub fn apply(
    rows: &Connection,
    OwnEvent { event, token_hash }: &OwnEvent,
    seq: u64,
    emitted_at_ms: i64,
) -> Result<(), StoreError> {
    history::add(rows, &event.aggregate(), event.version(), seq)?;
    intents::record(rows, event, seq)?;
    let changed = match event {
        OrderEvent::Placed(placed) => orders::insert(rows, placed, emitted_at_ms, seq)?,
        OrderEvent::DriverEnrolled(enrolled) => drivers::insert(rows, enrolled, seq)?,
        OrderEvent::DriverRevoked(of) => {
            drivers::update(rows, of.driver_id, of.version, Some(of.at_ms))?
        }
        OrderEvent::DeviceEnrolled(of) => {
            let token_hash = token_hash.as_ref().ok_or(StoreError::NoToken)?;
            drivers::put_device(rows, of, token_hash, seq)?;
            drivers::update(rows, of.driver_id, of.version, None)?
        }
        OrderEvent::DeviceRevoked(of) => {
            drivers::revoke_device(rows, of.device_id)?;
            drivers::update(rows, of.driver_id, of.version, None)?
        }
        OrderEvent::IntentMisdirected(of) => drivers::update(rows, of.driver_id, of.version, None)?,
        OrderEvent::IntentRefusedV2(_) | OrderEvent::ConflictDecidedV2(_) => 1, // the intent's row alone
        of_an_order => change_order(rows, of_an_order, seq)?,
    };
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::OutOfOrder),
    }
}

/// The order's row, and what its drivers may see of it.
fn change_order(rows: &Connection, event: &OrderEvent, seq: u64) -> rusqlite::Result<usize> {
    let Some(mut order) = orders::find(rows, event.aggregate())? else {
        return Ok(0);
    };
    let former = order.driver_id;
    order.apply(event);
    let changed = orders::update(rows, &order)?;
    if let OrderEvent::Cancelled(cancelled) = event
        && cancelled.reason == CancelReason::UserDeleted
    {
        deleted_users::add(rows, order.user_id)?; // an import brings this event, but not the one from stream USERS
    }
    scopes::follow(rows, &order, former, seq)?;
    Ok(changed)
}

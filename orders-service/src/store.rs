//! Every SQL statement about orders and drivers, one function each. Those about users are in `cache`.

pub mod drivers;
pub mod history;
pub mod intents;
pub mod orders;
pub mod scopes;

use event_schema::{CancelReason, OrderEvent};
use relay::rusqlite::{self, Connection};

use crate::cache::users;
use crate::events::OwnEvent;

/// Why the database did not take a change. From the log only: what is changed here was just read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error(
        "the tables are not as they were before this event: restore a backup that nobody has edited"
    )]
    OutOfOrder,
    #[error("it has no sealed part with the hash of the device's token")]
    NoToken,
    #[error("the orders cannot be written")]
    Database(#[from] rusqlite::Error),
}

/// Makes the change that the event at `seq` tells of: when it is emitted, and again when it is imported. Nothing else
/// writes these tables, so both make the same rows. The first program's events do not say when an order was placed; for
/// them it is when they were emitted.
pub fn apply(
    rows: &Connection,
    OwnEvent { event, token_hash }: &OwnEvent,
    seq: u64,
    emitted_at_ms: i64,
) -> Result<(), StoreError> {
    history::add(rows, &event.aggregate(), event.version(), seq)?;
    intents::answer(rows, event, seq)?;
    let changed = match event {
        OrderEvent::Placed(placed) => orders::insert(rows, placed, emitted_at_ms, seq)?,
        OrderEvent::DriverEnrolled(enrolled) => drivers::insert(rows, enrolled, seq)?,
        OrderEvent::DriverRevoked(revoked) => drivers::revoke(rows, revoked)?,
        OrderEvent::DeviceEnrolled(enrolled) => {
            let token_hash = token_hash.as_ref().ok_or(StoreError::NoToken)?;
            drivers::put_device(rows, enrolled, token_hash, seq)?;
            drivers::touch(rows, enrolled.driver_id, enrolled.version)?
        }
        OrderEvent::DeviceRevoked(revoked) => {
            drivers::revoke_device(rows, revoked.device_id)?;
            drivers::touch(rows, revoked.driver_id, revoked.version)?
        }
        OrderEvent::IntentMisdirected(misdirected) => {
            drivers::touch(rows, misdirected.driver_id, misdirected.version)?
        }
        OrderEvent::IntentRefusedV2(_) | OrderEvent::ConflictDecidedV2(_) => 1, // the intent's row alone
        of_an_order => change_order(rows, of_an_order, seq)?,
    };
    match changed {
        1 => Ok(()),
        _ => Err(StoreError::OutOfOrder),
    }
}

/// An order's row, and what its drivers may see of it.
fn change_order(rows: &Connection, event: &OrderEvent, seq: u64) -> Result<usize, StoreError> {
    let order_id = event.aggregate();
    let before = orders::driver_of(rows, &order_id)?;
    let changed = match event {
        OrderEvent::Assigned(assigned) => orders::assign(rows, assigned),
        OrderEvent::Released(released) => orders::release(rows, released),
        OrderEvent::PickedUp(picked_up) => orders::pick_up(rows, picked_up),
        OrderEvent::Delivered(delivered) => orders::deliver(rows, delivered),
        OrderEvent::Cancelled(cancelled) => orders::cancel(rows, cancelled),
        OrderEvent::ProblemReported(reported) => orders::report_problem(rows, reported),
        _ => orders::touch(rows, &order_id, event.version(), event.at_ms()),
    };
    let changed = changed?;
    if let OrderEvent::Cancelled(cancelled) = event
        && cancelled.reason == CancelReason::UserDeleted
    {
        users::remember_deleted_of_order(rows, cancelled.order_id)?; // a log that comes home brings the answer, not the question
    }
    scopes::follow(rows, &order_id, before, seq)?;
    Ok(changed)
}

//! Cancels the open orders of a deleted user. Exactly once, because the events commit together with the offset.

use event_schema::{CancelReason, UserDeleted, UserEvent};
use relay::{ApplyError, Consumer, Received, Tx};

use crate::domain::Refusal;
use crate::events::{make, now_ms};
use crate::store::deleted_users;
use crate::store::orders::{self, Filter};

/// The consumer's name, here and at the broker.
pub const CONSUMER: &str = "orders-of-deleted-users";

pub fn consumer() -> Consumer {
    Consumer::reaction(CONSUMER, react)
}

/// Decides from the current orders and skips those that are cancelled already, so that an event that is seen again has no second
/// effect.
pub fn react(tx: &Tx<'_>, received: &Received<UserEvent>) -> Result<(), ApplyError> {
    let user_id = match &received.event {
        UserEvent::Deleted(UserDeleted { user_id, .. }) => user_id,
        UserEvent::Created(created) => return Ok(deleted_users::remove(tx, created.user_id)?),
        _ => return Ok(()),
    };
    deleted_users::add(tx, *user_id)?;
    let of_user = Filter {
        user_id: Some(*user_id),
        ..Filter::default()
    };
    for order in orders::open_of(tx, of_user)? {
        let cancelled = order.cancel(CancelReason::UserDeleted, None, now_ms(tx));
        make(tx, cancelled.map_err(refused)?)?;
    }
    Ok(())
}

fn refused(refusal: Refusal) -> ApplyError {
    ApplyError::Fatal(format!("an open order cannot be cancelled: {refusal}"))
}

//! A change of a user becomes an event of stream USERS, here and nowhere else.

use event_schema::UserEvent;
use relay::{EmitError, NewEvent, Tx};

/// Appends the event to the outbox, in the transaction that changes the user.
pub fn emit(tx: &Tx<'_>, event: &UserEvent) -> Result<(), EmitError> {
    tx.emit(NewEvent {
        event_type: event.event_type(),
        aggregate: event.aggregate().to_string(),
        data: event,
        decode: UserEvent::decode,
    })?;
    Ok(())
}

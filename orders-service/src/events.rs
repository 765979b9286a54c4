//! A change of an order becomes an event of stream ORDERS, here and nowhere else.

use event_schema::OrderEvent;
use relay::{EmitError, NewEvent, Tx};

/// Appends the event to the outbox, in the transaction that changes the order.
pub fn emit(tx: &Tx<'_>, event: &OrderEvent) -> Result<(), EmitError> {
    tx.emit(NewEvent {
        event_type: event.event_type(),
        aggregate: event.aggregate().to_string(),
        data: event,
        decode: OrderEvent::decode,
    })?;
    Ok(())
}

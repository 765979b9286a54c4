//! A change of an order becomes an event of stream ORDERS, and such an event a change again: here and nowhere else.

use event_schema::OrderEvent;
use jiff::Timestamp;
use relay::{ApplyError, EmitError, Fold, NewEvent, Tx};

use crate::store;

/// Appends the event to the outbox, in the transaction that changes the order.
pub fn emit(tx: &Tx<'_>, event: &OrderEvent) -> Result<(), EmitError> {
    tx.emit(NewEvent {
        event_type: event.event_type(),
        aggregate: event.aggregate().to_string(),
        data: event,
        sealed: None,
        decode: OrderEvent::decode,
    })?;
    Ok(())
}

/// How the orders follow from their events, for the day on which the log comes home.
pub fn fold() -> Fold {
    Fold::new(&["orders"], OrderEvent::decode, |rows, received| {
        let emitted_at: Timestamp = received.time.parse().map_err(|error| {
            let time = &received.time;
            ApplyError::Fatal(format!("its time {time:?} is none: {error}"))
        })?;
        store::apply(rows, &received.event, emitted_at.as_millisecond())?;
        Ok(())
    })
}

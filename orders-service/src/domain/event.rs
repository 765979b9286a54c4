//! An event with its private part.

use event_schema::OrderEvent;

/// An event of stream ORDERS as its owner knows it: what every service reads, and what this service alone may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEvent {
    pub event: OrderEvent,
    /// SHA-256 of a device's token, where the event gives it one.
    pub token_hash: Option<String>,
}

impl From<OrderEvent> for OwnEvent {
    fn from(event: OrderEvent) -> Self {
        let token_hash = None;
        Self { event, token_hash }
    }
}

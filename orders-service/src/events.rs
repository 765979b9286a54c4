//! A change of an order or a driver becomes an event of stream ORDERS, and such an event a change again: here and nowhere
//! else.

use event_schema::OrderEvent;
use jiff::Timestamp;
use relay::{ApplyError, EmitError, Fold, NewEvent, Tx};
use serde::{Deserialize, Serialize};

use crate::store::{self, StoreError};

/// What happened: the event that everybody reads, and beside it what stays with its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnEvent {
    pub event: OrderEvent,
    /// SHA-256 of a device's token, where the event gives it one.
    pub token_hash: Option<String>,
}

/// Why a change was not made. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    #[error("the event cannot be emitted")]
    Emit(#[from] EmitError),
    #[error("the event cannot be applied")]
    Store(#[from] StoreError),
}

/// What an event carries for this service alone, as sealed JSON. It only grows, like every contract.
#[derive(Serialize, Deserialize)]
struct Sealed {
    token_hash: String,
}

/// The tables that follow from the log.
const TABLES: &[&str] = &[
    "orders",
    "history",
    "drivers",
    "devices",
    "device_tokens",
    "scopes",
    "intents",
];

/// Makes the change that the event tells of, and tells of it; answers the event's place.
pub fn make(tx: &Tx<'_>, event: impl Into<OwnEvent>) -> Result<u64, MakeError> {
    let own = event.into();
    let OwnEvent { event, token_hash } = &own;
    let seq = tx.emit(NewEvent {
        event_type: event.event_type(),
        aggregate: event.aggregate(),
        data: event,
        sealed: token_hash.as_deref().map(seal),
        decode: OrderEvent::decode,
    })?;
    let at_ms = event.at_ms().unwrap_or_default(); // what is made now says when
    store::apply(tx, &own, seq, at_ms)?;
    Ok(seq)
}

/// How the tables follow from the events, for the day on which the log comes home.
pub fn fold() -> Fold {
    Fold::new(TABLES, OrderEvent::decode, |rows, received| {
        let emitted_at: Timestamp = received.time.parse().map_err(|error| {
            let time = &received.time;
            ApplyError::Fatal(format!("its time {time:?} is none: {error}"))
        })?;
        let own = OwnEvent {
            event: received.event.clone(),
            token_hash: received.sealed.as_deref().map(open).transpose()?,
        };
        Ok(store::apply(
            rows,
            &own,
            received.seq,
            emitted_at.as_millisecond(),
        )?)
    })
}

fn seal(token_hash: &str) -> Vec<u8> {
    let token_hash = token_hash.to_owned();
    serde_json::to_vec(&Sealed { token_hash }).expect("a text is JSON")
}

fn open(sealed: &[u8]) -> Result<String, ApplyError> {
    let opened = serde_json::from_slice::<Sealed>(sealed);
    opened.map(|Sealed { token_hash }| token_hash).map_err(|_| {
        let cure = "its sealed part holds no token that this program can read: start the newer version of it";
        ApplyError::Fatal(cure.to_owned())
    })
}

impl From<OrderEvent> for OwnEvent {
    fn from(event: OrderEvent) -> Self {
        let token_hash = None;
        Self { event, token_hash }
    }
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(cause) => cause.into(),
            other => Self::Fatal(other.to_string()),
        }
    }
}

/// A reaction that cannot make its change: the event is no worse for it.
impl From<MakeError> for ApplyError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Store(error) => error.into(),
            MakeError::Emit(error) => Self::Fatal(relay::chain(&error)),
        }
    }
}

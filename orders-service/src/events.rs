//! Turns a change of an order or a driver into an event of stream ORDERS, and such an event into rows. Here and nowhere
//! else.

use event_schema::OrderEvent;
use jiff::Timestamp;
use relay::{ApplyError, EmitError, Fold, Received, Tx};
use serde::{Deserialize, Serialize};

use crate::domain::OwnEvent;
use crate::store::{self, StoreError};

/// Why a change failed. Nothing of it was written.
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

/// The current time as events and rows hold it, from the clock that tests own.
pub fn now_ms(tx: &Tx<'_>) -> i64 {
    i64::try_from(tx.now_ms()).unwrap_or(i64::MAX)
}

/// Emits the event and applies it to the tables. Returns its sequence.
pub fn make(tx: &Tx<'_>, event: impl Into<OwnEvent>) -> Result<u64, MakeError> {
    let own = event.into();
    let OwnEvent { event, token_hash } = &own;
    let sealed = token_hash.clone().map(|token_hash| Sealed { token_hash });
    let seq = tx.emit_sealed(event, sealed.as_ref())?;
    store::apply(tx, &own, seq, now_ms(tx))?;
    Ok(seq)
}

/// Applies imported events to the tables, when the outbox is restored from the stream.
pub fn fold() -> Fold {
    Fold::new(TABLES, |rows, received: &Received<OrderEvent>| {
        let emitted_at: Timestamp = received.time.parse().map_err(|error| {
            let time = &received.time;
            ApplyError::Fatal(format!("its time {time:?} is not valid: {error}"))
        })?;
        let own = OwnEvent {
            event: received.event.clone(),
            token_hash: received.unseal()?.map(|Sealed { token_hash }| token_hash),
        };
        let at_ms = emitted_at.as_millisecond();
        Ok(store::apply(rows, &own, received.seq, at_ms)?)
    })
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(source) => source.into(),
            other => Self::Fatal(other.to_string()),
        }
    }
}

/// Of a reaction that cannot make its change. The event itself is valid.
impl From<MakeError> for ApplyError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Store(error) => error.into(),
            MakeError::Emit(error) => Self::Fatal(relay::error::chain(&error)),
        }
    }
}

//! Turns a change of a user into an event of stream USERS, and such an event into the change again: here and nowhere else.

use event_schema::UserEvent;
use relay::{ApplyError, EmitError, Fold, Received, Tx};
use serde::{Deserialize, Serialize};

use crate::domain::{Email, OwnEvent};
use crate::store::{self, StoreError};

/// What an event carries for this service alone, as sealed JSON. Like every contract, it only grows.
#[derive(Serialize, Deserialize)]
struct Sealed {
    email: String,
}

/// Emits the event and applies it to the users, in one transaction.
pub fn make<E: From<EmitError> + From<StoreError>>(tx: &Tx<'_>, own: &OwnEvent) -> Result<(), E> {
    let OwnEvent { event, email } = own;
    let email = email.as_ref().map(|email| email.as_ref().to_owned());
    let seq = tx.emit_sealed(event, email.map(|email| Sealed { email }).as_ref())?;
    Ok(store::apply(tx, own, seq)?)
}

/// How the users follow from their events, for an outbox that is restored from the stream.
pub fn fold() -> Fold {
    Fold::new(&["users"], |rows, received: &Received<UserEvent>| {
        let email = received
            .unseal()?
            .map(|Sealed { email }| Email::kept(email));
        let event = received.event.clone();
        Ok(store::apply(
            rows,
            &OwnEvent { event, email },
            received.seq,
        )?)
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

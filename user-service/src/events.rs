//! Turns a change of a user into an event of stream USERS, and such an event into the change again: here and nowhere else.

use event_schema::{Event, UserEvent};
use relay::{ApplyError, EmitError, Fold, NewEvent, Tx};
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
    let seq = tx.emit(NewEvent {
        event_type: event.event_type(),
        aggregate: event.aggregate(),
        data: event,
        sealed: email.as_ref().map(seal),
        decode: UserEvent::decode,
    })?;
    Ok(store::apply(tx, own, seq)?)
}

/// How the users follow from their events, for an outbox that is restored from the stream.
pub fn fold() -> Fold {
    Fold::new(&["users"], UserEvent::decode, |rows, received| {
        let email = received.sealed.as_deref().map(open).transpose()?;
        let event = received.event.clone();
        Ok(store::apply(
            rows,
            &OwnEvent { event, email },
            received.seq,
        )?)
    })
}

fn seal(email: &Email) -> Vec<u8> {
    let email = email.as_ref().to_owned();
    serde_json::to_vec(&Sealed { email }).expect("a text is JSON")
}

/// The error quotes nothing of the sealed part.
fn open(sealed: &[u8]) -> Result<Email, ApplyError> {
    match serde_json::from_slice(sealed) {
        Ok(Sealed { email }) => Ok(Email::kept(email)),
        Err(_) => {
            let cure = "its sealed part holds no e-mail address that this version can read: start a newer version";
            Err(ApplyError::Fatal(cure.to_owned()))
        }
    }
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(source) => source.into(),
            other => Self::Fatal(other.to_string()),
        }
    }
}

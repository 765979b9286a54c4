//! A change of a user becomes an event of stream USERS, and such an event a change again: here and nowhere else.

use event_schema::UserEvent;
use relay::{ApplyError, EmitError, Fold, NewEvent, Tx};
use serde::{Deserialize, Serialize};

use crate::domain::{Email, OwnEvent};
use crate::store::{self, StoreError};

/// What an event carries for this service alone, as sealed JSON. It only grows, like every contract.
#[derive(Serialize, Deserialize)]
struct Sealed {
    email: String,
}

/// Appends the event to the outbox, in the transaction that changes the user; answers its sequence.
pub fn emit(tx: &Tx<'_>, OwnEvent { event, email }: &OwnEvent) -> Result<u64, EmitError> {
    tx.emit(NewEvent {
        event_type: event.event_type(),
        aggregate: event.aggregate().to_string(),
        data: event,
        sealed: email.as_ref().map(seal),
        decode: UserEvent::decode,
    })
}

/// How the users follow from their events, for the day on which the log comes home.
pub fn fold() -> Fold {
    Fold::new(&["users"], UserEvent::decode, |rows, received| {
        let email = received.sealed.as_deref().map(open).transpose()?;
        let event = received.event.clone();
        let own = OwnEvent { event, email };
        Ok(store::apply(rows, &own, received.seq)?)
    })
}

fn seal(email: &Email) -> Vec<u8> {
    let email = email.as_ref().to_owned();
    serde_json::to_vec(&Sealed { email }).expect("a text is JSON")
}

/// What is wrong with it is told without a word of it.
fn open(sealed: &[u8]) -> Result<Email, ApplyError> {
    let opened = serde_json::from_slice::<Sealed>(sealed).ok();
    let email = opened.map(|Sealed { email }| Email::kept(email));
    email.ok_or_else(|| {
        ApplyError::Fatal(
            "its sealed part holds no e-mail address that this program can read: start the newer version of it".to_owned(),
        )
    })
}

impl From<StoreError> for ApplyError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Database(cause) => cause.into(),
            other => Self::Fatal(other.to_string()),
        }
    }
}

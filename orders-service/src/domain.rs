//! What orders and drivers are and how they change. Pure: state and intent go in, an event comes out, and an event makes the
//! next state.

mod amount;
mod currency;
mod driver;
mod event;
mod intent;
mod order;
mod texts;

pub use event_schema::Note;

pub use amount::{Amount, InvalidAmount};
pub use currency::{Currency, InvalidCurrency};
pub use driver::{Device, Driver, DriverRevoked};
pub use event::OwnEvent;
pub use intent::{Conflict, Intent, InvalidIntent, Verdict, explain, judge, with_clean_note};
pub use order::{Act, Order, Refusal, Status};
pub use texts::{DriverName, InvalidDriverName, InvalidNote, operator_note};

use event_schema::{UserId, Version};
use serde::Deserialize;

/// A user of user-service, as far as orders need one.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct User {
    pub id: UserId,
    pub name: String,
    pub version: Version,
}

//! What orders and drivers are and how they change. Pure: state and wish go in, an event comes out; `store` applies it.

mod amount;
mod currency;
mod driver;
mod intent;
mod order;
mod texts;

pub use event_schema::Note;

pub use amount::{Amount, InvalidAmount};
pub use currency::{Currency, InvalidCurrency};
pub use driver::{Device, Driver, Gone};
pub use intent::{Conflict, Judgement, Ruling, Unclear, Wish, explain, judge, with_clean_note};
pub use order::{Order, Refusal, Status, UnknownStatus};
pub use texts::{DriverName, InvalidDriverName, InvalidNote, an_operators_note};

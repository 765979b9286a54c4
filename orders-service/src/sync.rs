//! Sync with drivers' devices: uploads of intents, and the feed of deliveries.

mod feed;
mod intents;
mod token;
mod turns;

use event_schema::sync::Delivery;
use relay::rusqlite::{self, Connection};

use crate::cache::users;
use crate::domain::Order;

pub use feed::{DEFAULT_TAIL, page};
pub use intents::{UploadError, receive};
pub use token::{FeedToken, InvalidToken};
pub use turns::Turns;

/// An order as its driver may see it.
fn delivery(rows: &Connection, order: Order) -> rusqlite::Result<Delivery> {
    let customer = users::find(rows, order.user_id)?;
    Ok(Delivery {
        order_id: order.id,
        status: order.status.as_str().to_owned(),
        version: order.version,
        customer: customer.map(|user| user.name),
        amount_minor: order.amount.minor(),
        currency: order.currency,
        note: order.note,
        cancel_reason: order.cancel_reason,
        problems: order.problems,
        seq: Some(order.seq),
        created_at_ms: order.created_at_ms,
        changed_at_ms: order.changed_at_ms,
    })
}

//! `POST /orders`. How orders are shown is in `composed`.

use axum::extract::State;
use event_schema::{OrderId, UserId};
use jiff::Timestamp;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};
use service_kit::{ETag, Idempotent, Problem, Reply};

use super::{App, codes};
use crate::cache::users;
use crate::domain::{Amount, Order};
use crate::events::make;
use crate::store::orders;

/// An order as its owner shows it.
#[derive(Serialize)]
pub(super) struct OrderView {
    id: OrderId,
    user_id: UserId,
    amount_minor: i64,
    currency: String,
    status: &'static str,
    version: u64,
    /// RFC 3339, UTC.
    created_at: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    user_id: UserId,
    amount_minor: i64,
    currency: String,
}

pub(super) async fn place(
    State(app): State<App>,
    Idempotent(new, once): Idempotent<NewOrder>,
) -> Result<Reply, Problem> {
    let NewOrder {
        user_id,
        amount_minor,
        currency,
    } = new;
    let (amount, currency) = (Amount::try_from(amount_minor)?, currency.parse()?);
    check_customer(&app, user_id).await?;
    let now_ms = Timestamp::now().as_millisecond();
    let id = OrderId::new();
    let placed = Order::place(id, user_id, amount, currency, now_ms);
    let write = once.write(move |tx| {
        if users::is_deleted(tx, user_id)? {
            return Err(no_user(user_id));
        }
        make(tx, placed)?;
        let order = known(tx, id)?;
        let (location, tag) = (format!("/orders/{id}"), ETag(order.version.get()));
        Ok(Reply::created(&location, tag, &OrderView::from(order)))
    });
    write.await
}

/// Whether the user who orders exists. A user whom the cache does not know may have registered a moment ago, so the owner
/// is asked. Its answer decides and is not written to the cache: only events are, in their order. An answer may be older
/// than an event that is already here, and would bring a deleted user back for ever.
async fn check_customer(app: &App, id: UserId) -> Result<(), Problem> {
    let cached = app.db.read(move |rows| users::find(rows, id)).await?;
    if cached.is_some() || app.user_api.find(id).await?.is_some() {
        return Ok(());
    }
    Err(no_user(id))
}

fn no_user(id: UserId) -> Problem {
    let detail = format!("there is no user {id}");
    Problem::field(codes::UNKNOWN_USER, "user_id", detail)
}

pub(super) fn known(rows: &Connection, id: OrderId) -> Result<Order, Problem> {
    orders::find(rows, id)?.ok_or_else(|| {
        let detail = format!("there is no order {id}");
        Problem::new(codes::ORDER_NOT_FOUND, detail)
    })
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        let created_at = Timestamp::from_millisecond(order.created_at_ms);
        Self {
            id: order.id,
            user_id: order.user_id,
            amount_minor: order.amount.minor(),
            currency: order.currency.to_string(),
            status: order.status.as_str(),
            version: order.version.get(),
            created_at: created_at.expect("stored from a clock").to_string(),
        }
    }
}

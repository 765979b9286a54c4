//! Changes of orders by an operator: place, assign, unassign, cancel. `composed` reads orders; what drivers do with them
//! comes as intents.

use std::time::Duration;

use axum::extract::State;
use event_schema::{CancelReason, DriverId, OrderEvent, OrderId, ReleaseReason, UserId};
use relay::Tx;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use service_kit::{
    ETag, IdempotencyKey, Idempotent, MustMatch, Once, Path, Problem, Reply, present,
};
use utoipa::ToSchema;

use super::{App, Nothing, rfc3339};
use crate::cache::users;
use crate::domain::{Amount, Order, operator_note};
use crate::events::{make, now_ms};
use crate::problems;
use crate::store::{deleted_users, drivers, orders};

/// An order as its owner shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderView {
    id: OrderId,
    user_id: UserId,
    /// In the currency's minor unit.
    #[schema(example = 1250)]
    amount_minor: i64,
    #[schema(example = "EUR")]
    currency: String,
    /// `placed`, `assigned`, `picked_up`, `delivered`, `cancelled`.
    #[schema(example = "assigned")]
    status: &'static str,
    /// The driver who is to deliver it, or who delivered it.
    driver_id: Option<DriverId>,
    /// Written by the driver or the operator who ended it.
    #[schema(example = "left with neighbour")]
    note: Option<String>,
    #[schema(example = "customer_request")]
    cancel_reason: Option<String>,
    /// Problems reported on the way.
    problems: u32,
    /// The number of its changes, from 1. Also the `ETag`.
    #[schema(minimum = 1, example = 2)]
    version: u64,
    /// RFC 3339, UTC.
    #[schema(format = DateTime, example = "2026-11-22T18:30:00Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-11-22T18:42:10Z")]
    changed_at: String,
}

/// An order to be placed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    user_id: UserId,
    /// In the currency's minor unit.
    #[schema(minimum = 1, example = 1250)]
    amount_minor: i64,
    /// Three letters, ISO 4217.
    #[schema(example = "EUR")]
    currency: String,
}

/// The driver who is to deliver an order.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Assignment {
    driver_id: DriverId,
}

/// Why an order will not be delivered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Cancellation {
    /// `customer_request`, `out_of_stock`, `undeliverable`.
    #[schema(example = "customer_request")]
    reason: String,
    /// 1 to 500 characters.
    #[serde(default, deserialize_with = "present")]
    #[schema(nullable = false, example = "ordered twice by mistake")]
    note: Option<String>,
}

const MAX_WAIT_FOR_CUSTOMER: Duration = Duration::from_secs(1);

/// Place an order
#[utoipa::path(
    post, path = "/orders", tag = "orders", security(("operator" = [])), request_body = NewOrder, params(IdempotencyKey),
    responses((
        status = 201, description = "Placed", body = OrderView,
        headers(
            ("Location" = String, description = "The order's path"),
            ("ETag" = String, description = "Its version, in quotes"),
        ),
    )),
    extensions(("x-problems" = json!([
        problems::INVALID_AMOUNT.name(), problems::INVALID_CURRENCY.name(), problems::UNKNOWN_USER.name(),
        problems::USERS_UNAVAILABLE.name(),
    ])))
)]
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
    let id = OrderId::new();
    let write = once.write(move |tx| {
        if deleted_users::contains(tx, user_id)? {
            return Err(no_user(user_id));
        }
        make(tx, Order::place(id, user_id, amount, currency, now_ms(tx)))?;
        let order = known(tx, id)?;
        let (location, tag) = (format!("/orders/{id}"), ETag(order.version.get()));
        Ok(Reply::created(&location, tag, &OrderView::from(order)))
    });
    write.await
}

/// Assign an order to a driver, or to another one
///
/// Also after it was picked up: the first driver hands it over, and it disappears from their device.
#[utoipa::path(
    post, path = "/orders/{id}/assign", tag = "orders", security(("operator" = [])), request_body = Assignment,
    params(
        IdempotencyKey,
        ("id" = OrderId, Path, description = "The order's id"),
        ("If-Match" = String, Header, description = "The version you have read, or `*`", example = "\"1\""),
    ),
    responses((
        status = 200, description = "The order as it is now", body = OrderView,
        headers(("ETag" = String, description = "Its version, in quotes")),
    )),
    extensions(("x-problems" = json!([
        problems::ORDER_NOT_FOUND.name(), problems::UNKNOWN_DRIVER.name(), problems::DRIVER_REVOKED.name(),
        problems::ORDER_DELIVERED.name(), problems::ORDER_CANCELLED.name(), problems::ALREADY_ASSIGNED.name(),
    ])))
)]
pub(super) async fn assign(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    must_match: MustMatch,
    Idempotent(Assignment { driver_id }, once): Idempotent<Assignment>,
) -> Result<Reply, Problem> {
    until_customer_is_known(&app, id).await?;
    change(once, id, must_match, move |tx, order, now_ms| {
        let driver = drivers::find(tx, driver_id)?.ok_or_else(|| {
            let detail = format!("there is no driver {driver_id}");
            Problem::field(problems::UNKNOWN_DRIVER, "driver_id", detail)
        })?;
        driver.check_active()?;
        Ok(order.assign(driver_id, now_ms)?)
    })
    .await
}

/// Take an order back from its driver
#[utoipa::path(
    post, path = "/orders/{id}/unassign", tag = "orders", security(("operator" = [])), request_body = Nothing,
    params(
        IdempotencyKey,
        ("id" = OrderId, Path, description = "The order's id"),
        ("If-Match" = String, Header, description = "The version you have read, or `*`", example = "\"2\""),
    ),
    responses((
        status = 200, description = "The order as it is now", body = OrderView,
        headers(("ETag" = String, description = "Its version, in quotes")),
    )),
    extensions(("x-problems" = json!([
        problems::ORDER_NOT_FOUND.name(), problems::ORDER_DELIVERED.name(), problems::ORDER_CANCELLED.name(),
        problems::NOT_ASSIGNED.name(),
    ])))
)]
pub(super) async fn unassign(
    Path(id): Path<OrderId>,
    must_match: MustMatch,
    Idempotent(Nothing {}, once): Idempotent<Nothing>,
) -> Result<Reply, Problem> {
    change(once, id, must_match, |_, order, now_ms| {
        Ok(order.release(ReleaseReason::Unassigned, now_ms)?)
    })
    .await
}

/// Cancel an order
#[utoipa::path(
    post, path = "/orders/{id}/cancel", tag = "orders", security(("operator" = [])), request_body = Cancellation,
    params(
        IdempotencyKey,
        ("id" = OrderId, Path, description = "The order's id"),
        ("If-Match" = String, Header, description = "The version you have read, or `*`", example = "\"2\""),
    ),
    responses((
        status = 200, description = "The order as it is now", body = OrderView,
        headers(("ETag" = String, description = "Its version, in quotes")),
    )),
    extensions(("x-problems" = json!([
        problems::ORDER_NOT_FOUND.name(), problems::ORDER_DELIVERED.name(), problems::ORDER_CANCELLED.name(),
        problems::INVALID_REASON.name(), problems::INVALID_NOTE.name(),
    ])))
)]
pub(super) async fn cancel(
    Path(id): Path<OrderId>,
    must_match: MustMatch,
    Idempotent(Cancellation { reason, note }, once): Idempotent<Cancellation>,
) -> Result<Reply, Problem> {
    let reason = operator_reason(&reason)?;
    let note = note.as_deref().map(operator_note).transpose()?;
    change(once, id, must_match, move |_, order, now_ms| {
        Ok(order.cancel(reason, note, now_ms)?)
    })
    .await
}

/// One change of one order, if it has the version that the client has read.
async fn change(
    once: Once,
    id: OrderId,
    must_match: MustMatch,
    decide: impl FnOnce(&Tx<'_>, &Order, i64) -> Result<OrderEvent, Problem> + Send + 'static,
) -> Result<Reply, Problem> {
    let write = once.write(move |tx| {
        let order = known(tx, id)?;
        must_match.check(order.version.get())?;
        make(tx, decide(tx, &order, now_ms(tx))?)?;
        let order = known(tx, id)?;
        let tag = ETag(order.version.get());
        Ok(Reply::ok(tag, &OrderView::from(order)))
    });
    write.await
}

/// An operator cannot say that a user was deleted.
fn operator_reason(text: &str) -> Result<CancelReason, Problem> {
    match CancelReason::of(text) {
        CancelReason::UserDeleted | CancelReason::Other(_) => {
            let detail = "a reason is `customer_request`, `out_of_stock` or `undeliverable`";
            Err(Problem::field(problems::INVALID_REASON, "reason", detail))
        }
        reason => Ok(reason),
    }
}

/// A device gets a delivery when it changes, so the customer's name should be in the cache by then. A user who registered just
/// now is milliseconds away; after a moment the order is assigned without the name.
async fn until_customer_is_known(app: &App, id: OrderId) -> Result<(), Problem> {
    let deadline = Instant::now() + MAX_WAIT_FOR_CUSTOMER;
    let mut cache = app.composer.status();
    loop {
        let read = app.db.read(move |rows| match orders::find(rows, id)? {
            Some(order) => Ok(users::find(rows, order.user_id)?.is_some()),
            None => Ok::<_, Problem>(true), // `change` refuses it
        });
        if read.await? || !matches!(timeout_at(deadline, cache.changed()).await, Ok(Ok(()))) {
            return Ok(());
        }
    }
}

/// A user who is not in the cache may have registered a moment ago, so user-service is asked. Its answer is not written to the
/// cache: it may be older than an event that is already applied, and would restore a deleted user for ever.
async fn check_customer(app: &App, id: UserId) -> Result<(), Problem> {
    let cached = app.db.read(move |rows| users::find(rows, id)).await?;
    if cached.is_some() || app.user_api.find(id).await?.is_some() {
        return Ok(());
    }
    Err(no_user(id))
}

fn no_user(id: UserId) -> Problem {
    let detail = format!("there is no user {id}");
    Problem::field(problems::UNKNOWN_USER, "user_id", detail)
}

pub(super) fn known(rows: &Connection, id: OrderId) -> Result<Order, Problem> {
    let found = orders::find(rows, id)?;
    problems::found(found, problems::ORDER_NOT_FOUND, "order", id)
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        Self {
            id: order.id,
            user_id: order.user_id,
            amount_minor: order.amount.minor(),
            currency: order.currency,
            status: order.status.as_str(),
            driver_id: order.driver_id,
            note: order.note,
            cancel_reason: order.cancel_reason,
            problems: order.problems,
            version: order.version.get(),
            created_at: rfc3339(order.created_at_ms),
            changed_at: rfc3339(order.changed_at_ms),
        }
    }
}

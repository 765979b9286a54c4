//! Orders change: placed, given to a driver, taken back, cancelled. How they are shown is in `composed`; what drivers do with
//! them comes as intents.

use std::time::Duration;

use axum::extract::State;
use event_schema::{CancelReason, DriverId, OrderEvent, OrderId, ReleaseReason, UserId};
use jiff::Timestamp;
use relay::Tx;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use service_kit::{
    ETag, IdempotencyKey, Idempotent, MustMatch, Once, Path, Problem, Reply, present,
};
use utoipa::ToSchema;

use super::{App, Nothing, codes, rfc3339};
use crate::cache::users;
use crate::domain::{Amount, Order, an_operators_note};
use crate::events::make;
use crate::store::{drivers, orders};

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
    /// Who is to deliver it, or has.
    driver_id: Option<DriverId>,
    /// What the driver or the office wrote when it ended.
    #[schema(example = "left with neighbour")]
    note: Option<String>,
    #[schema(example = "customer_request")]
    cancel_reason: Option<String>,
    /// Problems reported on the way.
    problems: u32,
    /// Counts the order's changes, from 1. It is the `ETag` too.
    #[schema(minimum = 1, example = 2)]
    version: u64,
    /// RFC 3339, UTC.
    #[schema(format = DateTime, example = "2026-11-22T18:30:00Z")]
    created_at: String,
    #[schema(format = DateTime, example = "2026-11-22T18:42:10Z")]
    changed_at: String,
}

/// What somebody wants.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    user_id: UserId,
    /// In the currency's minor unit; more than nothing.
    #[schema(minimum = 1, example = 1250)]
    amount_minor: i64,
    /// Three letters, ISO 4217.
    #[schema(example = "EUR")]
    currency: String,
}

/// Who is to deliver an order.
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
    /// 1 to 500 characters, for whoever reads the order later.
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
        codes::INVALID_AMOUNT.name(), codes::INVALID_CURRENCY.name(), codes::UNKNOWN_USER.name(),
        codes::USERS_UNAVAILABLE.name(),
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

/// Give an order to a driver, or to another one
///
/// Also after it was picked up: the first driver hands it over, and it leaves their device.
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
        codes::ORDER_NOT_FOUND.name(), codes::UNKNOWN_DRIVER.name(), codes::DRIVER_REVOKED.name(),
        codes::ORDER_DELIVERED.name(), codes::ORDER_CANCELLED.name(), codes::ALREADY_ASSIGNED.name(),
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
            Problem::field(codes::UNKNOWN_DRIVER, "driver_id", detail)
        })?;
        driver.at_work()?;
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
        codes::ORDER_NOT_FOUND.name(), codes::ORDER_DELIVERED.name(), codes::ORDER_CANCELLED.name(),
        codes::NOT_ASSIGNED.name(),
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
        codes::ORDER_NOT_FOUND.name(), codes::ORDER_DELIVERED.name(), codes::ORDER_CANCELLED.name(),
        codes::INVALID_REASON.name(), codes::INVALID_NOTE.name(),
    ])))
)]
pub(super) async fn cancel(
    Path(id): Path<OrderId>,
    must_match: MustMatch,
    Idempotent(Cancellation { reason, note }, once): Idempotent<Cancellation>,
) -> Result<Reply, Problem> {
    let reason = an_operators_reason(&reason)?;
    let note = note.as_deref().map(an_operators_note).transpose()?;
    change(once, id, must_match, move |_, order, now_ms| {
        Ok(order.cancel(reason, note, now_ms)?)
    })
    .await
}

/// One change of one order, if it is the one the client has read.
async fn change(
    once: Once,
    id: OrderId,
    must_match: MustMatch,
    decide: impl FnOnce(&Tx<'_>, &Order, i64) -> Result<OrderEvent, Problem> + Send + 'static,
) -> Result<Reply, Problem> {
    let now_ms = Timestamp::now().as_millisecond();
    let write = once.write(move |tx| {
        let order = known(tx, id)?;
        must_match.check(order.version.get())?;
        make(tx, decide(tx, &order, now_ms)?)?;
        let order = known(tx, id)?;
        let tag = ETag(order.version.get());
        Ok(Reply::ok(tag, &OrderView::from(order)))
    });
    write.await
}

/// That a user was deleted is no operator's to say.
fn an_operators_reason(text: &str) -> Result<CancelReason, Problem> {
    match CancelReason::of(text) {
        CancelReason::UserDeleted | CancelReason::Other(_) => {
            let detail = "a reason is `customer_request`, `out_of_stock` or `undeliverable`";
            Err(Problem::field(codes::INVALID_REASON, "reason", detail))
        }
        reason => Ok(reason),
    }
}

/// A driver is told of a delivery when it changes, so its customer had better have a name by then. A user who registered
/// just now is milliseconds away; whoever is not in the cache after a moment is not waited for.
async fn until_customer_is_known(app: &App, id: OrderId) -> Result<(), Problem> {
    let deadline = Instant::now() + MAX_WAIT_FOR_CUSTOMER;
    let mut cache = app.composer.news();
    loop {
        let read = app.db.read(move |rows| match orders::find(rows, id)? {
            Some(order) => Ok(users::find(rows, order.user_id)?.is_some()),
            None => Ok::<_, Problem>(true), // refused in a moment
        });
        if read.await? || !matches!(timeout_at(deadline, cache.changed()).await, Ok(Ok(()))) {
            return Ok(());
        }
    }
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
        Self {
            id: order.id,
            user_id: order.user_id,
            amount_minor: order.amount.minor(),
            currency: order.currency.to_string(),
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

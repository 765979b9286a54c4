//! `/orders`: place, read, list.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::IntoResponse;
use event_schema::{OrderId, UserId, Version};
use jiff::Timestamp;
use relay::rusqlite::{self, Connection};
use serde::{Deserialize, Serialize};
use service_kit::{Cursor, ETag, Json, Limit, Operator, Page, Path, Problem, Query, Reader};
use utoipa::{IntoParams, ToSchema};

use super::{App, codes};
use crate::cache::users::{self, CachedUser};
use crate::domain::{Amount, Order};
use crate::user_api::KnownUser;
use crate::{events, store};

/// An order as its owner shows it.
#[derive(Serialize, ToSchema)]
#[schema(as = Order)]
pub(super) struct OrderView {
    #[schema(value_type = String, format = Uuid, example = "0191d1a0-0000-7000-8000-000000000001")]
    id: OrderId,
    #[schema(value_type = String, format = Uuid, example = "0191d1a0-0000-7000-8000-000000000000")]
    user_id: UserId,
    /// In the currency's minor unit.
    #[schema(example = 1250)]
    amount_minor: i64,
    #[schema(example = "EUR")]
    currency: String,
    #[schema(example = "placed")]
    status: &'static str,
    /// Counts the order's changes, from 1. It is the `ETag` too.
    #[schema(minimum = 1, example = 1)]
    version: u64,
    /// RFC 3339, UTC.
    #[schema(format = DateTime, example = "2026-11-22T18:30:00Z")]
    created_at: String,
    user: UserView,
}

/// The order's user, as the cache or the owner has just told: null where this service does not know, yet or any more.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderUser)]
struct UserView {
    #[schema(value_type = String, format = Uuid, example = "0191d1a0-0000-7000-8000-000000000000")]
    id: UserId,
    #[schema(example = "Ada Lovelace")]
    name: Option<String>,
    #[schema(example = 1)]
    version: Option<u64>,
}

/// What somebody wants.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewOrder {
    #[schema(value_type = String, format = Uuid, example = "0191d1a0-0000-7000-8000-000000000000")]
    user_id: UserId,
    /// In the currency's minor unit; more than nothing.
    #[schema(minimum = 1, example = 1250)]
    amount_minor: i64,
    /// Three letters, ISO 4217.
    #[schema(example = "EUR")]
    currency: String,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only the orders of this user.
    #[param(value_type = Option<String>, format = Uuid)]
    user_id: Option<UserId>,
    /// Where the page begins: the `next_cursor` of the one before.
    #[param(value_type = Option<String>, example = "c1.0191d1a0-0000-7000-8000-000000000001")]
    cursor: Option<Cursor<OrderId>>,
    /// How many items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// Place an order
#[utoipa::path(
    post, path = "/orders", tag = "orders", security(("operator" = [])), request_body = NewOrder,
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
    _: Operator,
    State(app): State<App>,
    Json(NewOrder {
        user_id,
        amount_minor,
        currency,
    }): Json<NewOrder>,
) -> Result<impl IntoResponse, Problem> {
    let (amount, currency) = (Amount::try_from(amount_minor)?, currency.parse()?);
    let user = customer(&app, user_id).await?;
    let now_ms = Timestamp::now().as_millisecond();
    let id = OrderId::new();
    let placed = Order::place(id, user_id, amount, currency, now_ms);
    let write = app.db.write(move |tx| {
        store::apply(tx, &placed, now_ms)?;
        events::emit(tx, &placed)?;
        known(tx, id)
    });
    let order = write.await?;
    let location = [(LOCATION, format!("/orders/{id}"))];
    Ok((StatusCode::CREATED, location, shown(order, Some(user))))
}

/// Read an order
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders", security(("operator" = []), ("service" = [])),
    params(("id" = String, Path, format = Uuid, description = "The order's id")),
    responses((
        status = 200, description = "The order, with its user as far as known here", body = OrderView,
        headers(("ETag" = String, description = "The order's version, in quotes")),
    )),
    extensions(("x-problems" = json!([codes::ORDER_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    _: Reader,
    State(app): State<App>,
    Path(id): Path<OrderId>,
) -> Result<impl IntoResponse, Problem> {
    let read = app.db.read(move |rows| {
        let order = known(rows, id)?;
        Ok::<_, Problem>(with_user(rows, order)?)
    });
    let (order, user) = read.await?;
    Ok(shown(order, user))
}

/// List orders
///
/// In the order of placing. An order that is placed while one pages may be missed: ids are drawn just before the
/// commit, and two commits can swap.
#[utoipa::path(
    get, path = "/orders", tag = "orders", security(("operator" = []), ("service" = [])), params(ListQuery),
    responses((status = 200, description = "One page", body = Page<OrderView>))
)]
pub(super) async fn list(
    _: Reader,
    State(app): State<App>,
    Query(ListQuery {
        user_id,
        cursor,
        limit,
    }): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    let after = cursor.map(|Cursor(id)| id);
    let read = app.db.read(move |rows| {
        let orders = match user_id {
            Some(user_id) => store::list_of_user(rows, user_id, after, limit)?,
            None => store::list(rows, after, limit)?,
        };
        let each = orders.into_iter().map(|order| with_user(rows, order));
        each.collect::<rusqlite::Result<Vec<_>>>()
    });
    let page = Page::new(read.await?, limit, |(order, _)| order.id);
    Ok(Json(page.map(|(order, user)| OrderView::new(order, user))))
}

/// The user who orders, from the cache. A user it does not know may have registered a moment ago, so the owner is
/// asked, once. Its answer decides and names this order's user and is not written to the cache: only events are, in
/// their order. An answer may be older than an event that is already here, and would bring a deleted user back for ever.
async fn customer(app: &App, id: UserId) -> Result<UserView, Problem> {
    let cached = app.db.read(move |rows| users::find(rows, id)).await?;
    if let Some(cached) = cached {
        return Ok(cached.into());
    }
    let KnownUser { name, version } = app.user_api.find(id).await?.ok_or_else(|| {
        let detail = format!("there is no user {id}");
        Problem::field(codes::UNKNOWN_USER, "user_id", detail)
    })?;
    Ok(UserView::named(id, name, version))
}

fn with_user(rows: &Connection, order: Order) -> rusqlite::Result<(Order, Option<UserView>)> {
    let user = users::find(rows, order.user_id)?;
    Ok((order, user.map(UserView::from)))
}

fn known(rows: &Connection, id: OrderId) -> Result<Order, Problem> {
    store::find(rows, id)?.ok_or_else(|| {
        let detail = format!("there is no order {id}");
        Problem::new(codes::ORDER_NOT_FOUND, detail)
    })
}

/// The tag is the order's version: what can be changed here. The user's name beside it has its own.
fn shown(order: Order, user: Option<UserView>) -> impl IntoResponse {
    (ETag(order.version.get()), Json(OrderView::new(order, user)))
}

impl OrderView {
    fn new(order: Order, user: Option<UserView>) -> Self {
        let created_at = Timestamp::from_millisecond(order.created_at_ms);
        Self {
            id: order.id,
            user_id: order.user_id,
            amount_minor: order.amount.minor(),
            currency: order.currency.to_string(),
            status: order.status.as_str(),
            version: order.version.get(),
            created_at: created_at.expect("stored from a clock").to_string(),
            user: user.unwrap_or_else(|| UserView::unknown(order.user_id)),
        }
    }
}

impl UserView {
    fn named(id: UserId, name: String, version: Version) -> Self {
        Self {
            id,
            name: Some(name),
            version: Some(version.get()),
        }
    }

    fn unknown(id: UserId) -> Self {
        Self {
            id,
            name: None,
            version: None,
        }
    }
}

impl From<CachedUser> for UserView {
    fn from(CachedUser { id, name, version }: CachedUser) -> Self {
        Self::named(id, name, version)
    }
}

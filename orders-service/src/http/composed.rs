//! Reads of orders, with their users if the client includes them: one order, lists, and a user's own.

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::{DriverId, OrderId, UserId};
use relay::rusqlite::{self, Connection};
use serde::{Deserialize, Serialize};

use service_kit::{Cursor, ETag, Json, Limit, Page, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};

use super::orders::{OrderView, known};
use super::{App, PageQuery};
use crate::composition::{Include, UserPart, Users, UsersFreshness};
use crate::domain::{Order, Status};
use crate::problems;
use crate::store::orders::{self, Filter};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    /// `user`: shows the user beside the order.
    #[param(value_type = Option<String>, example = "user")]
    include: Option<Include>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only the orders of this user.
    user_id: Option<UserId>,
    /// Only the orders that this driver is to deliver or has delivered.
    driver_id: Option<DriverId>,
    /// Only those with this status.
    #[param(value_type = Option<String>, example = "placed")]
    status: Option<Status>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<i64>>,
    /// The number of items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// `user`: shows the user beside each order.
    #[param(value_type = Option<String>, example = "user")]
    include: Option<Include>,
}

/// An order, and its user if it is included.
#[derive(Serialize, ToSchema)]
pub(super) struct ComposedOrder {
    #[serde(flatten)]
    order: OrderView,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserPart>,
}

/// The answer, and how fresh its parts of other services are.
#[derive(Serialize, ToSchema)]
pub(super) struct Composed<T> {
    #[serde(flatten)]
    body: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    freshness: Option<Freshness>,
}

/// The caches that the answer has used.
#[derive(Serialize, ToSchema)]
pub(super) struct Freshness {
    users: UsersFreshness,
}

#[derive(Serialize, ToSchema)]
pub(super) struct UserWithOrders {
    user: Option<UserPart>,
    orders: Page<OrderView>,
}

/// Read an order
///
/// The `ETag` of the order alone is its version. With its user it has none, because the user changes independently:
/// `If-Match` takes the order's `version`, in quotes.
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders", security(("operator" = []), ("service" = [])),
    params(("id" = OrderId, Path, description = "The order's id"), ReadQuery),
    responses((
        status = 200, description = "The order, with its user if included", body = Composed<ComposedOrder>,
        headers(("ETag" = String, description = "The order's version, in quotes; not with a user")),
    )),
    extensions(("x-problems" = json!([problems::ORDER_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Query(ReadQuery { include }): Query<ReadQuery>,
) -> Result<impl IntoResponse, Problem> {
    let read = app.composer.read(include, move |rows| {
        let order = known(rows, id)?;
        let users = [order.user_id].into();
        Ok((order, users))
    });
    let (order, users) = read.await?;
    let tag = users.is_none().then(|| ETag(order.version.get()));
    let body = ComposedOrder::new(order, users.as_ref());
    Ok((tag, Json(Composed::new(body, users))))
}

/// List orders
///
/// In the order in which they were placed. An order that is placed while a client pages comes last.
#[utoipa::path(
    get, path = "/orders", tag = "orders", security(("operator" = []), ("service" = [])), params(ListQuery),
    responses((status = 200, description = "A page of orders, with their users if included", body = Composed<Page<ComposedOrder>>))
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    let filter = Filter {
        user_id: query.user_id,
        driver_id: query.driver_id,
        status: query.status,
    };
    let read = app.composer.read(query.include, move |rows| {
        let page = page(rows, filter, query.cursor, query.limit)?;
        let users = page.items.iter().map(|order| order.user_id).collect();
        Ok((page, users))
    });
    let (page, users) = read.await?;
    let body = page.map(|order| ComposedOrder::new(order, users.as_ref()));
    Ok(Json(Composed::new(body, users)))
}

/// Read a user and a page of their orders
///
/// A user with orders is shown even if they were deleted. A user is 404 only without orders, and when user-service says that
/// there is none.
#[utoipa::path(
    get, path = "/users/{id}/orders", tag = "orders", security(("operator" = []), ("service" = [])),
    params(("id" = UserId, Path, description = "The user's id"), PageQuery),
    responses((status = 200, description = "The user, as far as known, and their orders", body = Composed<UserWithOrders>)),
    extensions(("x-problems" = json!([problems::USER_NOT_FOUND.name()])))
)]
pub(super) async fn of_user(
    State(app): State<App>,
    Path(id): Path<UserId>,
    Query(PageQuery { cursor, limit }): Query<PageQuery>,
) -> Result<impl IntoResponse, Problem> {
    let filter = Filter {
        user_id: Some(id),
        ..Filter::default()
    };
    let read = app.composer.read(Some(Include::User), move |rows| {
        let page = page(rows, filter, cursor, limit)?;
        let has_orders = !page.items.is_empty() || orders::has_any(rows, id)?;
        Ok(((page, has_orders), [id].into()))
    });
    let ((page, has_orders), users) = read.await?;
    let user = users.as_ref().and_then(|users| users.part(id));
    if !has_orders && user.as_ref().is_some_and(UserPart::is_unknown) {
        let detail = format!("there is no user {id}");
        return Err(Problem::new(problems::USER_NOT_FOUND, detail));
    }
    let orders = page.map(OrderView::from);
    Ok(Json(Composed::new(UserWithOrders { user, orders }, users)))
}

fn page(
    rows: &Connection,
    filter: Filter,
    cursor: Option<Cursor<i64>>,
    limit: Limit,
) -> rusqlite::Result<Page<Order>> {
    let orders = orders::list(rows, filter, cursor.map(|Cursor(seq)| seq), limit)?;
    Ok(Page::new(orders, limit, |order| order.seq))
}

impl ComposedOrder {
    fn new(order: Order, users: Option<&Users>) -> Self {
        Self {
            user: users.and_then(|users| users.part(order.user_id)),
            order: order.into(),
        }
    }
}

impl<T> Composed<T> {
    fn new(body: T, users: Option<Users>) -> Self {
        let freshness = users.map(|users| Freshness {
            users: users.freshness,
        });
        Self { body, freshness }
    }
}

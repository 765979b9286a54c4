//! Orders as they are shown, with their users when the client wants them: one order, lists, and a user's own.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::{DriverId, OrderId, UserId};
use relay::rusqlite::{self, Connection};
use serde::{Deserialize, Serialize};

use service_kit::{Cursor, ETag, Json, Limit, Page, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};

use super::orders::{OrderView, known};
use super::{App, codes};
use crate::composition::{Freshness, Include, Local, Lookup, UserPart, Users};
use crate::domain::Order;
use crate::store::orders::{self, Filter};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadQuery {
    /// What to show beside: `user`.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "user")]
    include: Include,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only the orders of this user.
    user_id: Option<UserId>,
    /// Only those this driver is to deliver, or has.
    driver_id: Option<DriverId>,
    /// Only those with this status.
    #[param(example = "placed")]
    status: Option<String>,
    /// Where the page begins: the `next_cursor` of the one before.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<i64>>,
    /// How many items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// What to show beside: `user`.
    #[serde(default)]
    #[param(value_type = Option<String>, example = "user")]
    include: Include,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct PageQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<i64>>,
    /// How many items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// An order, and its user if that was wanted.
#[derive(Serialize, ToSchema)]
pub(super) struct ComposedOrder {
    #[serde(flatten)]
    order: OrderView,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserPart>,
}

/// What was asked for, and how new the parts of it are that other services own.
#[derive(Serialize, ToSchema)]
pub(super) struct Composed<T> {
    #[serde(flatten)]
    body: T,
    #[serde(skip_serializing_if = "Option::is_none")]
    freshness: Option<Freshness>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct UserWithOrders {
    user: Option<UserPart>,
    orders: Page<OrderView>,
}

/// Read an order
///
/// The order alone has its version as its tag. Beside a user, which changes by itself, it has none: `If-Match` takes the
/// order's `version`, in quotes.
#[utoipa::path(
    get, path = "/orders/{id}", tag = "orders", security(("operator" = []), ("service" = [])),
    params(("id" = OrderId, Path, description = "The order's id"), ReadQuery),
    responses((
        status = 200, description = "The order, with its user if that was wanted", body = Composed<ComposedOrder>,
        headers(("ETag" = String, description = "The order's version, in quotes; not beside a user")),
    )),
    extensions(("x-problems" = json!([codes::ORDER_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Query(ReadQuery { include }): Query<ReadQuery>,
) -> Result<impl IntoResponse, Problem> {
    let lookup = include.user.then(|| app.composer.look_up());
    let read = app.db.read(move |rows| {
        let order = known(rows, id)?;
        let local = look(lookup, rows, [order.user_id])?;
        Ok::<_, Problem>((order, local))
    });
    let (order, local) = read.await?;
    let users = complete(&app, local).await;
    let tag = users.is_none().then(|| ETag(order.version.get()));
    let body = ComposedOrder::new(order, users.as_ref());
    Ok((tag, Json(Composed::new(body, users))))
}

/// List orders
///
/// In the order of placing, which is that of the log. An order that is placed while a client pages comes last.
#[utoipa::path(
    get, path = "/orders", tag = "orders", security(("operator" = []), ("service" = [])), params(ListQuery),
    responses((status = 200, description = "A page of orders, with their users if that was wanted", body = Composed<Page<ComposedOrder>>))
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    let lookup = query.include.user.then(|| app.composer.look_up());
    let read = app.db.read(move |rows| {
        let page = query.read(rows)?;
        let local = look(lookup, rows, page.items.iter().map(|order| order.user_id))?;
        Ok::<_, Problem>((page, local))
    });
    let (page, local) = read.await?;
    let users = complete(&app, local).await;
    let body = page.map(|order| ComposedOrder::new(order, users.as_ref()));
    Ok(Json(Composed::new(body, users)))
}

/// Read a user and a page of what they have ordered
///
/// Who has ordered here is shown even when nobody knows any more who it
/// was, and whose owner cannot be asked may exist: only somebody without orders and without an owner's word is nobody.
#[utoipa::path(
    get, path = "/users/{id}/orders", tag = "orders", security(("operator" = []), ("service" = [])),
    params(("id" = UserId, Path, description = "The user's id"), PageQuery),
    responses((status = 200, description = "The user and their orders, as far as can be known", body = Composed<UserWithOrders>)),
    extensions(("x-problems" = json!([codes::USER_NOT_FOUND.name()])))
)]
pub(super) async fn of_user(
    State(app): State<App>,
    Path(id): Path<UserId>,
    Query(PageQuery { cursor, limit }): Query<PageQuery>,
) -> Result<impl IntoResponse, Problem> {
    let lookup = Some(app.composer.look_up());
    let read = app.db.read(move |rows| {
        let page = page_of_user(rows, id, cursor, limit)?;
        let local = look(lookup, rows, [id])?;
        let has_orders = !page.items.is_empty() || orders::has_any(rows, id)?;
        Ok::<_, Problem>((page, local, has_orders))
    });
    let (page, local, has_orders) = read.await?;
    let users = complete(&app, local).await;
    let user = users.as_ref().and_then(|users| users.part(id));
    if !has_orders && user.as_ref().is_some_and(UserPart::is_nobody) {
        let detail = format!("there is no user {id}");
        return Err(Problem::new(codes::USER_NOT_FOUND, detail));
    }
    let orders = page.map(OrderView::from);
    Ok(Json(Composed::new(UserWithOrders { user, orders }, users)))
}

fn page_of_user(
    rows: &Connection,
    id: UserId,
    cursor: Option<Cursor<i64>>,
    limit: Limit,
) -> rusqlite::Result<Page<Order>> {
    let after = cursor.map(|Cursor(seq)| seq);
    let filter = Filter {
        user_id: Some(id),
        ..Filter::default()
    };
    let orders = orders::list(rows, filter, after, limit)?;
    Ok(Page::new(orders, limit, |(seq, _)| *seq).map(|(_, order)| order))
}

/// What the database says of the users, if they are wanted.
fn look(
    lookup: Option<Lookup>,
    rows: &Connection,
    users: impl IntoIterator<Item = UserId>,
) -> rusqlite::Result<Option<Local>> {
    let read = |lookup: Lookup| lookup.read(rows, users.into_iter().collect::<BTreeSet<_>>());
    lookup.map(read).transpose()
}

async fn complete(app: &App, local: Option<Local>) -> Option<Users> {
    let now_ms = app.db.environment().now_ms();
    Some(app.composer.complete(local?, now_ms).await)
}

impl ListQuery {
    fn read(self, rows: &Connection) -> Result<Page<Order>, Problem> {
        let filter = Filter {
            user_id: self.user_id,
            driver_id: self.driver_id,
            status: self.status.as_deref().map(str::parse).transpose()?,
        };
        let after = self.cursor.map(|Cursor(seq)| seq);
        let orders = orders::list(rows, filter, after, self.limit)?;
        Ok(Page::new(orders, self.limit, |(seq, _)| *seq).map(|(_, order)| order))
    }
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
        let freshness = users.map(Users::freshness);
        Self { body, freshness }
    }
}

//! `GET /orders/{id}/history`: the events of an order, from the log.

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::OrderId;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::{Cursor, Json, Page, Path, Problem, Query};
use utoipa::ToSchema;

use super::orders::known;
use super::{App, PageQuery};
use crate::problems;
use crate::store::history::{self, Change};

/// A change of an order, with its event.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderChange)]
pub(super) struct ChangeView {
    /// Of the order, after the change.
    #[schema(minimum = 1, example = 1)]
    version: u64,
    /// The event's position in stream ORDERS.
    #[schema(example = "orders@1042")]
    position: String,
    /// Null if the log does not go back so far.
    event: Option<EventView>,
}

/// The event as every service may read it: without its sealed part.
#[derive(Deserialize, Serialize, ToSchema)]
#[schema(as = OrderEvent)]
pub(super) struct EventView {
    id: String,
    #[serde(rename = "type")]
    #[schema(example = "orders.placed.v1")]
    event_type: String,
    #[schema(format = DateTime, example = "2026-11-22T18:30:00Z")]
    time: String,
    /// The request that caused it, if known.
    #[serde(rename(deserialize = "requestid"))]
    request_id: Option<String>,
    #[schema(value_type = Object)]
    data: Value,
}

/// Read an order's history
///
/// Every change is an event of the log. They are in the order of the versions.
#[utoipa::path(
    get, path = "/orders/{id}/history", tag = "orders", security(("operator" = []), ("service" = [])),
    params(("id" = OrderId, Path, description = "The order's id"), PageQuery),
    responses((status = 200, description = "A page of changes", body = Page<ChangeView>)),
    extensions(("x-problems" = json!([problems::ORDER_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Query(PageQuery { cursor, limit }): Query<PageQuery>,
) -> Result<impl IntoResponse, Problem> {
    let after = cursor.map_or(0, |Cursor(version)| version);
    let read = app.db.read(move |rows| {
        known(rows, id)?;
        Ok::<_, Problem>(history::list(rows, &id.to_string(), after, limit)?)
    });
    let page = Page::new(read.await?, limit, |change| change.version);
    Ok(Json(page.map(ChangeView::from)))
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            version: change.version,
            position: format!("orders@{}", change.seq),
            event: change
                .event
                .and_then(|event| serde_json::from_slice(&event).ok()),
        }
    }
}

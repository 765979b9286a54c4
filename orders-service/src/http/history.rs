//! `GET /orders/{id}/history`: what happened to an order, from the log itself.

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::OrderId;
use relay::Envelope;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::{Cursor, Json, Limit, Page, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};

use super::orders::known;
use super::{App, Place, codes};
use crate::store::history::{self, Change};

/// A change of an order: the event that tells of it.
#[derive(Serialize, ToSchema)]
#[schema(as = OrderChange)]
pub(super) struct ChangeView {
    /// Of the order, after the change.
    #[schema(minimum = 1, example = 1)]
    version: u64,
    /// The event's place in stream ORDERS.
    #[schema(example = "orders@1042")]
    position: String,
    /// The event, unless the log is not kept back to there.
    event: Option<EventView>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = OrderEvent)]
pub(super) struct EventView {
    id: String,
    #[serde(rename = "type")]
    #[schema(example = "orders.placed.v1")]
    event_type: String,
    #[schema(format = DateTime, example = "2026-11-22T18:30:00Z")]
    time: String,
    /// Whose request it was, if that is known.
    request_id: Option<String>,
    #[schema(value_type = Object)]
    data: Value,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct HistoryQuery {
    /// Where the page begins: the `next_cursor` of the one before.
    #[param(value_type = Option<String>, example = "c1.50")]
    cursor: Option<Cursor<Place>>,
    /// How many items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// Read an order's history
///
/// Every change is an event of the log, in the order of the versions.
#[utoipa::path(
    get, path = "/orders/{id}/history", tag = "orders", security(("operator" = []), ("service" = [])),
    params(("id" = OrderId, Path, description = "The order's id"), HistoryQuery),
    responses((status = 200, description = "A page of changes", body = Page<ChangeView>)),
    extensions(("x-problems" = json!([codes::ORDER_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Query(HistoryQuery { cursor, limit }): Query<HistoryQuery>,
) -> Result<impl IntoResponse, Problem> {
    let after = cursor.map_or(0, |Cursor(Place(version))| version);
    let read = app.db.read(move |rows| {
        known(rows, id)?;
        Ok::<_, Problem>(history::list(rows, &id.to_string(), after, limit)?)
    });
    let page = Page::new(read.await?, limit, |change| Place(change.version));
    Ok(Json(page.map(ChangeView::from)))
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            version: change.version,
            position: format!("orders@{}", change.seq),
            event: change.event.as_deref().and_then(EventView::read),
        }
    }
}

impl EventView {
    /// Only what everybody may read: the sealed part stays where it is.
    fn read(bytes: &[u8]) -> Option<Self> {
        let envelope = Envelope::parse(bytes).ok()?;
        Some(Self {
            id: envelope.id.to_string(),
            event_type: envelope.event_type.into_owned(),
            time: envelope.time.into_owned(),
            request_id: envelope.requestid.map(Into::into),
            data: serde_json::from_str(envelope.data.get()).ok()?,
        })
    }
}

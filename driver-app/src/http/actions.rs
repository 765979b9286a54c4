//! What a driver does: with deliveries, about conflicts, and with refusals. The device replies once it is on disk, and sends it
//! when it can.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use event_schema::{IntentId, OrderId};
use serde::{Deserialize, Serialize};
use service_kit::{Json, Path, Problem, codes as kit};
use utoipa::{IntoParams, ToSchema};

use super::{App, Empty, codes};
use crate::domain::Action;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Delivered {
    #[serde(default)]
    note: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reported {
    problem: String,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decided {
    decision: String,
}

/// The intent is recorded. The owner has still to decide.
#[derive(Serialize, ToSchema)]
pub(super) struct Accepted {
    intent_id: IntentId,
}

type Recorded = Result<(StatusCode, Json<Accepted>), Problem>;

/// The caller may draw the intent's id. It can then repeat a request whose reply was lost.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub(super) struct Key {
    /// The id for the new intent. A repeated request with the same key gets the same reply, and the device records it once.
    #[param(rename = "Idempotency-Key", value_type = Option<String>)]
    id: Option<IntentId>,
}

/// Pick a delivery up
#[utoipa::path(
    post, path = "/api/deliveries/{id}/pick_up", tag = "deliveries", request_body = Empty,
    params(("id" = inline(OrderId), Path, description = "The delivery"), Key),
    responses((status = 202, description = "Recorded; the device sends it when it can", body = Accepted)),
    extensions(("x-problems" = json!([codes::DELIVERY_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn pick_up(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    key: Key,
    Json(Empty {}): Json<Empty>,
) -> Recorded {
    recorded(app.device.act(id, Action::pick_up(), key.id).await?)
}

/// Deliver, with or without a note
#[utoipa::path(
    post, path = "/api/deliveries/{id}/deliver", tag = "deliveries", request_body = Delivered,
    params(("id" = inline(OrderId), Path, description = "The delivery"), Key),
    responses((status = 202, description = "Recorded; the device sends it when it can", body = Accepted)),
    extensions(("x-problems" = json!([codes::DELIVERY_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), codes::INVALID_NOTE.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn deliver(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    key: Key,
    Json(Delivered { note }): Json<Delivered>,
) -> Recorded {
    let action = Action::deliver(note.as_deref())?;
    recorded(app.device.act(id, action, key.id).await?)
}

/// Report a problem
#[utoipa::path(
    post, path = "/api/deliveries/{id}/report_problem", tag = "deliveries", request_body = Reported,
    params(("id" = inline(OrderId), Path, description = "The delivery"), Key),
    responses((status = 202, description = "Recorded; the device sends it when it can", body = Accepted)),
    extensions(("x-problems" = json!([codes::DELIVERY_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), codes::INVALID_NOTE.name(), codes::INVALID_PROBLEM.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn report_problem(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    key: Key,
    Json(Reported { problem, note }): Json<Reported>,
) -> Recorded {
    let action = Action::report_problem(&problem, note.as_deref())?;
    recorded(app.device.act(id, action, key.id).await?)
}

/// Decide about a conflict
#[utoipa::path(
    post, path = "/api/conflicts/{id}/decide", tag = "conflicts", request_body = Decided,
    params(("id" = IntentId, Path, description = "The intent in conflict"), Key),
    responses((status = 202, description = "Recorded; the device sends it when it can", body = Accepted)),
    extensions(("x-problems" = json!([codes::CONFLICT_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), codes::INVALID_DECISION.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn decide(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    key: Key,
    Json(Decided { decision }): Json<Decided>,
) -> Recorded {
    let decision = Action::decide(id, &decision)?;
    recorded(app.device.decide(id, decision, key.id).await?)
}

/// Dismiss a refusal, or discard a failed intent
#[utoipa::path(
    post, path = "/api/refused/{id}/dismiss", tag = "conflicts", request_body = Empty,
    params(("id" = IntentId, Path, description = "The intent")),
    responses((status = 204, description = "The page no longer shows it")),
    extensions(("x-problems" = json!([codes::REFUSAL_NOT_FOUND.name()])))
)]
pub(super) async fn dismiss(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Empty {}): Json<Empty>,
) -> Result<StatusCode, Problem> {
    app.device.dismiss(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Retry a failed intent
#[utoipa::path(
    post, path = "/api/refused/{id}/retry", tag = "conflicts", request_body = Empty,
    params(("id" = IntentId, Path, description = "The intent")),
    responses((status = 202, description = "Recorded; the device sends it when it can", body = Accepted)),
    extensions(("x-problems" = json!([codes::REFUSAL_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name()])))
)]
pub(super) async fn retry(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Empty {}): Json<Empty>,
) -> Recorded {
    app.device.retry(id).await?;
    recorded(id)
}

fn recorded(intent_id: IntentId) -> Recorded {
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id })))
}

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut sent = parts.headers.get_all("idempotency-key").iter();
        let id = match (sent.next(), sent.next()) {
            (None, _) => return Ok(Self { id: None }),
            (Some(key), None) => key.to_str().ok().and_then(|key| key.parse().ok()),
            (Some(_), Some(_)) => None,
        };
        id.map(|id| Self { id: Some(id) }).ok_or_else(|| {
            let detail = "send one Idempotency-Key, a UUID: it becomes the intent's id";
            Problem::new(kit::INVALID_IDEMPOTENCY_KEY, detail)
        })
    }
}

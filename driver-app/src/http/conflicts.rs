//! `/api/conflicts`: the driver decides.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::IntentId;
use serde::Deserialize;
use service_kit::{Json, Path, Problem, codes as kit};
use utoipa::ToSchema;

use super::key::Key;
use super::{Accepted, App, codes};
use crate::domain::DriverDecision;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Decided {
    decision: String,
}

/// Decide about a conflict
#[utoipa::path(
    post, path = "/api/conflicts/{id}/decide", tag = "conflicts", request_body = Decided,
    params(
        ("id" = IntentId, Path, description = "The intent in conflict"),
        ("Idempotency-Key" = Option<IntentId>, Header, description = "The id that the decision's intent is to have: the same request with it again is answered the same, and done once"),
    ),
    responses((status = 202, description = "Written down; it is sent when it can be", body = Accepted)),
    extensions(("x-problems" = json!([codes::CONFLICT_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), codes::INVALID_DECISION.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn decide(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Key(key): Key,
    Json(Decided { decision }): Json<Decided>,
) -> Result<impl IntoResponse, Problem> {
    let decision = DriverDecision::parse(&decision)?;
    let intent_id = app.device.decide(id, decision, key).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id })))
}

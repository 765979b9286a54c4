//! `/api/conflicts`: the driver decides.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::IntentId;
use serde::Deserialize;
use service_kit::{Json, Path, Problem};
use utoipa::ToSchema;

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
    params(("id" = IntentId, Path, description = "The intent")),
    responses((status = 202, description = "Written down; it is sent when it can be", body = Accepted)),
    extensions(("x-problems" = json!([codes::CONFLICT_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), codes::INVALID_DECISION.name()])))
)]
pub(super) async fn decide(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Decided { decision }): Json<Decided>,
) -> Result<impl IntoResponse, Problem> {
    let decision = DriverDecision::parse(&decision)?;
    let intent_id = app.device.decide(id, decision).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id })))
}

//! `/api/refused`: what had no effect is read, or tried again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::IntentId;
use service_kit::{Json, Path, Problem};

use super::{Accepted, App, Nothing, codes};

/// Put away what had no effect
#[utoipa::path(
    post, path = "/api/refused/{id}/dismiss", tag = "conflicts", request_body = Nothing,
    params(("id" = IntentId, Path, description = "The intent")),
    responses((status = 204, description = "Read and put away")),
    extensions(("x-problems" = json!([codes::REFUSAL_NOT_FOUND.name()])))
)]
pub(super) async fn dismiss(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<StatusCode, Problem> {
    app.device.dismiss(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Try again what was given up
#[utoipa::path(
    post, path = "/api/refused/{id}/retry", tag = "conflicts", request_body = Nothing,
    params(("id" = IntentId, Path, description = "The intent")),
    responses((status = 202, description = "Written down; it is sent when it can be", body = Accepted)),
    extensions(("x-problems" = json!([codes::REFUSAL_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name()])))
)]
pub(super) async fn retry(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    app.device.retry(id).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id: id })))
}

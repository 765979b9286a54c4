//! `/api/refused`: what had no effect is read, or tried again.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::IntentId;
use service_kit::{Json, Path, Problem};

use super::{Accepted, App, Nothing};

pub(super) async fn dismiss(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<StatusCode, Problem> {
    app.device.dismiss(id).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn retry(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    app.device.retry(id).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id: id })))
}

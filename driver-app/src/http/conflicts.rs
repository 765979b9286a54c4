//! `/api/conflicts`: the driver decides.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::IntentId;
use serde::Deserialize;
use service_kit::{Json, Path, Problem};

use super::{Accepted, App};
use crate::domain::DriverDecision;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Decided {
    decision: String,
}

pub(super) async fn decide(
    State(app): State<App>,
    Path(id): Path<IntentId>,
    Json(Decided { decision }): Json<Decided>,
) -> Result<impl IntoResponse, Problem> {
    let decision = DriverDecision::parse(&decision)?;
    let intent_id = app.device.decide(id, decision).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id })))
}

//! `/api/deliveries`: what a driver does. Answered when it is on disk; sent when it can be.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::{IntentId, Note, OrderId};
use serde::Deserialize;
use service_kit::{Json, Path, Problem, codes as kit};
use utoipa::ToSchema;

use super::key::Key;
use super::{Accepted, App, Nothing, codes};
use crate::domain::{Action, Problem as Obstacle, a_note};

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

/// Pick a delivery up
#[utoipa::path(
    post, path = "/api/deliveries/{id}/pick_up", tag = "deliveries", request_body = Nothing,
    params(
        ("id" = inline(OrderId), Path, description = "The delivery"),
        ("Idempotency-Key" = Option<String>, Header, description = "The id that the intent is to have: the same request with it again is answered the same, and done once"),
    ),
    responses((status = 202, description = "Written down; it is sent when it can be", body = Accepted)),
    extensions(("x-problems" = json!([codes::DELIVERY_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn pick_up(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Key(key): Key,
    Json(Nothing {}): Json<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    act(&app, id, Action::PickUp, key).await
}

/// Deliver, with a note or without
#[utoipa::path(
    post, path = "/api/deliveries/{id}/deliver", tag = "deliveries", request_body = Delivered,
    params(
        ("id" = inline(OrderId), Path, description = "The delivery"),
        ("Idempotency-Key" = Option<String>, Header, description = "The id that the intent is to have: the same request with it again is answered the same, and done once"),
    ),
    responses((status = 202, description = "Written down; it is sent when it can be", body = Accepted)),
    extensions(("x-problems" = json!([codes::DELIVERY_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), codes::INVALID_NOTE.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn deliver(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Key(key): Key,
    Json(Delivered { note }): Json<Delivered>,
) -> Result<impl IntoResponse, Problem> {
    let note = parse(note.as_deref())?;
    act(&app, id, Action::Deliver { note }, key).await
}

/// Report what stands in the way
#[utoipa::path(
    post, path = "/api/deliveries/{id}/report_problem", tag = "deliveries", request_body = Reported,
    params(
        ("id" = inline(OrderId), Path, description = "The delivery"),
        ("Idempotency-Key" = Option<String>, Header, description = "The id that the intent is to have: the same request with it again is answered the same, and done once"),
    ),
    responses((status = 202, description = "Written down; it is sent when it can be", body = Accepted)),
    extensions(("x-problems" = json!([codes::DELIVERY_NOT_FOUND.name(), codes::NOT_POSSIBLE_NOW.name(), codes::QUEUE_FULL.name(), codes::INVALID_NOTE.name(), codes::INVALID_PROBLEM.name(), kit::INVALID_IDEMPOTENCY_KEY.name(), kit::IDEMPOTENCY_KEY_REUSED.name()])))
)]
pub(super) async fn report_problem(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Key(key): Key,
    Json(Reported { problem, note }): Json<Reported>,
) -> Result<impl IntoResponse, Problem> {
    let (problem, note) = (Obstacle::parse(&problem)?, parse(note.as_deref())?);
    act(&app, id, Action::ReportProblem { problem, note }, key).await
}

async fn act(
    app: &App,
    id: OrderId,
    action: Action,
    key: Option<IntentId>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let intent_id = app.device.act(id, action, key).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id })))
}

fn parse(note: Option<&str>) -> Result<Option<Note>, Problem> {
    let note = note.map(a_note).transpose()?;
    Ok(note.flatten())
}

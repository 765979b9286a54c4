//! `/api/deliveries`: what a driver does. Answered when it is on disk; sent when it can be.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::OrderId;
use serde::Deserialize;
use service_kit::{Json, Path, Problem};

use super::{Accepted, App, Nothing};
use crate::domain::{Action, Note, Problem as Obstacle};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Delivered {
    #[serde(default)]
    note: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Reported {
    problem: String,
    #[serde(default)]
    note: Option<String>,
}

pub(super) async fn pick_up(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Json(Nothing {}): Json<Nothing>,
) -> Result<impl IntoResponse, Problem> {
    act(&app, id, Action::PickUp).await
}

pub(super) async fn deliver(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Json(Delivered { note }): Json<Delivered>,
) -> Result<impl IntoResponse, Problem> {
    let note = parse(note.as_deref())?;
    act(&app, id, Action::Deliver { note }).await
}

pub(super) async fn report_problem(
    State(app): State<App>,
    Path(id): Path<OrderId>,
    Json(Reported { problem, note }): Json<Reported>,
) -> Result<impl IntoResponse, Problem> {
    let (problem, note) = (Obstacle::parse(&problem)?, parse(note.as_deref())?);
    act(&app, id, Action::ReportProblem { problem, note }).await
}

async fn act(app: &App, id: OrderId, action: Action) -> Result<impl IntoResponse + use<>, Problem> {
    let intent_id = app.device.act(id, action).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { intent_id })))
}

fn parse(note: Option<&str>) -> Result<Option<Note>, Problem> {
    let note = note.map(Note::parse).transpose()?;
    Ok(note.flatten())
}

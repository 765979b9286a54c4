//! `/api/enrol` and `/api/sync`: the two requests that need the network at once.

use axum::extract::State;
use axum::http::StatusCode;
use event_schema::sync::{Enrolled, Enrolment};
use relay::Tx;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};
use service_kit::{Json, Problem, Stopping, codes as kit};
use utoipa::ToSchema;

use super::{App, Empty, codes};
use crate::owner_api::OwnerError;
use crate::store;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    code: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Welcome {
    driver_id: event_schema::DriverId,
    driver_name: String,
}

/// A code is a dozen letters.
const MAX_CODE_CHARACTERS: usize = 64;

/// Enrol this device with a code from the office
#[utoipa::path(
    post, path = "/api/enrol", tag = "device", request_body = Code,
    responses((status = 200, description = "Enrolled", body = Welcome)),
    extensions(("x-problems" = json!([codes::INVALID_CODE.name(), codes::UNREACHABLE.name()])))
)]
pub(super) async fn enrol(
    State(app): State<App>,
    Stopping(stop): Stopping,
    Json(Code { code }): Json<Code>,
) -> Result<Json<Welcome>, Problem> {
    if code.trim().is_empty() || code.chars().count() > MAX_CODE_CHARACTERS {
        return Err(invalid("a code looks like ABCD-EFGH-JKMN"));
    }
    // A task of its own: a code works once, so a page that is closed meanwhile must not waste it.
    let exchanged = tokio::spawn(exchange(app, code));
    let Some(exchanged) = stop.run_until_cancelled(exchanged).await else {
        let detail = "this program stopped before orders-service replied; send the code again";
        return Err(Problem::new(kit::SHUTTING_DOWN, detail).retry_later());
    };
    let welcome = exchanged.unwrap_or_else(|panic| Err(Problem::internal(&panic)))?;
    Ok(Json(welcome))
}

/// If the owner knows this device id but the device cannot prove that it is that device, it draws a new id. This happens when
/// the reply to an enrolment was lost and the driver has a new code.
async fn exchange(app: App, code: String) -> Result<Welcome, Problem> {
    let mut reply = ask(&app, &code).await?;
    if matches!(&reply, Err(error) if error.is_refused_as("device_enrolled")) {
        let write = |tx: &Tx<'_>| store::device::draw_another_id(tx);
        app.device.database().write(write).await?;
        reply = ask(&app, &code).await?;
    }
    let enrolled = reply?;
    let welcome = Welcome {
        driver_id: enrolled.driver_id,
        driver_name: enrolled.driver_name.clone(),
    };
    app.device.enrol(enrolled).await?;
    Ok(welcome)
}

async fn ask(app: &App, code: &str) -> Result<Result<Enrolled, OwnerError>, Problem> {
    let read = |rows: &Connection| store::device::get(rows);
    let identity = app.device.database().read(read).await?;
    let enrolment = Enrolment {
        code: code.to_owned(),
        device_id: identity.device_id,
    };
    let reply = app.owner.enrol(identity.token.as_deref(), &enrolment).await;
    Ok(reply.map(|reply| reply.value))
}

/// Sync now
#[utoipa::path(
    post, path = "/api/sync", tag = "device", request_body = Empty,
    responses((status = 202, description = "The device tries to reach orders-service now")),
)]
pub(super) async fn sync(State(app): State<App>, Json(Empty {}): Json<Empty>) -> StatusCode {
    app.device.status().sync_now();
    StatusCode::ACCEPTED
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::field(codes::INVALID_CODE, "code", detail)
}

/// Of an enrolment. No other request passes the owner's errors on.
impl From<OwnerError> for Problem {
    fn from(error: OwnerError) -> Self {
        match error {
            OwnerError::Refused { detail, .. }
            | OwnerError::Unreadable { detail }
            | OwnerError::Unauthorized { detail, .. } => invalid(detail),
            other => Self::new(codes::UNREACHABLE, other.to_string()).retry_later(),
        }
    }
}

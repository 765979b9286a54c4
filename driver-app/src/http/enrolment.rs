//! `/api/enrol` and `/api/sync`: the two things that need the network, now.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use event_schema::DriverId;
use event_schema::sync::{Enrolled, Enrolment};
use relay::Tx;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};
use service_kit::{Json, Problem, Stopping, codes as kit};
use utoipa::ToSchema;

use super::{App, Nothing, codes};
use crate::owner_api::Refusal;
use crate::store;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    code: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Welcome {
    driver_id: DriverId,
    driver_name: String,
}

/// A code is a dozen letters.
const MAX_CODE_CHARACTERS: usize = 64;

/// Enrol this device with the office's code
#[utoipa::path(
    post, path = "/api/enrol", tag = "device", request_body = Code,
    responses((status = 200, description = "Enrolled", body = Welcome)),
    extensions(("x-problems" = json!([codes::INVALID_CODE.name(), codes::UNREACHABLE.name()])))
)]
pub(super) async fn enrol(
    State(app): State<App>,
    Stopping(stop): Stopping,
    Json(Code { code }): Json<Code>,
) -> Result<impl IntoResponse, Problem> {
    if code.trim().is_empty() || code.chars().count() > MAX_CODE_CHARACTERS {
        return Err(invalid("a code looks like ABCD-EFGH-JKMN"));
    }
    // A task of its own: a page that is closed meanwhile must not cost the code, which counts once.
    let exchanged = tokio::spawn(exchange(app, code));
    let Some(exchanged) = stop.run_until_cancelled(exchanged).await else {
        let detail = "this program stops before the office has answered; send the code again";
        return Err(Problem::new(kit::SHUTTING_DOWN, detail).retry_later());
    };
    exchanged
        .unwrap_or_else(|panic| Err(Problem::internal(&panic)))
        .map(Json)
}

/// A device that cannot prove to be the one its owner knows by its id is another one, such as after an answer that was lost
/// and a new code.
async fn exchange(app: App, code: String) -> Result<Welcome, Problem> {
    let enrolled = match ask(&app, &code).await? {
        Err(Refusal::Refused { code: why, .. }) if why == "device_enrolled" => {
            let write = |tx: &Tx<'_>| store::device::draw_another_id(tx);
            app.device.database().write(write).await?;
            ask(&app, &code).await?
        }
        answered => answered,
    }?;
    let welcome = Welcome {
        driver_id: enrolled.driver_id,
        driver_name: enrolled.driver_name.clone(),
    };
    app.device.enrol(enrolled).await?;
    Ok(welcome)
}

async fn ask(app: &App, code: &str) -> Result<Result<Enrolled, Refusal>, Problem> {
    let read = |rows: &Connection| store::device::get(rows);
    let identity = app.device.database().read(read).await?;
    let enrolment = Enrolment {
        code: code.to_owned(),
        device_id: identity.device_id,
    };
    let answer = app.owner.enrol(identity.token.as_deref(), &enrolment).await;
    Ok(answer.map(|answer| answer.value))
}

/// Try to reach the office now
#[utoipa::path(
    post, path = "/api/sync", tag = "device", request_body = Nothing,
    responses((status = 202, description = "It is tried")),
)]
pub(super) async fn sync(State(app): State<App>, Json(Nothing {}): Json<Nothing>) -> StatusCode {
    app.device.ring();
    StatusCode::ACCEPTED
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::field(codes::INVALID_CODE, "code", detail)
}

/// Only enrolling answers the owner's refusals; everything else is done without it.
impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Refused { detail, .. }
            | Refusal::Unreadable { detail }
            | Refusal::Unauthorized { detail, .. } => invalid(detail),
            other => Self::new(codes::UNREACHABLE, other.to_string()).retry_later(),
        }
    }
}

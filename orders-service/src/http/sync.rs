//! `/sync`: intents up, verdicts back, a feed of deliveries down. Whose they are is the token's to say, never the request's.

use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::sync::{FeedPage, MAX_INTENTS, Upload, Verdicts};
use event_schema::{DeviceId, DriverId};
use jiff::Timestamp;
use serde::Deserialize;

use service_kit::{Device, Json, Limit, Problem, Query, codes as kit};
use utoipa::IntoParams;

use super::{App, codes};
use crate::sync::{self, FeedToken, UploadError};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedQuery {
    /// The `next` of the page before; without it a snapshot begins.
    after: Option<String>,
    /// How many items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// How long to wait for news when there is none, in milliseconds.
    #[serde(default)]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 8000, default = 0)]
    wait_ms: u64,
}

/// A request must end before its time is over.
const MAX_WAIT: Duration = Duration::from_secs(8);

/// Send what the driver wants
///
/// Each intent gets a verdict, in the same order. All are written down in one transaction, each in a savepoint of its own:
/// one that is refused keeps no other back.
#[utoipa::path(
    post, path = "/sync/intents", tag = "devices", security(("device" = [])), request_body = Upload,
    responses((status = 200, description = "The verdicts", body = Verdicts)),
    extensions(("x-problems" = json!([codes::INCARNATION_FORKED.name()])))
)]
pub(super) async fn intents(
    device: Device,
    State(app): State<App>,
    Json(upload): Json<Upload>,
) -> Result<impl IntoResponse, Problem> {
    let (device_id, driver_id) = whose(&device)?;
    if upload.intents.is_empty() || upload.intents.len() > MAX_INTENTS {
        let detail = format!("send 1 to {MAX_INTENTS} intents at a time");
        return Err(Problem::field(kit::INVALID_BODY, "intents", detail));
    }
    // It ends with the work, not with the question: who hangs up does not get ahead of the queue.
    let turn = app.turns.wait(driver_id).await;
    let now_ms = Timestamp::now().as_millisecond();
    let tail = app.feed_tail;
    let write = app.db.write(move |tx| {
        let _until_done = turn;
        let verdicts = sync::receive(tx, device_id, driver_id, upload, now_ms)?;
        sync::forget_some(tx, tail)?;
        Ok::<_, UploadError>(verdicts)
    });
    Ok(Json(write.await?))
}

/// Hear what is to be delivered
///
/// Pages up to one that is `complete` are a checkpoint, to be shown together or not at all.
#[utoipa::path(
    get, path = "/sync/feed", tag = "devices", security(("device" = [])), params(FeedQuery),
    responses((status = 200, description = "A page of the feed", body = FeedPage))
)]
pub(super) async fn feed(
    device: Device,
    State(app): State<App>,
    Query(query): Query<FeedQuery>,
) -> Result<impl IntoResponse, Problem> {
    let (_, driver_id) = whose(&device)?;
    let after = query.place(driver_id)?;
    let wait = Duration::from_millis(query.wait_ms).min(MAX_WAIT);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let page = query.page(&app, driver_id, after.clone()).await?;
        let news =
            page.snapshot || !page.complete || !page.items.is_empty() || !page.judged.is_empty();
        if news {
            return Ok(Json(page));
        }
        // Most of what is committed concerns others; whoever waits looks again and waits on, from the same place.
        let mut outbox = app.db.outbox();
        let waited = tokio::time::timeout_at(deadline, outbox.reaches(page.at + 1)).await;
        if waited.is_err() {
            return Ok(Json(page));
        }
    }
}

impl FeedQuery {
    fn place(&self, driver_id: DriverId) -> Result<Option<FeedToken>, Problem> {
        let Some(text) = &self.after else {
            return Ok(None);
        };
        let refuse = |detail: &str| Problem::field(kit::INVALID_QUERY, "after", detail);
        let token: FeedToken = text
            .parse()
            .map_err(|error: sync::InvalidToken| refuse(&error.to_string()))?;
        match token.driver_id == driver_id {
            true => Ok(Some(token)),
            false => Err(refuse(
                "this place lies in another driver's feed; begin without one",
            )),
        }
    }

    async fn page(
        &self,
        app: &App,
        driver_id: DriverId,
        after: Option<FeedToken>,
    ) -> Result<FeedPage, Problem> {
        let (limit, tail) = (self.limit.get(), app.feed_tail);
        let read = app
            .db
            .read(move |rows| sync::page(rows, driver_id, after, limit, tail));
        Ok(read.await?)
    }
}

/// The ids of the token's row.
fn whose(device: &Device) -> Result<(DeviceId, DriverId), Problem> {
    let known = device
        .device_id
        .parse()
        .ok()
        .zip(device.driver_id.parse().ok());
    known.ok_or_else(|| {
        let detail = "this token belongs to no device that is known here";
        Problem::new(kit::UNAUTHORIZED, detail)
    })
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            forked @ UploadError::Forked { .. } => {
                Self::new(codes::INCARNATION_FORKED, forked.to_string())
            }
            UploadError::OutOfOrder => Self::field(kit::INVALID_BODY, "intents", error.to_string()),
            UploadError::Database(error) => error.into(),
        }
    }
}

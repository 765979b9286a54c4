//! `/sync`: intents up, verdicts back, a feed of deliveries down. Whose they are is the token's to say, never the request's.

use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::sync::{FeedPage, MAX_INTENTS, Upload, Verdicts};
use event_schema::{DeviceId, DriverId};
use jiff::Timestamp;
use serde::Deserialize;

use service_kit::{Json, Limit, Problem, Query, Stopping, codes as kit, max_connections};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::{App, codes};
use crate::access::Caller;
use crate::store::drivers;
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
    /// How long to wait for news when there is none, in milliseconds; more than 8000 counts as 8000.
    #[serde(default)]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 4294967295u64, default = 0)]
    wait_ms: u32,
}

/// A request must end before its time is over.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// How long what is committed together may take to come together.
const GATHER: Duration = Duration::from_millis(50);
/// Devices that wait for news at a time: half of all connections.
pub(super) fn max_waiting() -> usize {
    max_connections() / 2
}

/// Send what the driver wants
///
/// Each intent gets a verdict, in the same order. All are written down in one transaction, each in a savepoint of its own:
/// one that is refused keeps no other back. Refusals about what is or was no order of the driver's have a budget: 500 in 24
/// hours for a device, 1,000 for its driver. Beyond it the verdict is `retry_later` with the code `budget_spent`, and nothing
/// is written. Of refusals about an order a device has 20 of `pick_up` and `deliver` kept, and 20 of all else; further ones
/// are `rejected` with the code `too_many_refusals`.
#[utoipa::path(
    post, path = "/sync/intents", tag = "devices", security(("device" = [])), request_body = Upload,
    responses((status = 200, description = "The verdicts", body = Verdicts)),
    extensions(("x-problems" = json!([codes::INCARNATION_FORKED.name(), codes::REVOKED.name(), kit::NOT_READY.name()])))
)]
pub(super) async fn intents(
    Caller {
        device_id,
        driver_id,
    }: Caller,
    State(app): State<App>,
    Json(upload): Json<Upload>,
) -> Result<impl IntoResponse, Problem> {
    if upload.intents.is_empty() || upload.intents.len() > MAX_INTENTS {
        let detail = format!("send 1 to {MAX_INTENTS} intents at a time");
        return Err(Problem::field(kit::INVALID_BODY, "intents", detail));
    }
    // It ends with the work, not with the question: who hangs up does not get ahead of the queue.
    let turn = app.turns.wait(driver_id).await;
    let now_ms = Timestamp::now().as_millisecond();
    let write = app.db.write(move |tx| {
        let _until_done = turn;
        sync::receive(tx, device_id, driver_id, upload, now_ms)
    });
    Ok(Json(write.await?))
}

/// Hear what is to be delivered
///
/// Pages up to one that is `complete` are a checkpoint, to be shown together or not at all.
#[utoipa::path(
    get, path = "/sync/feed", tag = "devices", security(("device" = [])), params(FeedQuery),
    responses((status = 200, description = "A page of the feed", body = FeedPage)),
    extensions(("x-problems" = json!([codes::REVOKED.name(), kit::NOT_READY.name()])))
)]
pub(super) async fn feed(
    Caller {
        device_id,
        driver_id,
    }: Caller,
    State(app): State<App>,
    Stopping(stop): Stopping,
    Query(query): Query<FeedQuery>,
) -> Result<impl IntoResponse, Problem> {
    let after = query.place(driver_id)?;
    // Who finds no room to wait is answered at once, and asks again: waiting must not take the places of everybody else.
    let room = app.waiting.clone().try_acquire_owned(); // held until the answer
    let wait = match room.is_ok() {
        true => Duration::from_millis(query.wait_ms.into()).min(MAX_WAIT),
        false => Duration::ZERO,
    };
    let deadline = Instant::now() + wait;
    loop {
        let page = query
            .page(&app, device_id, driver_id, after.clone())
            .await?;
        let news = stop.run_until_cancelled(waits_past(&app, page.at, deadline));
        if says_something(&page) || news.await != Some(true) {
            return Ok(Json(page));
        }
    }
}

fn says_something(page: &FeedPage) -> bool {
    page.snapshot || !page.complete || !page.items.is_empty() || !page.judged.is_empty()
}

/// Until something was committed that may concern this driver; most of it concerns others, so who looks does not look at
/// every single one. False: the time is over.
async fn waits_past(app: &App, seq: u64, deadline: Instant) -> bool {
    let mut outbox = app.db.outbox();
    let reached = tokio::time::timeout_at(deadline, outbox.reaches(seq + 1)).await;
    if reached == Ok(true) {
        tokio::time::sleep_until(deadline.min(Instant::now() + GATHER)).await;
    }
    reached == Ok(true)
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
        device_id: DeviceId,
        driver_id: DriverId,
        after: Option<FeedToken>,
    ) -> Result<FeedPage, Problem> {
        let (limit, tail) = (self.limit.get(), app.feed_tail);
        let read = app.db.read(move |rows| {
            match drivers::may_sync(rows, device_id, driver_id)? {
                true => Ok(sync::page(rows, driver_id, after, limit, tail)?),
                false => Err(super::revoked()), // since it was let in
            }
        });
        Ok(read.await?)
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::BeyondCounting => {
                Self::field(kit::INVALID_BODY, "intents", error.to_string())
            }
            forked @ UploadError::Forked { .. } => {
                Self::new(codes::INCARNATION_FORKED, forked.to_string())
            }
            UploadError::OutOfOrder => Self::field(kit::INVALID_BODY, "intents", error.to_string()),
            UploadError::Revoked => super::revoked(),
            UploadError::Database(error) => error.into(),
        }
    }
}

//! `/sync`: intents up, verdicts back, a feed of deliveries down. The token alone says which driver's they are.

use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::sync::{FeedPage, MAX_INTENTS, Upload, Verdicts};
use event_schema::{DeviceId, DriverId};
use serde::Deserialize;

use service_kit::{Json, Limit, Problem, Query, Stopping, codes as kit, max_connections};
use tokio::time::Instant;
use utoipa::IntoParams;

use super::App;
use crate::access::Caller;
use crate::events::now_ms;
use crate::problems;
use crate::store::drivers;
use crate::sync::{self, FeedToken};

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedQuery {
    /// The `next` of the page before; without it a snapshot begins.
    after: Option<String>,
    /// The number of items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
    /// How long to wait for news if there is none, in milliseconds; more than 8000 counts as 8000.
    #[serde(default)]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 4294967295u64, default = 0)]
    wait_ms: u32,
}

/// Shorter than the time limit of a request.
const MAX_WAIT: Duration = Duration::from_secs(8);
/// Changes that are committed within this time are sent together.
const GATHER: Duration = Duration::from_millis(50);
/// Devices that may wait for news at the same time: half of all connections.
pub(super) fn max_waiting() -> usize {
    max_connections() / 2
}

/// Send intents
///
/// Each intent gets a verdict, in the same order. All are written in one transaction, each in its own savepoint: a refused
/// one does not affect the others. Refusals about orders that are not and never were the driver's have a budget: 500 in 24
/// hours for a device, 1,000 for its driver. Beyond it the verdict is `retry_later` with the code `budget_spent`, and nothing
/// is written. Of refusals about one order, 20 of `pick_up` and `deliver` and 20 of all other kinds are kept per device; further
/// ones are `rejected` with the code `too_many_refusals`.
#[utoipa::path(
    post, path = "/sync/intents", tag = "devices", security(("device" = [])), request_body = Upload,
    responses((status = 200, description = "The verdicts", body = Verdicts)),
    extensions(("x-problems" = json!([problems::INCARNATION_FORKED.name(), problems::REVOKED.name(), kit::NOT_READY.name()])))
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
    // Held until the write is done, even if the client disconnects: it must not get ahead of the queue.
    let turn = app.turns.wait(driver_id).await;
    let write = app.db.write(move |tx| {
        let _until_done = turn;
        sync::receive(tx, device_id, driver_id, upload, now_ms(tx))
    });
    Ok(Json(write.await?))
}

/// Read the feed of deliveries
///
/// The pages up to one that is `complete` are a checkpoint: apply them together or not at all.
#[utoipa::path(
    get, path = "/sync/feed", tag = "devices", security(("device" = [])), params(FeedQuery),
    responses((status = 200, description = "A page of the feed", body = FeedPage)),
    extensions(("x-problems" = json!([problems::REVOKED.name(), kit::NOT_READY.name()])))
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
    let after = query.token(driver_id)?;
    // Without a permit the device gets its answer at once and asks again: waiting must not take up every connection.
    let permit = app.waiting.clone().try_acquire_owned(); // held until the answer
    let wait = match permit.is_ok() {
        true => Duration::from_millis(query.wait_ms.into()).min(MAX_WAIT),
        false => Duration::ZERO,
    };
    let deadline = Instant::now() + wait;
    loop {
        let page = query
            .page(&app, device_id, driver_id, after.clone())
            .await?;
        let news = stop.run_until_cancelled(waits_past(&app, page.at, deadline));
        if has_news(&page) || news.await != Some(true) {
            return Ok(Json(page));
        }
    }
}

fn has_news(page: &FeedPage) -> bool {
    page.snapshot || !page.complete || !page.items.is_empty() || !page.judged.is_empty()
}

/// Until something was committed that may concern this driver. Most commits concern others, so several of them are gathered.
/// False: the time is over.
async fn waits_past(app: &App, seq: u64, deadline: Instant) -> bool {
    let mut outbox = app.db.outbox();
    let reached = tokio::time::timeout_at(deadline, outbox.reaches(seq + 1)).await;
    if reached == Ok(true) {
        tokio::time::sleep_until(deadline.min(Instant::now() + GATHER)).await;
    }
    reached == Ok(true)
}

impl FeedQuery {
    fn token(&self, driver_id: DriverId) -> Result<Option<FeedToken>, Problem> {
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
                "this position is in another driver's feed; begin without `after`",
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
        let (limit, tail, now_ms) = (self.limit.get(), app.feed_tail, app.now_ms());
        let read = app.db.read(move |rows| {
            match drivers::may_sync(rows, device_id, driver_id)? {
                true => Ok(sync::page(rows, driver_id, after, limit, tail, now_ms)?),
                false => Err(problems::revoked()), // after it was authenticated
            }
        });
        Ok(read.await?)
    }
}

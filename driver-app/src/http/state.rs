//! `/api/state`: everything that the page shows, in one reply.

use std::collections::HashMap;
use std::time::Duration;

use axum::extract::State;
use event_schema::IntentId;
use event_schema::sync::Delivery;
use relay::Stop;
use serde::{Deserialize, Serialize};
use service_kit::{Json, Problem, Query, Stopping};
use utoipa::{IntoParams, ToSchema};

use super::App;
use crate::device::{Device, View};
use crate::domain::{self, LocalIntent, State as Stored, Verdict};
use crate::status::Contact;
use crate::store::device::{Driver, Enrolment, Fork};

/// A request waits for news this long, at most: less than a request may take.
pub const MAX_WAIT: Duration = Duration::from_secs(8);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// The `revision` of the last reply: wait for another one.
    #[param(value_type = Option<u64>, format = "uint64")]
    after: Option<u64>,
    /// How long to wait, in milliseconds; more than 8000 counts as 8000.
    #[serde(default)]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 4294967295u64, default = 0)]
    wait_ms: u32,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Everything {
    revision: u64,
    driver: Option<Driver>,
    sync: SyncView,
    deliveries: Vec<DeliveryView>,
    conflicts: Vec<ConflictView>,
    refused: Vec<RefusedView>,
}

#[derive(Serialize, ToSchema)]
struct SyncView {
    online: bool,
    last_contact_ms: Option<i64>,
    oldest_unsent_ms: Option<i64>,
    pending: usize,
    others_unsent: usize,
    in_flight: usize,
    conflicts: usize,
    refused: usize,
    waiting_because: Option<String>,
    as_of: Option<u64>,
    now_ms: i64,
    clock_off_by_ms: Option<i64>,
    #[schema(value_type = String)]
    enrolment: Enrolment,
    /// The office has ended the enrolment: only a new code helps. Otherwise the device keeps asking by itself.
    revoked: bool,
    forked: Option<Fork>,
}

#[derive(Serialize, ToSchema)]
struct DeliveryView {
    #[serde(flatten)]
    delivery: Delivery,
    pending: Vec<PendingView>,
    can: &'static [&'static str],
}

#[derive(Serialize, ToSchema)]
struct PendingView {
    intent_id: IntentId,
    kind: String,
    device_time_ms: i64,
    state: &'static str,
}

#[derive(Serialize, ToSchema)]
struct ConflictView {
    #[serde(flatten)]
    intent: IntentView,
    current: Option<Delivery>,
    decision: Option<String>,
    deciding: bool,
}

#[derive(Serialize, ToSchema)]
struct RefusedView {
    #[serde(flatten)]
    intent: IntentView,
    gave_up: bool,
}

/// What an intent was to do, and why it was not done.
#[derive(Serialize, ToSchema)]
struct IntentView {
    intent_id: IntentId,
    order_id: String,
    kind: String,
    note: Option<String>,
    problem: Option<String>,
    device_time_ms: i64,
    code: Option<String>,
    detail: Option<String>,
}

/// Everything that the page shows
#[utoipa::path(
    get, path = "/api/state", tag = "device",
    params(Since),
    responses((status = 200, description = "The current state", body = Everything))
)]
pub(super) async fn read(
    State(app): State<App>,
    Stopping(stop): Stopping,
    Query(Since { after, wait_ms }): Query<Since>,
) -> Result<Json<Everything>, Problem> {
    if let Some(after) = after {
        let wait = Duration::from_millis(wait_ms.into()).min(MAX_WAIT);
        news(&app.device, after, wait, &stop).await;
    }
    // Before the read: a change in between is news for the next request.
    let revision = *app.device.status().revision().borrow();
    let view = app.device.view().await?;
    Ok(Json(everything(&app.device, revision, view)))
}

/// Waits until something has changed, the time is over, or the program stops.
async fn news(device: &Device, after: u64, wait: Duration, stop: &Stop) {
    let mut revision = device.status().revision();
    let changed = revision.wait_for(|revision| *revision != after);
    tokio::select! {
        _ = changed => {}
        () = tokio::time::sleep(wait) => {}
        () = stop.cancelled() => {}
    }
}

fn everything(device: &Device, revision: u64, view: View) -> Everything {
    let lanes = lanes(&view.intents);
    let deliveries = view.deliveries.iter().map(|delivery| {
        let lane = lanes.get(delivery.order_id.to_string().as_str());
        delivery_view(delivery, lane.map_or(&[], Vec::as_slice))
    });
    let refused = view.intents.iter().filter(|intent| intent.is_refused());
    let refused = refused.map(|intent| RefusedView {
        intent: intent.into(),
        gave_up: intent.state == Stored::GaveUp,
    });
    let (conflicts, refused): (Vec<_>, Vec<_>) = (conflicts(&view.intents), refused.collect());
    Everything {
        revision,
        sync: SyncView {
            conflicts: conflicts.len(),
            refused: refused.len(),
            ..sync(device, &view, blocked(&lanes))
        },
        deliveries: deliveries.collect(),
        driver: view.identity.driver,
        conflicts,
        refused,
    }
}

fn sync(device: &Device, view: &View, blocked: usize) -> SyncView {
    let (contact, identity) = (device.status().contact(), &view.identity);
    let queued = || view.intents.iter().filter(|intent| intent.is_unanswered());
    SyncView {
        online: contact.online(),
        last_contact_ms: contact.last_contact_ms,
        oldest_unsent_ms: queued().map(|intent| intent.device_time_ms).min(),
        pending: queued().count(),
        others_unsent: view.others_unsent,
        in_flight: queued()
            .filter(|intent| intent.state == Stored::Sent)
            .count(),
        conflicts: 0,
        refused: 0,
        waiting_because: waits_because(view, &contact, blocked),
        as_of: identity.feed_at,
        now_ms: device.now_ms(),
        clock_off_by_ms: contact.clock_off_by_ms,
        enrolment: identity.enrolment,
        revoked: identity.enrolment == Enrolment::Revoked,
        forked: identity.fork.clone(),
    }
}

/// In words for the driver: why the device sends nothing, and what waits for a person.
fn waits_because(view: &View, contact: &Contact, blocked: usize) -> Option<String> {
    let no_contact = match view.identity.enrolment {
        Enrolment::None => Some("This device is not enrolled yet. Ask the office for a code."),
        Enrolment::NotAccepted => Some(
            "orders-service does not accept this device at the moment. What you do is kept, and the device keeps asking by itself. If this lasts, ask the office for a new code.",
        ),
        Enrolment::Revoked => Some(
            "This device or its driver was revoked. What you do is kept. Ask the office for a new code.",
        ),
        Enrolment::Valid => contact.waits_because(),
    };
    let reasons = [
        no_contact.map(str::to_owned),
        counted(
            blocked,
            ["is blocked", "are blocked"],
            "by one that failed. Retry it or discard it.",
        ),
        counted(
            view.others_unsent,
            ["of another driver waits", "of another driver wait"],
            "on this device until they enrol here again.",
        ),
    ];
    let reasons = reasons.into_iter().flatten();
    let sentence = |reason: String| format!("{}.", reason.trim_end_matches('.'));
    let sentences: Vec<String> = reasons.map(sentence).collect();
    (!sentences.is_empty()).then(|| sentences.join(" "))
}

fn counted(actions: usize, [one, many]: [&str; 2], rest: &str) -> Option<String> {
    match actions {
        0 => None,
        1 => Some(format!("1 action {one} {rest}")),
        _ => Some(format!("{actions} actions {many} {rest}")),
    }
}

/// The intents that the driver sees on top of each delivery, in order.
fn lanes(intents: &[LocalIntent]) -> HashMap<&str, Vec<&LocalIntent>> {
    let mut lanes: HashMap<&str, Vec<&LocalIntent>> = HashMap::new();
    for intent in intents.iter().filter(|intent| intent.is_pending()) {
        lanes.entry(&intent.order_id).or_default().push(intent);
    }
    lanes
}

/// How many wait behind a failed intent.
fn blocked(lanes: &HashMap<&str, Vec<&LocalIntent>>) -> usize {
    let blocked = lanes.values().filter(|lane| has_failed(lane)).flatten();
    blocked.filter(|intent| intent.is_unanswered()).count()
}

fn has_failed(lane: &[&LocalIntent]) -> bool {
    lane.iter().any(|intent| intent.state == Stored::GaveUp)
}

fn delivery_view(delivery: &Delivery, lane: &[&LocalIntent]) -> DeliveryView {
    let seen = domain::overlay(delivery, lane.iter().copied());
    DeliveryView {
        can: domain::can(&seen),
        delivery: seen,
        pending: pending_views(lane),
    }
}

/// An intent that the owner postponed makes those behind it in its lane wait, too. A failed one blocks its whole lane.
fn pending_views(lane: &[&LocalIntent]) -> Vec<PendingView> {
    let blocked = has_failed(lane);
    let mut held = false;
    let view = |intent: &&LocalIntent| {
        held |= intent.state == Stored::Unsent && intent.tries > 0;
        PendingView {
            intent_id: intent.intent_id,
            kind: intent.kind.as_str().to_owned(),
            device_time_ms: intent.device_time_ms,
            state: match intent.state {
                Stored::Answered => "confirmed",
                _ if blocked => "stopped",
                Stored::Sent => "in_flight",
                _ if held => "waiting",
                _ => "unsent",
            },
        }
    };
    lane.iter().map(view).collect()
}

fn conflicts(intents: &[LocalIntent]) -> Vec<ConflictView> {
    let is_conflict = |intent: &&LocalIntent| intent.verdict == Some(Verdict::Conflict);
    let is_deciding = |about| {
        let mut undecided = intents.iter().filter(|intent| intent.is_undecided());
        undecided.any(|intent| intent.about == Some(about))
    };
    let conflicts = intents
        .iter()
        .filter(is_conflict)
        .map(|intent| ConflictView {
            intent: intent.into(),
            current: intent.current.clone(),
            decision: intent.decision.clone(),
            deciding: is_deciding(intent.intent_id),
        });
    conflicts.collect()
}

impl From<&LocalIntent> for IntentView {
    fn from(intent: &LocalIntent) -> Self {
        Self {
            intent_id: intent.intent_id,
            order_id: intent.order_id.clone(),
            kind: intent.kind.as_str().to_owned(),
            note: domain::note_of(&intent.arguments),
            problem: intent.arguments["problem"].as_str().map(str::to_owned),
            device_time_ms: intent.device_time_ms,
            code: intent.code.clone(),
            detail: intent.detail.clone(),
        }
    }
}

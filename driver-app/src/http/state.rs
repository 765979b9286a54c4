//! `/api/state`: everything the page shows, at once.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::sync::Delivery;
use event_schema::{DriverId, IntentId};
use relay::Stop;
use serde::{Deserialize, Serialize};
use service_kit::{Json, Problem, Query, Stopping};
use utoipa::{IntoParams, ToSchema};

use super::App;
use crate::device::{Device, View};
use crate::domain::{self, Pending};
use crate::store::device::{Driver, Enrolment, Fork, Identity};
use crate::store::intents::{Final, Shown, State as Sent};
use crate::sync::status::Contact;

/// A question waits for news this long, at most: less than a request may take.
pub const MAX_WAIT: Duration = Duration::from_secs(8);

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Since {
    /// The `revision` that is known already: the answer waits for another one.
    #[param(value_type = Option<u64>, format = "uint64")]
    after: Option<u64>,
    /// For how long, in milliseconds; more than 8000 counts as 8000.
    #[serde(default)]
    #[param(value_type = Option<u64>, minimum = 0, maximum = 4294967295u64, default = 0)]
    wait_ms: u32,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Everything {
    revision: u64,
    driver: Option<DriverView>,
    sync: SyncView,
    deliveries: Vec<DeliveryView>,
    conflicts: Vec<ConflictView>,
    refused: Vec<RefusedView>,
}

#[derive(Serialize, ToSchema)]
struct DriverView {
    driver_id: DriverId,
    name: String,
}

#[derive(Serialize, ToSchema)]
struct SyncView {
    online: bool,
    last_contact_ms: Option<i64>,
    oldest_unsent_ms: Option<i64>,
    pending: usize,
    others_unsent: u64,
    in_flight: usize,
    conflicts: usize,
    refused: usize,
    waiting_because: Option<String>,
    as_of: Option<u64>,
    now_ms: i64,
    clock_off_by_ms: Option<i64>,
    enrolment: &'static str,
    /// The office has ended the enrolment: only a new code helps. Without this the device keeps asking by itself.
    revoked: bool,
    forked: Option<ForkView>,
}

/// The device's data was found to be a copy, and goes on as its own.
#[derive(Serialize, ToSchema)]
struct ForkView {
    times: u64,
    reason: String,
    at_ms: i64,
}

#[derive(Serialize, ToSchema)]
struct DeliveryView {
    #[serde(flatten)]
    delivery: DeliveryBody,
    pending: Vec<PendingView>,
    can: &'static [&'static str],
}

/// A delivery with all its fields, whether there is something in them or not.
#[derive(Serialize, ToSchema)]
struct DeliveryBody {
    order_id: String,
    status: String,
    version: u64,
    customer: Option<String>,
    amount_minor: i64,
    currency: String,
    note: Option<String>,
    cancel_reason: Option<String>,
    problems: u32,
    created_at_ms: i64,
    changed_at_ms: i64,
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
    current: Option<DeliveryBody>,
    decision: Option<String>,
    deciding: bool,
}

#[derive(Serialize, ToSchema)]
struct RefusedView {
    #[serde(flatten)]
    intent: IntentView,
    gave_up: bool,
}

/// What an intent wanted, and why that is not so.
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

/// Everything the page shows
#[utoipa::path(
    get, path = "/api/state", tag = "device",
    params(Since),
    responses((status = 200, description = "As it is now", body = Everything))
)]
pub(super) async fn read(
    State(app): State<App>,
    Stopping(stop): Stopping,
    Query(Since { after, wait_ms }): Query<Since>,
) -> Result<impl IntoResponse, Problem> {
    if let Some(after) = after {
        let wait = Duration::from_millis(wait_ms.into()).min(MAX_WAIT);
        news(&app.device, after, wait, &stop).await;
    }
    // Before the look: what changes meanwhile is news for the next question.
    let revision = *app.device.status().revision().borrow();
    let view = app.device.view().await?;
    Ok(Json(everything(&app.device, revision, view)))
}

/// Until something has changed, the time is over, or the program stops.
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
    let View {
        identity,
        deliveries,
        intents,
        others_unsent,
    } = view;
    let conflicts: Vec<_> = conflicts(&intents).collect();
    let refused: Vec<_> = intents
        .iter()
        .filter(|shown| is_refused(shown))
        .map(RefusedView::of)
        .collect();
    let lanes = by_lane(&intents);
    let mut sync = sync(device, &identity, &intents, others_unsent);
    (sync.conflicts, sync.refused) = (conflicts.len(), refused.len());
    Everything {
        revision,
        driver: identity.driver.map(DriverView::of),
        sync,
        deliveries: deliveries
            .iter()
            .map(|told| delivery(told, &lanes))
            .collect(),
        conflicts,
        refused,
    }
}

fn sync(device: &Device, identity: &Identity, intents: &[Shown], others_unsent: u64) -> SyncView {
    let contact = device.status().contact();
    let waiting = || intents.iter().filter(|shown| shown.is_unanswered());
    SyncView {
        online: contact.online(),
        last_contact_ms: contact.last_contact_ms,
        oldest_unsent_ms: waiting().map(|shown| shown.device_time_ms).min(),
        pending: waiting().count(),
        others_unsent,
        in_flight: waiting().filter(|shown| shown.state == Sent::Sent).count(),
        conflicts: 0,
        refused: 0,
        waiting_because: waits_because(
            identity.enrolment,
            &contact,
            stopped(intents),
            others_unsent,
        ),
        as_of: identity.feed_at,
        now_ms: device.now_ms(),
        clock_off_by_ms: contact.clock_off_by_ms,
        enrolment: identity.enrolment.as_str(),
        revoked: identity.enrolment == Enrolment::Revoked,
        forked: identity.fork.clone().map(ForkView::of),
    }
}

/// In words for the driver: the one reason why nothing is sent, and what waits for a person.
fn waits_because(
    enrolment: Enrolment,
    contact: &Contact,
    stopped: usize,
    others: u64,
) -> Option<String> {
    let stopped = (stopped > 0).then(|| {
        format!(
            "{} behind one that could not be sent: send that one again, or drop it",
            actions_wait(stopped as u64, "")
        )
    });
    let others = (others > 0).then(|| {
        format!(
            "{} on this device until they enrol here again",
            actions_wait(others, " of another driver")
        )
    });
    let reasons = [no_contact(enrolment, contact), stopped, others];
    let told: Vec<String> = reasons.into_iter().flatten().collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn actions_wait(count: u64, whose: &str) -> String {
    match count {
        1 => format!("1 action{whose} waits"),
        _ => format!("{count} actions{whose} wait"),
    }
}

fn no_contact(enrolment: Enrolment, contact: &Contact) -> Option<String> {
    match enrolment {
        Enrolment::None => Some("nobody has enrolled this device yet: ask the office for a code".to_owned()),
        Enrolment::NotAccepted => Some(
            "orders-service does not accept this device's enrolment: the device keeps asking by itself; if this lasts, ask the office for a new code; what you do is kept".to_owned(),
        ),
        Enrolment::Revoked => Some(
            "this device or its driver was revoked: ask the office for a new code; what you do is kept until then".to_owned(),
        ),
        Enrolment::Valid => contact.waits_because().map(str::to_owned),
    }
}

/// How many wait behind one that was given up.
fn stopped(intents: &[Shown]) -> usize {
    let gave_up = intents.iter().filter(|shown| shown.state == Sent::GaveUp);
    let lanes: HashSet<&str> = gave_up.map(|shown| shown.lane.as_str()).collect();
    let behind = |shown: &&Shown| shown.is_unanswered() && lanes.contains(shown.lane.as_str());
    intents.iter().filter(behind).count()
}

/// What lies on top of each delivery, in order.
fn by_lane(intents: &[Shown]) -> HashMap<&str, Vec<&Shown>> {
    let mut lanes: HashMap<&str, Vec<&Shown>> = HashMap::new();
    for shown in intents.iter().filter(|shown| shown.is_pending()) {
        lanes.entry(&shown.lane).or_default().push(shown);
    }
    lanes
}

fn delivery(told: &Delivery, lanes: &HashMap<&str, Vec<&Shown>>) -> DeliveryView {
    let lane = told.order_id.to_string();
    let pending = lanes.get(lane.as_str()).map_or(&[][..], Vec::as_slice);
    let on_top: Vec<Pending> = pending.iter().map(|shown| shown.pending()).collect();
    let delivery = domain::overlay(told, &on_top);
    DeliveryView {
        can: domain::can(&delivery),
        delivery: DeliveryBody::of(&delivery),
        pending: pending_views(pending),
    }
}

/// Behind an intent that was asked to come later, the others of its lane wait, too; and behind one that was given up
/// they are stopped.
fn pending_views(pending: &[&Shown]) -> Vec<PendingView> {
    let stopped = pending.iter().any(|shown| shown.state == Sent::GaveUp);
    let mut held = false;
    let view = |shown: &&Shown| {
        held |= shown.state == Sent::Unsent && shown.tries > 0;
        PendingView {
            intent_id: shown.intent_id,
            kind: shown.kind.clone(),
            device_time_ms: shown.device_time_ms,
            state: match shown.state {
                Sent::Answered => "confirmed",
                _ if stopped => "stopped",
                Sent::Sent => "in_flight",
                Sent::Unsent | Sent::GaveUp if held => "waiting",
                Sent::Unsent | Sent::GaveUp => "unsent",
            },
        }
    };
    pending.iter().map(view).collect()
}

fn conflicts(intents: &[Shown]) -> impl Iterator<Item = ConflictView> {
    let open = intents
        .iter()
        .filter(|shown| shown.verdict == Some(Final::Conflict));
    open.map(|shown| ConflictView {
        intent: IntentView::of(shown),
        current: shown.current.as_ref().map(DeliveryBody::of),
        decision: shown.decision.clone(),
        deciding: intents
            .iter()
            .any(|other| other.is_unsettled() && other.about == Some(shown.intent_id)),
    })
}

fn is_refused(shown: &Shown) -> bool {
    shown.verdict == Some(Final::Rejected) || shown.state == Sent::GaveUp
}

impl RefusedView {
    fn of(shown: &Shown) -> Self {
        Self {
            intent: IntentView::of(shown),
            gave_up: shown.state == Sent::GaveUp,
        }
    }
}

impl IntentView {
    fn of(shown: &Shown) -> Self {
        Self {
            intent_id: shown.intent_id,
            order_id: shown.lane.clone(),
            kind: shown.kind.clone(),
            note: domain::note_of(&shown.arguments),
            problem: shown.arguments["problem"].as_str().map(str::to_owned),
            device_time_ms: shown.device_time_ms,
            code: shown.code.clone(),
            detail: shown.detail.clone(),
        }
    }
}

impl DeliveryBody {
    fn of(delivery: &Delivery) -> Self {
        Self {
            order_id: delivery.order_id.to_string(),
            status: delivery.status.clone(),
            version: delivery.version.get(),
            customer: delivery.customer.clone(),
            amount_minor: delivery.amount_minor,
            currency: delivery.currency.clone(),
            note: delivery.note.clone(),
            cancel_reason: delivery.cancel_reason.clone(),
            problems: delivery.problems,
            created_at_ms: delivery.created_at_ms,
            changed_at_ms: delivery.changed_at_ms,
        }
    }
}

impl DriverView {
    fn of(driver: Driver) -> Self {
        Self {
            driver_id: driver.id,
            name: driver.name,
        }
    }
}

impl ForkView {
    fn of(
        Fork {
            times,
            reason,
            at_ms,
        }: Fork,
    ) -> Self {
        Self {
            times,
            reason,
            at_ms,
        }
    }
}

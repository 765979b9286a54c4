//! `/intents`: the intents of drivers with their outcomes, and the decision of a conflict.

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::{DecidedBy, Decision, DeviceId, DriverId, IntentId, OrderEvent, OrderId};
use jiff::Timestamp;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::codes::INVALID_QUERY;
use service_kit::{
    Cursor, ETag, IdempotencyKey, Idempotent, Json, Limit, MustMatch, Page, Path, Problem, Query,
    Reply,
};
use utoipa::{IntoParams, ToSchema};

use super::orders::{OrderView, known as known_order};
use super::{App, rfc3339};
use crate::domain::{Act, Conflict, Order, explain};
use crate::events::{make, now_ms};
use crate::problems;
use crate::store::intents::{self, Filter, IntentRow};
use crate::store::orders;

/// An intent of a driver, and its outcome.
#[derive(Serialize, ToSchema)]
#[schema(as = Intent)]
pub(super) struct IntentView {
    id: IntentId,
    /// The order's id, or the text that the device sent in its place.
    order_id: String,
    driver_id: DriverId,
    device_id: DeviceId,
    /// `pick_up`, `deliver`, `report_problem`, `decide_conflict`.
    kind: String,
    /// Of a refused one: as the device sent them.
    arguments: Option<Value>,
    /// Of a refused one: the order's version that the driver had seen.
    base_version: Option<u64>,
    /// `applied`, `superseded`, `rejected`, `conflict`.
    verdict: String,
    /// Why it was refused.
    code: Option<String>,
    detail: Option<&'static str>,
    /// The order's status when it was refused.
    status: Option<String>,
    /// When the driver did it, by the device's clock, which may be wrong.
    device_time: Option<String>,
    judged_at: String,
    /// Of a conflict: `accepted`, `insisted`, `upheld`, `dismissed`, or null before the first decision.
    decision: Option<String>,
    decided_by: Option<String>,
    decided_at: Option<String>,
    /// The order as it is now. Only where one intent is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    order: Option<OrderView>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Only these: `applied`, `superseded`, `rejected`, `conflict`.
    #[param(example = "rejected")]
    verdict: Option<String>,
    driver_id: Option<DriverId>,
    order_id: Option<OrderId>,
    /// Only conflicts that an operator still has to decide.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    open: bool,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<i64>>,
    /// The number of items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// The decision of a conflict.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDecision {
    /// `upheld`: the delivery counts. `dismissed`: the order stays as it is.
    decision: OperatorDecision,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OperatorDecision {
    Upheld,
    Dismissed,
}

/// List intents with their outcomes
#[utoipa::path(
    get, path = "/intents", tag = "intents", security(("operator" = [])), params(ListQuery),
    responses((status = 200, description = "A page of intents, in the order of their verdicts", body = Page<IntentView>))
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    let (after, limit) = (query.cursor.map_or(0, |Cursor(seq)| seq), query.limit);
    let filter = Filter {
        verdict: query.verdict.map(known_verdict).transpose()?,
        order_id: query.order_id,
        driver_id: query.driver_id,
        open: query.open,
    };
    let read = app
        .db
        .read(move |rows| intents::list(rows, filter, after, limit));
    let page = Page::new(read.await?, limit, |row| row.seq);
    Ok(Json(page.map(IntentView::from)))
}

/// Read an intent, with its order
#[utoipa::path(
    get, path = "/intents/{id}", tag = "intents", security(("operator" = [])),
    params(("id" = IntentId, Path, description = "The intent's id")),
    responses((
        status = 200, description = "The intent. Its tag changes with the order and with each decision, because an operator decides on both. It is not a version of the order", body = IntentView,
        headers(("ETag" = String, description = "The order's version and the number of decisions, in quotes: \"4.0\"")),
    )),
    extensions(("x-problems" = json!([problems::INTENT_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    State(app): State<App>,
    Path(id): Path<IntentId>,
) -> Result<impl IntoResponse, Problem> {
    let read = app.db.read(move |rows| shown(rows, id));
    let (tag, view) = read.await?;
    Ok((tag, Json(view)))
}

/// Decide a conflict
///
/// Both versions are kept. An upheld delivery changes the order, a dismissed one does not. A driver decides with an intent.
#[utoipa::path(
    post, path = "/intents/{id}/decision", tag = "intents", security(("operator" = [])), request_body = NewDecision,
    params(
        IdempotencyKey,
        ("id" = IntentId, Path, description = "The intent's id"),
        ("If-Match" = String, Header, description = "The tag of the intent as you have read it, or `*`", example = "\"4.0\""),
    ),
    responses((
        status = 200, description = "The intent as it is now", body = IntentView,
        headers(("ETag" = String, description = "Its tag now, in quotes")),
    )),
    extensions(("x-problems" = json!([
        problems::INTENT_NOT_FOUND.name(), problems::NO_CONFLICT.name(), problems::ALREADY_DECIDED.name(),
        problems::CANNOT_UPHOLD.name(), problems::ORDER_DELIVERED.name(),
    ])))
)]
pub(super) async fn decide(
    Path(id): Path<IntentId>,
    must_match: MustMatch,
    Idempotent(NewDecision { decision }, once): Idempotent<NewDecision>,
) -> Result<Reply, Problem> {
    let write = once.write(move |tx| {
        let row = known(tx, id)?;
        let conflict = open_conflict(tx, id)?;
        let order = known_order(tx, conflict.order_id)?;
        let ETag(current) = tag(Some(&order), &row);
        must_match.check(current)?;
        let (by, now_ms) = (DecidedBy::Operator, now_ms(tx));
        let decision = match decision {
            OperatorDecision::Upheld => {
                make(tx, uphold(&order, row, now_ms)?)?;
                Decision::Upheld
            }
            OperatorDecision::Dismissed => Decision::Dismissed,
        };
        make(tx, conflict.decide(decision, by, None, now_ms))?;
        let (tag, view) = shown(tx, id)?;
        Ok(Reply::ok(tag, &view))
    });
    write.await
}

/// An unknown verdict would look like an empty list.
fn known_verdict(text: String) -> Result<String, Problem> {
    match text.as_str() {
        "applied" | "superseded" | "rejected" | "conflict" => Ok(text),
        _ => {
            let detail = "a verdict is `applied`, `superseded`, `rejected` or `conflict`";
            Err(Problem::field(INVALID_QUERY, "verdict", detail))
        }
    }
}

fn uphold(order: &Order, row: IntentRow, now_ms: i64) -> Result<OrderEvent, Problem> {
    if row.kind != "deliver" {
        let detail = "only a delivery can be upheld; dismiss this conflict, and change the order yourself if necessary";
        return Err(Problem::new(problems::CANNOT_UPHOLD, detail));
    }
    let note = row.note();
    let act = Act {
        driver_id: row.driver_id,
        intent: row.stamp,
        at_ms: now_ms,
    };
    Ok(order.uphold(act, note)?)
}

fn open_conflict(rows: &Connection, id: IntentId) -> Result<Conflict, Problem> {
    let conflict = intents::conflict(rows, id)?.ok_or_else(|| {
        let detail = "this intent is not in conflict: there is nothing to decide";
        Problem::new(problems::NO_CONFLICT, detail)
    })?;
    match conflict.is_open() {
        true => Ok(conflict),
        false => {
            let detail = "another operator or the driver has decided already; read it again";
            Err(Problem::new(problems::ALREADY_DECIDED, detail))
        }
    }
}

fn shown(rows: &Connection, id: IntentId) -> Result<(ETag<String>, IntentView), Problem> {
    let row = known(rows, id)?;
    let order = orders::find(rows, &row.lane)?;
    let tag = tag(order.as_ref(), &row);
    let view = IntentView {
        order: order.map(OrderView::from),
        ..IntentView::from(row)
    };
    Ok((tag, view))
}

/// A decision is based on the order and on earlier decisions.
fn tag(order: Option<&Order>, row: &IntentRow) -> ETag<String> {
    let version = order.map_or(0, |order| order.version.get());
    ETag(format!("{version}.{}", row.decisions()))
}

fn known(rows: &Connection, id: IntentId) -> Result<IntentRow, Problem> {
    let found = intents::find(rows, id)?;
    problems::found(found, problems::INTENT_NOT_FOUND, "intent", id)
}

impl From<IntentRow> for IntentView {
    fn from(row: IntentRow) -> Self {
        let device_time = Timestamp::from_millisecond(row.stamp.device_time_ms);
        let decided = row.decided.as_ref();
        Self {
            id: row.stamp.intent_id,
            order_id: row.lane,
            driver_id: row.driver_id,
            device_id: row.stamp.device_id,
            kind: row.kind,
            base_version: row.wanted.as_ref().map(|wanted| wanted.base_version.get()),
            arguments: row.wanted.map(|wanted| wanted.arguments),
            verdict: row.verdict,
            detail: row.code.as_deref().map(explain),
            code: row.code,
            status: row.status,
            device_time: device_time.ok().map(|time| time.to_string()),
            judged_at: rfc3339(row.judged_at_ms),
            decision: decided.map(|decided| decided.decision.clone()),
            decided_by: decided.map(|decided| decided.by.clone()),
            decided_at: decided.map(|decided| rfc3339(decided.at_ms)),
            order: None,
        }
    }
}

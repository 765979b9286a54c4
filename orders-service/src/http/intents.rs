//! `/intents`: what drivers wanted and what became of it; and the decision where that is in conflict.

use axum::extract::State;
use axum::response::IntoResponse;
use event_schema::{DecidedBy, Decision, DeviceId, DriverId, IntentId, OrderId};
use jiff::Timestamp;
use relay::Tx;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::{
    Cursor, ETag, IdempotencyKey, Idempotent, Json, Limit, MustMatch, Page, Path, Problem, Query,
    Reply,
};
use utoipa::{IntoParams, ToSchema};

use super::orders::{OrderView, known as known_order};
use super::{App, Place, codes, rfc3339};
use crate::domain::{Conflict, Order, explain};
use crate::events::make;
use crate::store::intents::{self, Filter, Judged};

/// An intent of a driver, and what became of it.
#[derive(Serialize, ToSchema)]
#[schema(as = Intent)]
pub(super) struct IntentView {
    id: IntentId,
    /// The order, or what the device took for one.
    order_id: String,
    driver_id: DriverId,
    device_id: DeviceId,
    /// `pick_up`, `deliver`, `report_problem`, `decide_conflict`.
    kind: String,
    /// Of a refused one: what the device wanted, in its own words.
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
    /// When the driver wanted it, by the device's clock, which may be wrong.
    device_time: Option<String>,
    judged_at: String,
    /// Of a conflict: `accepted`, `insisted`, `upheld`, `dismissed`, or null while nobody has said anything.
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
    /// Only conflicts that still wait for a decision.
    #[serde(default)]
    #[param(value_type = Option<bool>)]
    open: bool,
    /// Where the page begins: the `next_cursor` of the one before.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<Place>>,
    /// How many items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// What becomes of an intent in conflict.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDecision {
    /// `upheld`: the delivery counts after all. `dismissed`: the order stays as it is.
    decision: OperatorsDecision,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum OperatorsDecision {
    Upheld,
    Dismissed,
}

/// List intents: what drivers wanted, and what became of it
#[utoipa::path(
    get, path = "/intents", tag = "intents", security(("operator" = [])), params(ListQuery),
    responses((status = 200, description = "A page of intents, in the order they were judged in", body = Page<IntentView>))
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(query): Query<ListQuery>,
) -> Result<impl IntoResponse, Problem> {
    let (after, limit) = (
        query.cursor.map_or(0, |Cursor(Place(seq))| seq),
        query.limit,
    );
    let filter = Filter {
        verdict: query.verdict.map(known_verdict).transpose()?,
        order_id: query.order_id,
        driver_id: query.driver_id,
        open: query.open,
    };
    let read = app
        .db
        .read(move |rows| intents::list(rows, &filter, after, limit));
    let page = Page::new(read.await?, limit, |judged| Place(judged.seq));
    Ok(Json(page.map(IntentView::from)))
}

/// Read an intent, beside its order as it is now
#[utoipa::path(
    get, path = "/intents/{id}", tag = "intents", security(("operator" = [])),
    params(("id" = IntentId, Path, description = "The intent's id")),
    responses((
        status = 200, description = "The intent. Its tag moves with the order and with each word about the intent: both are what an operator decides on. It is no version of the order", body = IntentView,
        headers(("ETag" = String, description = "The order's version and how many words were said about the intent, in quotes: \"4.0\"")),
    )),
    extensions(("x-problems" = json!([codes::INTENT_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    State(app): State<App>,
    Path(id): Path<IntentId>,
) -> Result<impl IntoResponse, Problem> {
    let read = app.db.read(move |rows| shown(rows, id));
    let (tag, view) = read.await?;
    Ok((tag, Json(view)))
}

/// Decide what becomes of an intent in conflict
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
        codes::INTENT_NOT_FOUND.name(), codes::NO_CONFLICT.name(), codes::ALREADY_DECIDED.name(),
        codes::CANNOT_UPHOLD.name(), codes::ORDER_DELIVERED.name(),
    ])))
)]
pub(super) async fn decide(
    Path(id): Path<IntentId>,
    must_match: MustMatch,
    Idempotent(NewDecision { decision }, once): Idempotent<NewDecision>,
) -> Result<Reply, Problem> {
    let now_ms = Timestamp::now().as_millisecond();
    let write = once.write(move |tx| {
        let judged = known(tx, id)?;
        let conflict = open_conflict(tx, id)?;
        let order = known_order(tx, conflict.order_id)?;
        let ETag(current) = tag(Some(&order), &judged);
        must_match.check(current)?;
        let decision = match decision {
            OperatorsDecision::Upheld => {
                uphold(tx, &order, &conflict, &judged, now_ms)?;
                Decision::Upheld
            }
            OperatorsDecision::Dismissed => Decision::Dismissed,
        };
        let by = DecidedBy::Operator;
        make(tx, conflict.decide(decision, by, None, now_ms))?;
        let (tag, view) = shown(tx, id)?;
        Ok(Reply::ok(tag, &view))
    });
    write.await
}

/// A word that leads nowhere would look like an empty list.
fn known_verdict(text: String) -> Result<String, Problem> {
    match text.as_str() {
        "applied" | "superseded" | "rejected" | "conflict" => Ok(text),
        _ => {
            let detail = "a verdict is `applied`, `superseded`, `rejected` or `conflict`";
            Err(Problem::field(
                service_kit::codes::INVALID_QUERY,
                "verdict",
                detail,
            ))
        }
    }
}

fn uphold(
    tx: &Tx<'_>,
    order: &Order,
    conflict: &Conflict,
    judged: &Judged,
    now_ms: i64,
) -> Result<(), Problem> {
    if judged.kind != "deliver" {
        let detail = "only a delivery can be upheld; dismiss this one, and change the order by itself if it should be otherwise";
        return Err(Problem::new(codes::CANNOT_UPHOLD, detail));
    }
    let note = judged.note();
    make(
        tx,
        order.uphold(conflict.driver_id, note, judged.stamp(), now_ms)?,
    )?;
    Ok(())
}

fn open_conflict(rows: &Connection, id: IntentId) -> Result<Conflict, Problem> {
    let conflict = intents::conflict(rows, id)?.ok_or_else(|| {
        let detail = "this intent is in no conflict: there is nothing to decide";
        Problem::new(codes::NO_CONFLICT, detail)
    })?;
    match conflict.is_open() {
        true => Ok(conflict),
        false => {
            let detail = "somebody has decided already; read it again";
            Err(Problem::new(codes::ALREADY_DECIDED, detail))
        }
    }
}

fn shown(rows: &Connection, id: IntentId) -> Result<(ETag<String>, IntentView), Problem> {
    let judged = known(rows, id)?;
    let order_id: Option<OrderId> = judged.lane.parse().ok();
    let order = match order_id {
        Some(order_id) => crate::store::orders::find(rows, order_id)?,
        None => None,
    };
    let tag = tag(order.as_ref(), &judged);
    let view = IntentView {
        order: order.map(OrderView::from),
        ..IntentView::from(judged)
    };
    Ok((tag, view))
}

/// What a decision is made on, the order and what was said about the intent.
fn tag(order: Option<&Order>, judged: &Judged) -> ETag<String> {
    let version = order.map_or(0, |order| order.version.get());
    ETag(format!("{version}.{}", judged.words()))
}

fn known(rows: &Connection, id: IntentId) -> Result<Judged, Problem> {
    intents::find(rows, id)?.ok_or_else(|| {
        let detail = format!("there is no intent {id}");
        Problem::new(codes::INTENT_NOT_FOUND, detail)
    })
}

impl From<Judged> for IntentView {
    fn from(judged: Judged) -> Self {
        let detail = judged.code.as_deref().map(explain);
        let wanted = judged.wanted;
        Self {
            id: judged.id,
            order_id: judged.lane,
            driver_id: judged.driver_id,
            device_id: judged.device_id,
            kind: judged.kind,
            base_version: wanted.as_ref().map(|wanted| wanted.base_version.get()),
            arguments: wanted.map(|wanted| wanted.arguments),
            verdict: judged.verdict,
            code: judged.code,
            detail,
            status: judged.status,
            device_time: Timestamp::from_millisecond(judged.device_time_ms)
                .ok()
                .map(|time| time.to_string()),
            judged_at: rfc3339(judged.judged_at_ms),
            decision: judged.decision,
            decided_by: judged.decided_by,
            decided_at: judged.decided_at_ms.map(rfc3339),
            order: None,
        }
    }
}

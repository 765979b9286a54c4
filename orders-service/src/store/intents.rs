//! Intents: each is judged once. Its row keeps the outcome, and the last decision if it is in conflict.

use event_schema::sync::{Judged, Kind};
use event_schema::{
    ConflictDecided, Decision, DeviceId, DriverId, IncarnationId, IntentId, IntentMisdirected,
    IntentRefused, IntentRefusedV2, IntentStamp, OrderEvent, OrderId, Wanted,
};
use relay::rusqlite::{self, Connection, OptionalExtension};
use serde::Deserialize;
use service_kit::{Limit, parsed};

use super::{history, rows};
use crate::domain::{Conflict, Intent, Note};

/// An intent and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct IntentRow {
    pub stamp: IntentStamp,
    pub driver_id: DriverId,
    /// The order's id, or the text that the device sent in its place.
    pub lane: String,
    pub kind: String,
    /// Of a refused one: the intent as the device sent it.
    pub wanted: Option<Wanted>,
    pub verdict: String,
    /// Why it was refused.
    pub code: Option<String>,
    /// The order's status at the time of the refusal.
    pub status: Option<String>,
    /// Of the event with the verdict.
    pub seq: u64,
    pub judged_at_ms: i64,
    pub decided: Option<Decided>,
}

/// The last decision about an intent in conflict.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Decided {
    pub decision: String,
    pub by: String,
    pub at_ms: i64,
}

/// Which intents a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub verdict: Option<String>,
    pub driver_id: Option<DriverId>,
    pub order_id: Option<OrderId>,
    /// Conflicts that an operator still has to decide.
    pub open: bool,
}

/// An [`IntentRow`] as JSON.
const INTENTS: &str = "select json_object('stamp', json_object('intent_id', id, 'device_id', device_id,
    'incarnation', incarnation, 'seq', place, 'device_time_ms', device_time_ms), 'driver_id', driver_id, 'lane', lane,
    'kind', kind, 'wanted', json(wanted), 'verdict', verdict, 'code', code, 'status', status, 'seq', seq,
    'judged_at_ms', judged_at_ms, 'decided', json(iif(decision is null, null, json_object('decision', decision,
    'by', decided_by, 'at_ms', decided_at_ms)))) from intents where";
/// Refused, and about no order that is or was the driver's. Two indexes have the same condition.
const IS_ABOUT_NO_ORDER: &str = "verdict <> 'applied' and status is null";
/// An index has the same condition.
const IS_OPEN: &str = "verdict = 'conflict' and (decision is null or decision = 'insisted')";

impl IntentRow {
    /// What the driver wrote about a delivery, in any version of the arguments.
    pub fn note(&self) -> Option<Note> {
        let wanted = self.wanted.as_ref()?;
        match Intent::parse(&wanted.kind, wanted.schema_version, &wanted.arguments) {
            Ok(Intent::Deliver { note }) => note,
            _ => None,
        }
    }

    /// How many decisions there were: the driver's first, and the final one.
    pub fn decisions(&self) -> u64 {
        match self.decided.as_ref().map(|decided| &*decided.decision) {
            None => 0,
            Some("insisted") => 1,
            Some(_) => 2,
        }
    }
}

/// Records the verdict or the decision that the event at `seq` holds, if it holds one.
pub(super) fn record(rows: &Connection, event: &OrderEvent, seq: u64) -> rusqlite::Result<()> {
    let kind = match event {
        OrderEvent::PickedUp(_) => Kind::PickUp,
        // An upheld delivery names an intent that has its verdict already.
        OrderEvent::Delivered(of) if !of.upheld => Kind::Deliver,
        OrderEvent::ProblemReported(_) => Kind::ReportProblem,
        OrderEvent::ConflictDecidedV2(of) | OrderEvent::ConflictDecided(of) => {
            decide(rows, of, seq)?;
            match of.intent {
                Some(_) => Kind::DecideConflict,
                None => return Ok(()),
            }
        }
        OrderEvent::IntentRefusedV2(IntentRefusedV2 { wanted, .. })
        | OrderEvent::IntentRefused(IntentRefused { wanted, .. })
        | OrderEvent::IntentMisdirected(IntentMisdirected { wanted, .. }) => Kind::of(&wanted.kind),
        _ => return Ok(()),
    };
    insert(rows, event, kind.as_str(), seq)
}

/// The events of all versions have the same names for the same things. A decision is an intent of the driver whose intent is in
/// conflict.
fn insert(rows: &Connection, event: &OrderEvent, kind: &str, seq: u64) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into intents (id, device_id, incarnation, place, device_time_ms, driver_id, lane, kind, wanted, verdict,
           code, status, seq, judged_at_ms)
         select stamp ->> 'intent_id', stamp ->> 'device_id', stamp ->> 'incarnation', stamp ->> 'seq',
           stamp ->> 'device_time_ms', driver_id, coalesce(event ->> 'lane', event ->> 'order_id'), ?2, event -> 'wanted',
           coalesce(event ->> 'verdict', 'applied'), event ->> 'code', event ->> 'status', ?3, event ->> 'at_ms'
         from (select ?1 as event, ?1 -> 'intent' as stamp, coalesce(?1 ->> 'driver_id',
           (select driver_id from intents where id = ?1 ->> 'intent_id')) as driver_id)
         where driver_id is not null",
    )?
    .execute((rows::to_json(event), kind, seq))?;
    Ok(())
}

fn decide(rows: &Connection, event: &ConflictDecided, seq: u64) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set decision = ?1 ->> 'decision', decided_by = ?1 ->> 'by', decided_seq = ?2,
           decided_at_ms = ?1 ->> 'at_ms' where id = ?1 ->> 'intent_id'",
    )?
    .execute((rows::to_json(event), seq))?;
    Ok(())
}

pub fn find(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<IntentRow>> {
    rows.prepare_cached(&format!("{INTENTS} id = ?1"))?
        .query_row([id.to_string()], rows::json)
        .optional()
}

/// The intent with this number of an incarnation.
pub fn at(
    rows: &Connection,
    device_id: DeviceId,
    incarnation: IncarnationId,
    seq: u64,
) -> rusqlite::Result<Option<IntentId>> {
    let key = (device_id.to_string(), incarnation.to_string(), seq);
    rows.prepare_cached(
        "select id from intents where device_id = ?1 and incarnation = ?2 and place = ?3",
    )?
    .query_row(key, |row| parsed(row, 0))
    .optional()
}

pub fn conflict(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<Conflict>> {
    let found = find(rows, id)?.filter(|row| row.verdict == "conflict");
    let next_version = history::next_version(rows, &id.to_string())?;
    Ok(found.and_then(|row| {
        Some(Conflict {
            intent_id: id,
            order_id: row.lane.parse().ok()?,
            driver_id: row.driver_id,
            decision: row.decided.map(|decided| Decision::of(&decided.decision)),
            next_version,
        })
    }))
}

/// Whose refusals are counted, as the condition of a query.
pub const OF_DEVICE: &str = "device_id = ?1";
/// A device that was revoked or has another driver by now takes nothing from the driver's other devices.
pub const OF_DRIVER: &str = "driver_id = ?1
   and device_id in (select id from devices where driver_id = ?1 and not revoked)";

/// The number of refusals about no order in a period, `most` at most, and the time of the first of them.
pub fn spent(
    rows: &Connection,
    of: &'static str,
    id: &str,
    (after_ms, until_ms): (i64, i64),
    most: u32,
) -> rusqlite::Result<(u32, i64)> {
    let sql = format!(
        "select count(*), coalesce(min(judged_at_ms), ?3) from (
           select judged_at_ms from intents
           where {of} and judged_at_ms > ?2 and judged_at_ms <= ?3 and {IS_ABOUT_NO_ORDER}
           order by judged_at_ms desc limit ?4)"
    );
    rows.prepare_cached(&sql)?
        .query_row((id, after_ms, until_ms, most), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
}

/// The number of this device's refused intents about this order: of those that would move it, or of all others.
pub fn refusals(
    rows: &Connection,
    device_id: DeviceId,
    order_id: OrderId,
    moves_it: bool,
) -> rusqlite::Result<u32> {
    let key = (order_id.to_string(), device_id.to_string(), moves_it);
    rows.prepare_cached(
        "select count(*) from intents where lane = ?1 and device_id = ?2 and verdict <> 'applied'
           and (kind in ('pick_up', 'deliver')) = ?3",
    )?
    .query_row(key, |row| row.get(0))
}

/// In the order of their verdicts, after the sequence `after`; one more than the limit if there are more.
pub fn list(
    rows: &Connection,
    filter: Filter,
    after: i64,
    limit: Limit,
) -> rusqlite::Result<Vec<IntentRow>> {
    let only = if filter.open { IS_OPEN } else { "true" };
    let filters = [
        ("verdict", filter.verdict),
        ("driver_id", filter.driver_id.map(|id| id.to_string())),
        ("lane", filter.order_id.map(|id| id.to_string())),
    ];
    let (select, limit) = (format!("{INTENTS} {only}"), limit.and_one_more().into());
    rows::list(rows, &select, &filters, after, limit)
}

/// A decision about an intent, at the sequence of its event.
#[derive(Deserialize)]
pub struct FeedDecision {
    pub seq: u64,
    pub decision: Judged,
}

/// Decisions about a driver's intents after this sequence, the earliest first.
pub fn decided_after(
    rows: &Connection,
    driver_id: DriverId,
    seq: u64,
    limit: u32,
) -> rusqlite::Result<Vec<FeedDecision>> {
    rows.prepare_cached(
        "select json_object('seq', decided_seq, 'decision', json_object('intent_id', id, 'order_id', lane,
           'decision', decision, 'by', decided_by))
         from intents where driver_id = ?1 and decided_seq > ?2 order by decided_seq limit ?3",
    )?
    .query_map((driver_id.to_string(), seq, limit), rows::json)?
    .collect()
}

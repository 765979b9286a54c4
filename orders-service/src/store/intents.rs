//! Intents: each is judged once. Its row keeps the outcome, and the last decision if it is in conflict.

use event_schema::sync::Kind;
use event_schema::{
    ConflictDecided, Decision, DeviceId, DriverId, IncarnationId, IntentId, IntentRefusedV2,
    IntentStamp, OrderEvent, OrderId, Wanted,
};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::{Limit, parsed};

use super::history;
use crate::domain::{Conflict, Intent, Note};

/// An intent and its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub decision: String,
    pub by: String,
    /// Of the event with the decision.
    pub seq: u64,
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

const INTENTS: &str = "select id, device_id, driver_id, incarnation, place, lane, kind, wanted, verdict, code, status, seq,
    device_time_ms, judged_at_ms, decision, decided_by, decided_seq, decided_at_ms from intents where";
/// Refused, and about no order that is or was the driver's. Two indexes have the same condition.
const IS_ABOUT_NO_ORDER: &str = "verdict <> 'applied' and status is null";
/// An index has the same condition.
const IS_OPEN: &str = "verdict = 'conflict' and (decision is null or decision = 'insisted')";

impl IntentRow {
    /// What the driver wrote about a delivery, in any version of the arguments.
    pub fn note(&self) -> Option<String> {
        let wanted = self.wanted.as_ref()?;
        match Intent::parse(&wanted.kind, wanted.schema_version, &wanted.arguments) {
            Ok(Intent::Deliver { note }) => note.map(Note::into),
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
    let applied = |stamp: &IntentStamp, driver_id, order_id: OrderId, kind: Kind, at_ms| {
        let row = IntentRow {
            stamp: stamp.clone(),
            driver_id,
            lane: order_id.to_string(),
            kind: kind.as_str().to_owned(),
            wanted: None,
            verdict: "applied".to_owned(),
            code: None,
            status: None,
            seq,
            judged_at_ms: at_ms,
            decided: None,
        };
        insert(rows, &row)
    };
    match event.clone() {
        OrderEvent::PickedUp(of) => applied(
            &of.intent,
            of.driver_id,
            of.order_id,
            Kind::PickUp,
            of.at_ms,
        ),
        // An upheld delivery names an intent that has its verdict already.
        OrderEvent::Delivered(of) if !of.upheld => applied(
            &of.intent,
            of.driver_id,
            of.order_id,
            Kind::Deliver,
            of.at_ms,
        ),
        OrderEvent::ProblemReported(of) => {
            let kind = Kind::ReportProblem;
            applied(&of.intent, of.driver_id, of.order_id, kind, of.at_ms)
        }
        OrderEvent::ConflictDecidedV2(of) | OrderEvent::ConflictDecided(of) => {
            match (decide(rows, &of, seq)?, &of.intent) {
                (Some(driver_id), Some(stamp)) => applied(
                    stamp,
                    driver_id,
                    of.order_id,
                    Kind::DecideConflict,
                    of.at_ms,
                ),
                _ => Ok(()),
            }
        }
        OrderEvent::IntentRefusedV2(of) => insert(rows, &refused(of, seq)),
        OrderEvent::IntentRefused(of) => insert(rows, &refused(of.into(), seq)),
        OrderEvent::IntentMisdirected(of) => insert(rows, &refused(of.into(), seq)),
        _ => Ok(()),
    }
}

/// Returns whose intent it is.
fn decide(
    rows: &Connection,
    event: &ConflictDecided,
    seq: u64,
) -> rusqlite::Result<Option<DriverId>> {
    let decided = (
        event.intent_id.to_string(),
        event.decision.as_str(),
        event.by.as_str(),
        seq,
        event.at_ms,
    );
    rows.prepare_cached(
        "update intents set decision = ?2, decided_by = ?3, decided_seq = ?4, decided_at_ms = ?5 where id = ?1
         returning driver_id",
    )?
    .query_row(decided, |row| parsed(row, 0))
    .optional()
}

fn refused(of: IntentRefusedV2, seq: u64) -> IntentRow {
    IntentRow {
        stamp: of.intent,
        driver_id: of.driver_id,
        lane: of.lane,
        kind: of.wanted.kind.clone(),
        wanted: Some(of.wanted),
        verdict: of.verdict.as_str().to_owned(),
        code: Some(of.code),
        status: of.status,
        seq,
        judged_at_ms: of.at_ms,
        decided: None,
    }
}

fn insert(rows: &Connection, row: &IntentRow) -> rusqlite::Result<()> {
    let json = |wanted| serde_json::to_string(wanted).expect("plain values are JSON");
    rows.prepare_cached(
        "insert into intents (id, device_id, driver_id, incarnation, place, lane, kind, wanted, verdict, code, status, seq,
           device_time_ms, judged_at_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(rusqlite::params![
        row.stamp.intent_id.to_string(),
        row.stamp.device_id.to_string(),
        row.driver_id.to_string(),
        row.stamp.incarnation.to_string(),
        row.stamp.seq,
        row.lane,
        row.kind,
        row.wanted.as_ref().map(json),
        row.verdict,
        row.code,
        row.status,
        row.seq,
        row.stamp.device_time_ms,
        row.judged_at_ms,
    ])?;
    Ok(())
}

pub fn find(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<IntentRow>> {
    rows.prepare_cached(&format!("{INTENTS} id = ?1"))?
        .query_row([id.to_string()], intent)
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
    super::list(rows, &select, &filters, after, limit, intent)
}

/// Decisions about a driver's intents after this sequence, the earliest first.
pub fn decided_after(
    rows: &Connection,
    driver_id: DriverId,
    seq: u64,
    limit: u32,
) -> rusqlite::Result<Vec<IntentRow>> {
    rows.prepare_cached(&format!(
        "{INTENTS} driver_id = ?1 and decided_seq > ?2 order by decided_seq limit ?3"
    ))?
    .query_map((driver_id.to_string(), seq, limit), intent)?
    .collect()
}

fn intent(row: &Row<'_>) -> rusqlite::Result<IntentRow> {
    let wanted: Option<String> = row.get(7)?;
    let decision: Option<String> = row.get(14)?;
    let decided = |decision| -> rusqlite::Result<Decided> {
        Ok(Decided {
            decision,
            by: row.get(15)?,
            seq: row.get(16)?,
            at_ms: row.get(17)?,
        })
    };
    Ok(IntentRow {
        stamp: IntentStamp {
            intent_id: parsed(row, 0)?,
            device_id: parsed(row, 1)?,
            incarnation: parsed(row, 3)?,
            seq: row.get(4)?,
            device_time_ms: row.get(12)?,
        },
        driver_id: parsed(row, 2)?,
        lane: row.get(5)?,
        kind: row.get(6)?,
        wanted: wanted.and_then(|wanted| serde_json::from_str(&wanted).ok()),
        verdict: row.get(8)?,
        code: row.get(9)?,
        status: row.get(10)?,
        seq: row.get(11)?,
        judged_at_ms: row.get(13)?,
        decided: decision.map(decided).transpose()?,
    })
}

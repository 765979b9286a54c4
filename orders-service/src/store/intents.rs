//! Intents that were judged: each once, with its verdict, and what was decided about it since.

use event_schema::{
    ConflictDecided, Decision, DeviceId, DriverId, IncarnationId, IntentId, IntentRefusedV2,
    IntentStamp, OrderEvent, OrderId, Wanted,
};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::{Limit, parsed};

use super::history;
use crate::domain::{Conflict, Note, Wish};

/// An intent and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    pub id: IntentId,
    pub device_id: DeviceId,
    pub driver_id: DriverId,
    pub incarnation: IncarnationId,
    pub place: u64,
    /// The order, or what the device took for one.
    pub lane: String,
    pub kind: String,
    /// What a refused one wanted, as the device said it.
    pub wanted: Option<Wanted>,
    pub verdict: String,
    /// Why it was refused.
    pub code: Option<String>,
    /// The order's, when it was refused.
    pub status: Option<String>,
    /// The place of the event that says so.
    pub seq: u64,
    pub device_time_ms: i64,
    pub judged_at_ms: i64,
    pub decision: Option<String>,
    pub decided_by: Option<String>,
    /// The place of the event that says so.
    pub decided_seq: Option<u64>,
    pub decided_at_ms: Option<i64>,
}

impl Judged {
    /// What the driver wrote about a delivery, whichever version of the arguments the device spoke.
    pub fn note(&self) -> Option<String> {
        let wanted = self.wanted.as_ref()?;
        match Wish::read(&wanted.kind, wanted.schema_version, &wanted.arguments) {
            Ok(Wish::Deliver { note }) => note.map(Note::into),
            _ => None,
        }
    }

    /// Grows with each word about it: one of the driver's, and the last one.
    pub fn words(&self) -> u64 {
        match self.decision.as_deref() {
            None => 0,
            Some("insisted") => 1,
            Some(_) => 2,
        }
    }

    /// As an event names it.
    pub fn stamp(&self) -> IntentStamp {
        IntentStamp {
            intent_id: self.id,
            device_id: self.device_id,
            incarnation: self.incarnation,
            seq: self.place,
            device_time_ms: self.device_time_ms,
        }
    }
}

/// Which intents a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub verdict: Option<String>,
    pub driver_id: Option<DriverId>,
    pub order_id: Option<OrderId>,
    /// Conflicts that still wait for a decision.
    pub open: bool,
}

/// What the answer to an intent is made of.
struct Answer<'a> {
    stamp: &'a IntentStamp,
    driver_id: DriverId,
    lane: &'a str,
    kind: &'a str,
    wanted: Option<&'a Wanted>,
    verdict: &'a str,
    code: Option<&'a str>,
    status: Option<&'a str>,
    at_ms: i64,
}

const COLUMNS: &str =
    "id, device_id, driver_id, incarnation, place, lane, kind, wanted, verdict, code, status, seq,
    device_time_ms, judged_at_ms, decision, decided_by, decided_seq, decided_at_ms";

/// Refused, and about no order that is or was the driver's. Two indexes say it in the same words.
const IS_ABOUT_NO_ORDER: &str = "verdict <> 'applied' and status is null";

/// The event at `seq` answers an intent, or decides about one, or neither.
pub(super) fn answer(rows: &Connection, event: &OrderEvent, seq: u64) -> rusqlite::Result<()> {
    let applied = |stamp, driver_id, order_id: OrderId, kind, at_ms| {
        let answer = Answer {
            stamp,
            driver_id,
            lane: &order_id.to_string(),
            kind,
            wanted: None,
            verdict: "applied",
            code: None,
            status: None,
            at_ms,
        };
        insert(rows, &answer, seq)
    };
    match event {
        OrderEvent::PickedUp(of) => {
            let kind = "pick_up";
            applied(&of.intent, of.driver_id, of.order_id, kind, of.at_ms)
        }
        // The intent was answered when it came; what is upheld is the same one.
        OrderEvent::Delivered(of) if of.upheld => Ok(()),
        OrderEvent::Delivered(of) => {
            let kind = "deliver";
            applied(&of.intent, of.driver_id, of.order_id, kind, of.at_ms)
        }
        OrderEvent::ProblemReported(of) => {
            let kind = "report_problem";
            applied(&of.intent, of.driver_id, of.order_id, kind, of.at_ms)
        }
        OrderEvent::ConflictDecidedV2(of) | OrderEvent::ConflictDecided(of) => {
            let driver_id = decide(rows, of, seq)?;
            match (&of.intent, driver_id) {
                (Some(stamp), Some(driver_id)) => {
                    let kind = "decide_conflict";
                    applied(stamp, driver_id, of.order_id, kind, of.at_ms)
                }
                _ => Ok(()),
            }
        }
        refused => match refused_as_now(refused) {
            Some(of) => insert(rows, &Answer::refused(&of), seq),
            None => Ok(()),
        },
    }
}

/// A refusal of any version.
fn refused_as_now(event: &OrderEvent) -> Option<IntentRefusedV2> {
    match event.clone() {
        OrderEvent::IntentRefusedV2(of) => Some(of),
        OrderEvent::IntentRefused(of) => Some(of.into()),
        OrderEvent::IntentMisdirected(of) => Some(of.into()),
        _ => None,
    }
}

impl<'a> Answer<'a> {
    fn refused(of: &'a IntentRefusedV2) -> Self {
        Self {
            stamp: &of.intent,
            driver_id: of.driver_id,
            lane: &of.lane,
            kind: &of.wanted.kind,
            wanted: Some(&of.wanted),
            verdict: of.verdict.as_str(),
            code: Some(&of.code),
            status: of.status.as_deref(),
            at_ms: of.at_ms,
        }
    }
}

fn insert(rows: &Connection, answer: &Answer<'_>, seq: u64) -> rusqlite::Result<()> {
    let Answer {
        stamp,
        driver_id,
        lane,
        kind,
        wanted,
        verdict,
        code,
        status,
        at_ms,
    } = answer;
    let wanted = wanted.map(|wanted| serde_json::to_string(wanted).expect("plain values are JSON"));
    rows.prepare_cached(
        "insert into intents (id, device_id, driver_id, incarnation, place, lane, kind, wanted, verdict, code, status, seq,
           device_time_ms, judged_at_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?
    .execute(rusqlite::params![
        stamp.intent_id.to_string(),
        stamp.device_id.to_string(),
        driver_id.to_string(),
        stamp.incarnation.to_string(),
        stamp.seq,
        lane,
        kind,
        wanted,
        verdict,
        code,
        status,
        seq,
        stamp.device_time_ms,
        at_ms,
    ])?;
    Ok(())
}

/// Answers whose intent it was.
fn decide(
    rows: &Connection,
    event: &ConflictDecided,
    seq: u64,
) -> rusqlite::Result<Option<DriverId>> {
    rows.prepare_cached(
        "update intents set decision = ?2, decided_by = ?3, decided_seq = ?4, decided_at_ms = ?5 where id = ?1
         returning driver_id",
    )?
    .query_row(
        (
            event.intent_id.to_string(),
            event.decision.as_str(),
            event.by.as_str(),
            seq,
            event.at_ms,
        ),
        |row| parsed(row, 0),
    )
    .optional()
}

pub fn find(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<Judged>> {
    rows.prepare_cached(&format!("select {COLUMNS} from intents where id = ?1"))?
        .query_row([id.to_string()], judged)
        .optional()
}

/// Which intent of the incarnation is known at this place.
pub fn at(
    rows: &Connection,
    device_id: DeviceId,
    incarnation: IncarnationId,
    place: u64,
) -> rusqlite::Result<Option<IntentId>> {
    rows.prepare_cached(
        "select id from intents where device_id = ?1 and incarnation = ?2 and place = ?3",
    )?
    .query_row(
        (device_id.to_string(), incarnation.to_string(), place),
        |row| parsed(row, 0),
    )
    .optional()
}

pub fn conflict(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<Conflict>> {
    let found = find(rows, id)?.filter(|judged| judged.verdict == "conflict");
    let next_version = history::next_version(rows, &id.to_string())?;
    Ok(found.and_then(|judged| {
        Some(Conflict {
            intent_id: judged.id,
            order_id: judged.lane.parse().ok()?,
            driver_id: judged.driver_id,
            decision: judged.decision.as_deref().map(Decision::of),
            next_version,
        })
    }))
}

/// Whose refusals are counted, as the condition of a query.
pub const OF_DEVICE: &str = "device_id = ?1";
/// A device that was revoked or is another driver's by now takes nothing from the driver's other devices.
pub const OF_DRIVER: &str = "driver_id = ?1
   and device_id in (select id from devices where driver_id = ?1 and not revoked)";

/// How many refusals about no order there were after the one moment and up to the other, at most `most`; and when the
/// first of these was judged.
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

/// How many intents of this device about this order were refused: of those that would move it, or of all others.
pub fn refused(
    rows: &Connection,
    device_id: DeviceId,
    order_id: OrderId,
    moves_it: bool,
) -> rusqlite::Result<u32> {
    rows.prepare_cached(
        "select count(*) from intents where lane = ?1 and device_id = ?2 and verdict <> 'applied'
           and (kind in ('pick_up', 'deliver')) = ?3",
    )?
    .query_row(
        (order_id.to_string(), device_id.to_string(), moves_it),
        |row| row.get(0),
    )
}

/// In the order of judging, after the place `after`; one more than the limit when there are more.
pub fn list(
    rows: &Connection,
    filter: &Filter,
    after: u64,
    limit: Limit,
) -> rusqlite::Result<Vec<Judged>> {
    let open = match filter.open {
        true => "and verdict = 'conflict' and (decision is null or decision = 'insisted')",
        false => "",
    };
    let mut wanted: Vec<(&str, String)> = Vec::new();
    wanted.extend(filter.verdict.clone().map(|verdict| ("verdict", verdict)));
    wanted.extend(filter.driver_id.map(|id| ("driver_id", id.to_string())));
    wanted.extend(filter.order_id.map(|id| ("lane", id.to_string())));
    let only: String = wanted
        .iter()
        .enumerate()
        .map(|(at, (column, _))| format!(" and {column} = ?{}", at + 3))
        .collect();
    let mut statement = rows.prepare_cached(&format!(
        "select {COLUMNS} from intents where seq > ?1 {open}{only} order by seq limit ?2"
    ))?;
    statement.raw_bind_parameter(1, after)?;
    statement.raw_bind_parameter(2, limit.and_one_more())?;
    for (at, (_, value)) in wanted.iter().enumerate() {
        statement.raw_bind_parameter(at + 3, value)?;
    }
    let mut found = statement.raw_query();
    let mut judged_ones = Vec::new();
    while let Some(row) = found.next()? {
        judged_ones.push(judged(row)?);
    }
    Ok(judged_ones)
}

/// What was decided about a driver's intents after this place, at most `limit`.
pub fn decided_after(
    rows: &Connection,
    driver_id: DriverId,
    seq: u64,
    limit: u32,
) -> rusqlite::Result<Vec<Judged>> {
    rows.prepare_cached(&format!(
        "select {COLUMNS} from intents where driver_id = ?1 and decided_seq > ?2 order by decided_seq limit ?3"
    ))?
    .query_map((driver_id.to_string(), seq, limit), judged)?
    .collect()
}

fn judged(row: &Row<'_>) -> rusqlite::Result<Judged> {
    let wanted: Option<String> = row.get(7)?;
    Ok(Judged {
        id: parsed(row, 0)?,
        device_id: parsed(row, 1)?,
        driver_id: parsed(row, 2)?,
        incarnation: parsed(row, 3)?,
        place: row.get(4)?,
        lane: row.get(5)?,
        kind: row.get(6)?,
        wanted: wanted.and_then(|wanted| serde_json::from_str(&wanted).ok()),
        verdict: row.get(8)?,
        code: row.get(9)?,
        status: row.get(10)?,
        seq: row.get(11)?,
        device_time_ms: row.get(12)?,
        judged_at_ms: row.get(13)?,
        decision: row.get(14)?,
        decided_by: row.get(15)?,
        decided_seq: row.get(16)?,
        decided_at_ms: row.get(17)?,
    })
}

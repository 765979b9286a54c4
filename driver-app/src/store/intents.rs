//! What the driver wanted: the queue, the verdicts, and the rows that wait for a person.

use std::ops::ControlFlow;

use event_schema::sync::{Delivery, Intent, Judged};
use event_schema::{IntentId, OrderId, Version};
use relay::rusqlite::{self, Connection, OptionalExtension, Params, Row};
use serde_json::Value;
use service_kit::parsed;

use super::{device, json, optional_json, place, to_json, version};
use crate::domain::{Kind, Pending, Said, ends_conflict};

/// What is written down when the driver acts.
#[derive(Debug)]
pub struct NewIntent {
    pub id: IntentId,
    /// The lane: an order's id, as the intent it is about had it.
    pub lane: String,
    pub said: Said,
    /// Of a decision: the intent in conflict.
    pub about: Option<IntentId>,
    pub base_version: Version,
    pub device_time_ms: i64,
}

/// An intent as it is shown.
#[derive(Clone, Debug)]
pub struct Shown {
    pub intent_id: IntentId,
    pub lane: String,
    pub kind: String,
    pub arguments: Value,
    pub about: Option<IntentId>,
    pub base_version: Version,
    pub device_time_ms: i64,
    pub state: State,
    pub tries: u32,
    pub asked_again: bool,
    pub verdict: Option<Final>,
    pub code: Option<String>,
    pub detail: Option<String>,
    pub current: Option<Delivery>,
    pub decision: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Unsent,
    /// It may have arrived: nobody has said.
    Sent,
    Answered,
    /// It could not be sent too often. Nothing is decided; the driver says whether it is tried again.
    GaveUp,
}

/// A verdict that stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Final {
    Applied,
    Superseded,
    Rejected,
    Conflict,
}

/// A final verdict, with what it says.
#[derive(Debug)]
pub struct Answer {
    pub verdict: Final,
    /// Place in the owner's log.
    pub at: u64,
    pub code: Option<String>,
    pub detail: Option<String>,
    pub current: Option<Delivery>,
}

/// Intents that nobody needs any more and that are kept all the same, to look into what happened.
const KEPT: u32 = 500;

/// Nobody has judged it, and it may still be judged.
const UNSETTLED: &str = "(it.state in ('unsent', 'sent') or it.state = 'gave_up' and it.open = 1)";

/// One of its lane was given up, and the driver has not said what becomes of it.
const STOPPED: &str = "exists (select 1 from intents head
     where head.order_id = it.order_id and head.driver_id = it.driver_id and head.state = 'gave_up' and head.open = 1)";

/// Verdicts beyond a place that may not hold any more.
const LOST: &str = "state = 'answered' and at > ?1
     and (verdict = 'conflict' and open = 1
          or verdict in ('applied', 'superseded')
             and (about is null or exists (select 1 from intents conflict
                  where conflict.intent_id = it.about and (conflict.open = 1 or conflict.at <= ?1))))
     order by at, seq";

const SHOWN: &str = "intent_id, order_id, kind, arguments, about, base_version, device_time_ms, state, tries, verdict,
                     code, detail, current, decision, asked_again";

/// Who uses the device. What another has done here is theirs: it is neither sent nor shown until they come back.
const OURS: &str = "driver_id = (select driver_id from device)";

pub fn insert(rows: &Connection, new: &NewIntent) -> rusqlite::Result<IntentId> {
    let incarnation = device::get(rows)?.incarnation;
    rows.prepare_cached(
        "insert into intents (intent_id, incarnation, seq, order_id, kind, schema_version, arguments, about,
                              base_version, seen, seen_at, device_time_ms, state, driver_id)
         select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, feed_token, feed_at, ?10, 'unsent', driver_id from device",
    )?
    .execute((
        new.id.to_string(),
        incarnation.to_string(),
        device::take_seq(rows)?,
        &new.lane,
        new.said.kind.as_str(),
        new.said.schema_version,
        to_json(&new.said.arguments),
        new.about.map(|id| id.to_string()),
        new.base_version.get(),
        new.device_time_ms,
    ))?;
    Ok(new.id)
}

/// The driver's unanswered intents as they travel, oldest first, until `take` has enough. Behind one that was given up
/// nothing of its lane goes on until the driver has said what becomes of it.
///
/// The one before it in its lane is the last that the owner will be asked about. One that has its verdict is not named:
/// the owner knows it, but perhaps at the place that it had in another incarnation. One that was given up stops
/// its lane, and so comes before nothing.
pub fn waiting(
    rows: &Connection,
    mut take: impl FnMut(Intent) -> ControlFlow<()>,
) -> rusqlite::Result<()> {
    let mut found = rows.prepare_cached(&format!(
        "select intent_id, seq,
                (select max(seq) from intents before
                 where before.order_id = it.order_id and before.seq < it.seq
                   and before.incarnation = it.incarnation and before.driver_id = it.driver_id
                   and before.state in ('unsent', 'sent')),
                order_id, kind, schema_version, arguments, base_version, seen, device_time_ms
         from intents it
         where state in ('unsent', 'sent') and {OURS} and not {STOPPED} order by seq"
    ))?;
    let mut found = found.query([])?;
    while let Some(row) = found.next()? {
        if take(intent(row)?).is_break() {
            break;
        }
    }
    Ok(())
}

fn intent(row: &Row<'_>) -> rusqlite::Result<Intent> {
    Ok(Intent {
        intent_id: parsed(row, 0)?,
        seq: row.get(1)?,
        after_seq: row.get(2)?,
        order_id: row.get(3)?,
        kind: row.get(4)?,
        schema_version: row.get(5)?,
        arguments: json(row, 6)?,
        base_version: version(row, 7)?,
        seen: row.get(8)?,
        device_time_ms: row.get(9)?,
    })
}

/// How many of the driver's are unanswered.
pub fn count_waiting(rows: &Connection) -> rusqlite::Result<u64> {
    rows.prepare_cached(&format!(
        "select count(*) from intents where state in ('unsent', 'sent') and {OURS}"
    ))?
    .query_row([], |row| row.get(0))
}

/// How many wait for another driver to enrol here again.
pub fn count_others_waiting(rows: &Connection) -> rusqlite::Result<u64> {
    rows.prepare_cached(&format!(
        "select count(*) from intents where state in ('unsent', 'sent') and not {OURS}"
    ))?
    .query_row([], |row| row.get(0))
}

/// From here on it may have arrived.
pub fn mark_sent(rows: &Connection, id: IntentId) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set state = 'sent' where intent_id = ?1 and state = 'unsent'",
    )?
    .execute([id.to_string()])?;
    Ok(())
}

/// What is unanswered, of every driver, gets the numbers of the device's incarnation, in its old order; the ids stay.
/// What was given up has its place among them: it may be tried again.
pub fn renumber(rows: &Connection) -> rusqlite::Result<()> {
    ids(rows, &format!("{UNSETTLED} order by seq"), [])?
        .into_iter()
        .try_for_each(|id| number_anew(rows, id))
}

/// The next number of the device's incarnation. The owner may know it at the one it had.
fn number_anew(rows: &Connection, id: IntentId) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents
         set state = case state when 'gave_up' then state else 'unsent' end, seq = ?2,
             incarnation = (select incarnation from device)
         where intent_id = ?1",
    )?
    .execute((id.to_string(), device::take_seq(rows)?))?;
    Ok(())
}

fn ids(rows: &Connection, such: &str, with: impl Params) -> rusqlite::Result<Vec<IntentId>> {
    rows.prepare_cached(&format!("select intent_id from intents it where {such}"))?
        .query_map(with, |row| parsed(row, 0))?
        .collect()
}

/// The owner's log ends at `at`, and verdicts of ours lie beyond: it was put back to an earlier state, and what they told
/// of may not be so any more. What had its effect, and conflicts that are open, are asked again under their old ids, of
/// every driver; an owner who still knows them says so.
///
/// They come before what is unanswered, in the order of their verdicts. A decision goes along with its conflict: one
/// about a conflict that is over here and unknown there has nothing to decide.
pub fn ask_again(rows: &Connection, at: u64) -> rusqlite::Result<()> {
    let lost = ids(rows, LOST, [place(at)])?;
    let waiting = ids(rows, &format!("{UNSETTLED} order by seq"), [])?;
    lost.iter().try_for_each(|id| reopen(rows, *id))?;
    if !lost.is_empty() {
        let mut all = lost.into_iter().chain(waiting);
        all.try_for_each(|id| number_anew(rows, id))?;
    }
    forget_places(rows, at)
}

fn reopen(rows: &Connection, id: IntentId) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents
         set state = 'unsent', verdict = null, at = null, code = null, detail = null, current = null, tries = 0,
             decision = null, decided_by = null, open = 1, asked_again = 1
         where intent_id = ?1",
    )?
    .execute([id.to_string()])?;
    Ok(())
}

/// Places beyond the log's end are nobody's: no intent waits for an owner who has seen as much as its driver had.
fn forget_places(rows: &Connection, at: u64) -> rusqlite::Result<()> {
    let at = place(at);
    rows.prepare_cached(
        "update intents set seen = null, seen_at = null where state != 'answered' and seen_at > ?1",
    )?
    .execute([at])?;
    Ok(())
}

/// The lane of an intent of the driver's that a verdict is wanted for. `None`: it is not known, or has its verdict.
pub fn lane_of_open(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<String>> {
    rows.prepare_cached(&format!(
        "select order_id from intents where intent_id = ?1 and state != 'answered' and {OURS}"
    ))?
    .query_row([id.to_string()], |row| row.get(0))
    .optional()
}

/// Writes a final verdict down. What had its effect stays in the overlay until the feed has brought it.
pub fn answer(rows: &Connection, id: IntentId, answer: &Answer) -> rusqlite::Result<()> {
    let ended = decision(rows, id)?.as_deref().is_some_and(ends_conflict);
    rows.prepare_cached(
        "update intents
         set state = 'answered', verdict = ?2, at = ?3, code = ?4, detail = ?5, current = ?6,
             open = case when ?2 in ('applied', 'superseded') then (select coalesce(feed_at, 0) < ?3 from device)
                         when ?2 = 'conflict' then not ?7
                         else 1 end
         where intent_id = ?1 and state != 'answered'",
    )?
    .execute((
        id.to_string(),
        answer.verdict.as_str(),
        place(answer.at),
        &answer.code,
        &answer.detail,
        answer.current.as_ref().map(to_json),
        ended,
    ))?;
    if answer.verdict == Final::Applied {
        take_own_decision(rows, id)?;
    }
    Ok(())
}

fn decision(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<String>> {
    let found = rows
        .prepare_cached("select decision from intents where intent_id = ?1")?
        .query_row([id.to_string()], |row| row.get(0))
        .optional()?;
    Ok(found.flatten())
}

/// The driver's decision counts: it is written to the conflict it is about.
fn take_own_decision(rows: &Connection, id: IntentId) -> rusqlite::Result<()> {
    let found = rows
        .prepare_cached(
            "select about, arguments ->> '$.decision' from intents where intent_id = ?1 and about is not null",
        )?
        .query_row([id.to_string()], |row| Ok((parsed(row, 0)?, row.get(1)?)))
        .optional()?;
    let Some((about, decision)) = found else {
        return Ok(());
    };
    decided(rows, about, decision, "driver")
}

/// Somebody has decided about an intent in conflict. It may not have its verdict yet: the answer may have got lost, and
/// this come first. A conflict that has ended stays as it ended.
pub fn judge(rows: &Connection, judged: &Judged) -> rusqlite::Result<()> {
    let Judged {
        intent_id,
        decision,
        by,
        ..
    } = judged;
    decided(rows, *intent_id, decision.clone(), by)
}

fn decided(rows: &Connection, id: IntentId, decision: String, by: &str) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents
         set decision = ?2, decided_by = ?3, open = case when verdict = 'conflict' and ?4 then 0 else open end
         where intent_id = ?1 and open = 1",
    )?
    .execute((id.to_string(), &decision, by, ends_conflict(&decision)))?;
    Ok(())
}

/// Nothing is decided; answers how often in a row that was so for this reason. `counts`: this one is why its lane waits.
/// `None`: it does not wait.
pub fn later(
    rows: &Connection,
    id: IntentId,
    code: &str,
    detail: &str,
    counts: bool,
) -> rusqlite::Result<Option<u32>> {
    rows.prepare_cached(
        "update intents set state = 'unsent', tries = case when code is ?2 then tries else 0 end + ?4, code = ?2, detail = ?3
         where intent_id = ?1 and state in ('unsent', 'sent') returning tries",
    )?
    .query_row((id.to_string(), code, detail, counts), |row| row.get(0))
    .optional()
}

/// It is not asked any more, and its lane waits, until the driver says what becomes of it.
pub fn give_up(rows: &Connection, id: IntentId) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set state = 'gave_up' where intent_id = ?1 and state in ('unsent', 'sent')",
    )?
    .execute([id.to_string()])?;
    Ok(())
}

/// At its old place: what its lane has done since has waited behind it.
pub fn retry(rows: &Connection, id: IntentId) -> rusqlite::Result<bool> {
    let sql = format!(
        "update intents set state = 'unsent', tries = 0 where intent_id = ?1 and state = 'gave_up' and open = 1 and {OURS}"
    );
    Ok(rows.execute(&sql, [id.to_string()])? > 0)
}

/// The driver has read it. False: there is nothing to read.
pub fn dismiss(rows: &Connection, id: IntentId) -> rusqlite::Result<bool> {
    let sql = format!(
        "update intents set open = 0
         where intent_id = ?1 and open = 1 and (verdict = 'rejected' or state = 'gave_up') and {OURS}"
    );
    Ok(rows.execute(&sql, [id.to_string()])? > 0)
}

/// The feed has come to this place: what had its effect up to it leaves the overlay.
pub fn settle(rows: &Connection, at: u64) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set open = 0 where open = 1 and verdict in ('applied', 'superseded') and at <= ?1",
    )?
    .execute([place(at)])?;
    prune(rows)
}

fn prune(rows: &Connection) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "delete from intents where open = 0 and rowid <=
             (select rowid from intents where open = 0 order by rowid desc limit 1 offset ?1)",
    )?
    .execute([KEPT])?;
    Ok(())
}

/// What conflicts keep of the owner's side is stripped of the people in it, where the delivery is not the driver's any
/// more. The driver's own words stay.
pub fn strip(rows: &Connection) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set current = json_remove(current, '$.customer', '$.note')
         where current is not null and order_id not in (select order_id from deliveries)",
    )?
    .execute([])?;
    Ok(())
}

/// What the driver is to see, oldest first.
pub fn shown(rows: &Connection) -> rusqlite::Result<Vec<Shown>> {
    rows.prepare_cached(&format!(
        "select {SHOWN} from intents where open = 1 and {OURS}
         order by incarnation = (select incarnation from device), seq"
    ))?
    .query_map([], row)?
    .collect()
}

/// The same of one lane.
pub fn shown_of(rows: &Connection, id: OrderId) -> rusqlite::Result<Vec<Shown>> {
    rows.prepare_cached(&format!(
        "select {SHOWN} from intents where open = 1 and order_id = ?1 and {OURS}
         order by incarnation = (select incarnation from device), seq"
    ))?
    .query_map([id.to_string()], row)?
    .collect()
}

/// Of the driver.
pub fn find(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<Shown>> {
    rows.prepare_cached(&format!(
        "select {SHOWN} from intents where intent_id = ?1 and {OURS}"
    ))?
    .query_row([id.to_string()], row)
    .optional()
}

/// Has this id been given to an intent, whoever wanted it?
pub fn is_taken(rows: &Connection, id: IntentId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select exists (select 1 from intents where intent_id = ?1)")?
        .query_row([id.to_string()], |row| row.get(0))
}

/// Is a decision about this conflict on its way, or was it given up and may still go?
pub fn is_deciding(rows: &Connection, about: IntentId) -> rusqlite::Result<bool> {
    rows.prepare_cached(&format!(
        "select exists (select 1 from intents it where about = ?1 and {UNSETTLED})"
    ))?
    .query_row([about.to_string()], |row| row.get(0))
}

fn row(row: &Row<'_>) -> rusqlite::Result<Shown> {
    let (state, verdict): (String, Option<String>) = (row.get(7)?, row.get(9)?);
    let about: Option<String> = row.get(4)?;
    Ok(Shown {
        intent_id: parsed(row, 0)?,
        lane: row.get(1)?,
        kind: row.get(2)?,
        arguments: json(row, 3)?,
        about: about.and_then(|id| id.parse().ok()),
        base_version: version(row, 5)?,
        device_time_ms: row.get(6)?,
        state: State::of(&state),
        tries: row.get(8)?,
        verdict: verdict.as_deref().and_then(Final::of),
        code: row.get(10)?,
        detail: row.get(11)?,
        current: optional_json(row, 12)?,
        decision: row.get(13)?,
        asked_again: row.get(14)?,
    })
}

impl Shown {
    pub fn is_unanswered(&self) -> bool {
        matches!(self.state, State::Unsent | State::Sent)
    }

    /// Nothing is decided: it is asked about, or was given up and waits for the driver's word.
    pub fn is_unsettled(&self) -> bool {
        self.is_unanswered() || self.state == State::GaveUp
    }

    /// Does it lie on top of what the owner told? What was refused does not. What was given up does until it is
    /// dropped: what waits behind it stands on it.
    pub fn is_pending(&self) -> bool {
        self.is_unsettled() || matches!(self.verdict, Some(Final::Applied | Final::Superseded))
    }

    pub fn pending(&self) -> Pending {
        Pending {
            intent_id: self.intent_id,
            kind: Kind::of(&self.kind),
            arguments: self.arguments.clone(),
            may_show_beyond: self.asked_again.then_some(self.base_version),
        }
    }
}

impl State {
    /// The schema lets no other words in.
    fn of(text: &str) -> Self {
        match text {
            "sent" => Self::Sent,
            "answered" => Self::Answered,
            "gave_up" => Self::GaveUp,
            _ => Self::Unsent,
        }
    }
}

impl Final {
    fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Superseded => "superseded",
            Self::Rejected => "rejected",
            Self::Conflict => "conflict",
        }
    }

    fn of(text: &str) -> Option<Self> {
        let all = [
            Self::Applied,
            Self::Superseded,
            Self::Rejected,
            Self::Conflict,
        ];
        all.into_iter().find(|known| known.as_str() == text)
    }
}

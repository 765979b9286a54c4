//! The driver's intents: the queue, the verdicts, and the conflicts and refusals that wait for the driver.

use event_schema::sync::{Intent, Judged, Outcome};
use event_schema::{IntentId, OrderId, Version};
use relay::rusqlite::{self, Connection, OptionalExtension, Params};
use service_kit::parsed;

use super::{json, sequence, to_json};
use crate::domain::{Action, LocalIntent};

/// Closed intents that the device keeps, so that support can look into what happened.
const KEPT: u32 = 500;

const QUEUED: &str = "state in ('unsent', 'sent')";

/// It has no verdict: it is queued, or failed and blocks its lane.
const UNDECIDED: &str = "(state in ('unsent', 'sent') or state = 'gave_up' and open = 1)";

/// Another intent of its lane failed, and the driver has neither retried nor discarded it.
const BLOCKED: &str = "exists (select 1 from intents head
     where head.order_id = it.order_id and head.driver_id = it.driver_id and head.state = 'gave_up' and head.open = 1)";

/// Verdicts beyond the end of the owner's log. They may no longer hold.
const LOST: &str = "state = 'answered' and at > ?1
     and (verdict = 'conflict' and open = 1
          or verdict in ('applied', 'superseded')
             and (about is null or exists (select 1 from intents conflict
                  where conflict.intent_id = it.about and (conflict.open = 1 or conflict.at <= ?1))))
     order by at, seq";

/// A [`LocalIntent`].
const LOCAL: &str = "json_object('intent_id', intent_id, 'order_id', order_id, 'kind', kind, 'arguments', json(arguments),
     'about', about, 'base_version', base_version, 'device_time_ms', device_time_ms, 'state', state, 'tries', tries,
     'verdict', verdict, 'code', code, 'detail', detail, 'current', json(current), 'decision', decision,
     'asked_again', json(iif(asked_again, 'true', 'false')), 'open', json(iif(open, 'true', 'false')))";

/// Of the driver who uses the device. The device neither sends nor shows another driver's intents.
const OURS: &str = "driver_id = (select driver_id from device)";

/// Records what the driver does, with what they had seen of the owner's state.
pub fn insert(
    rows: &Connection,
    id: IntentId,
    lane: &str,
    action: &Action,
    base_version: Version,
    now_ms: i64,
) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into intents (intent_id, seq, order_id, kind, schema_version, arguments, about, base_version,
                              device_time_ms, state, incarnation, seen, seen_at, driver_id)
         select ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, 'unsent', incarnation, feed_token, feed_at, driver_id from device",
    )?
    .execute((
        id.to_string(),
        take_seq(rows)?,
        lane,
        action.kind.as_str(),
        action.schema_version,
        to_json(&action.arguments),
        action.about.map(|id| id.to_string()),
        base_version.get(),
        now_ms,
    ))?;
    Ok(())
}

/// The next number of the device's incarnation.
fn take_seq(rows: &Connection) -> rusqlite::Result<u64> {
    rows.prepare_cached("update device set next_seq = next_seq + 1 returning next_seq - 1")?
        .query_row([], |row| row.get(0))
}

/// The driver's next intents as they travel, oldest first, without the lanes that are held or blocked.
///
/// `after_seq` names the intent before it in its lane that the owner still has to decide. One that has its verdict is not
/// named, because the owner may have it under the number of another incarnation.
pub fn queued(rows: &Connection, held: &[&String], most: usize) -> rusqlite::Result<Vec<Intent>> {
    rows.prepare_cached(&format!(
        "select json_object('intent_id', intent_id, 'seq', seq, 'after_seq',
                (select max(seq) from intents before
                 where before.order_id = it.order_id and before.seq < it.seq
                   and before.incarnation = it.incarnation and before.driver_id = it.driver_id and before.{QUEUED}),
                'order_id', order_id, 'kind', kind, 'schema_version', schema_version, 'arguments', json(arguments),
                'base_version', base_version, 'seen', seen, 'device_time_ms', device_time_ms)
         from intents it
         where {QUEUED} and {OURS} and not {BLOCKED} and order_id not in (select value from json_each(?1))
         order by seq limit ?2"
    ))?
    .query_map((to_json(&held), most), json)?
    .collect()
}

/// How many intents are queued: the driver's, and those that wait for another driver to enrol here again.
pub fn count_queued(rows: &Connection) -> rusqlite::Result<(usize, usize)> {
    rows.prepare_cached(&format!(
        "select count(*) filter (where {OURS}), count(*) filter (where not {OURS}) from intents where {QUEUED}"
    ))?
    .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

/// From now on they may have arrived.
pub fn mark_sent(rows: &Connection, ids: &[IntentId]) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set state = 'sent' where state = 'unsent' and intent_id in (select value from json_each(?1))",
    )?
    .execute([to_json(&ids)])?;
    Ok(())
}

/// Undecided intents of every driver get the numbers of the device's incarnation, in their old order. The ids stay. A
/// failed intent keeps its place among them, because the driver may retry it.
pub fn renumber(rows: &Connection) -> rusqlite::Result<()> {
    let undecided = ids(rows, &format!("{UNDECIDED} order by seq"), [])?;
    number_again(rows, &undecided)
}

fn number_again(rows: &Connection, ids: &[IntentId]) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents
         set state = iif(state = 'gave_up', state, 'unsent'), seq = next_seq + key, incarnation = device.incarnation
         from device, json_each(?1) where intent_id = value",
    )?
    .execute([to_json(&ids)])?;
    rows.execute("update device set next_seq = next_seq + ?1", [ids.len()])?;
    Ok(())
}

fn ids(rows: &Connection, which: &str, with: impl Params) -> rusqlite::Result<Vec<IntentId>> {
    rows.prepare_cached(&format!("select intent_id from intents it where {which}"))?
        .query_map(with, |row| parsed(row, 0))?
        .collect()
}

/// The owner's log ends at `at`, and we hold verdicts beyond it: the owner was restored from a backup, and those verdicts
/// may no longer hold. Intents that had their effect, and open conflicts, are sent again under their old ids, for every
/// driver. An owner that still has them replies `duplicate`.
///
/// They go before the undecided ones, in the order of their verdicts. A decision is sent again only with its conflict:
/// without it the owner would have nothing to decide.
pub fn ask_again(rows: &Connection, at: u64) -> rusqlite::Result<()> {
    let mut again = ids(rows, LOST, [sequence(at)])?;
    if !again.is_empty() {
        let undecided = ids(rows, &format!("{UNDECIDED} order by seq"), [])?;
        reopen(rows, &again)?;
        again.extend(undecided);
        number_again(rows, &again)?;
    }
    // No sequence beyond the log's end counts as seen: the owner would wait until its log reaches it.
    rows.prepare_cached(
        "update intents set seen = null, seen_at = null where state != 'answered' and seen_at > ?1",
    )?
    .execute([sequence(at)])?;
    Ok(())
}

fn reopen(rows: &Connection, ids: &[IntentId]) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents
         set state = 'unsent', verdict = null, at = null, code = null, detail = null, current = null, tries = 0,
             decision = null, decided_by = null, open = 1, asked_again = 1
         where intent_id in (select value from json_each(?1))",
    )?
    .execute([to_json(&ids)])?;
    Ok(())
}

/// Is this an intent of the driver's that still needs a verdict?
pub fn needs_verdict(rows: &Connection, id: IntentId) -> rusqlite::Result<bool> {
    rows.prepare_cached(&format!(
        "select 1 from intents where intent_id = ?1 and state != 'answered' and {OURS}"
    ))?
    .exists([id.to_string()])
}

/// Records a final verdict. An intent that had its effect stays in the overlay until the feed includes it.
pub fn answer(rows: &Connection, id: IntentId, outcome: &Outcome) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents
         set state = 'answered', verdict = outcome ->> 'verdict', at = outcome_at, code = outcome ->> 'code', detail = outcome ->> 'detail',
             current = outcome -> 'current',
             open = outcome ->> 'verdict' not in ('applied', 'superseded') or outcome_at > (select coalesce(feed_at, 0) from device)
         from (select ?2 as outcome, min(?2 ->> 'at', 9223372036854775807) as outcome_at)
         where intent_id = ?1 and state != 'answered'",
    )?
    .execute((id.to_string(), to_json(outcome)))?;
    if let Outcome::Applied { .. } = outcome {
        take_own_decision(rows, id)?;
    }
    close_ended(rows)
}

/// The driver's decision was applied, so the conflict it is about has it.
fn take_own_decision(rows: &Connection, id: IntentId) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set decision = own.decision, decided_by = 'driver'
         from (select about, arguments ->> 'decision' as decision from intents where intent_id = ?1) as own
         where intents.intent_id = own.about and intents.open = 1",
    )?
    .execute([id.to_string()])?;
    Ok(())
}

/// Records a decision about an intent in conflict. It may arrive before the verdict, if the reply with the verdict was
/// lost. A conflict that has ended keeps the decision that ended it.
pub fn decide(rows: &Connection, judged: &Judged) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set decision = ?2, decided_by = ?3 where intent_id = ?1 and open = 1",
    )?
    .execute((judged.intent_id.to_string(), &judged.decision, &judged.by))?;
    close_ended(rows)
}

/// A conflict that the driver insists on waits for the owner, and so does one whose decision this version cannot read.
fn close_ended(rows: &Connection) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set open = 0
         where open = 1 and verdict = 'conflict' and decision in ('accepted', 'upheld', 'dismissed')",
    )?
    .execute([])?;
    Ok(())
}

/// The owner has not decided. Returns how often in a row it gave this reason; `None` for an intent that is not queued.
/// `counts`: this intent is the one its lane waits for, and its wait was kept.
pub fn retry_later(
    rows: &Connection,
    id: IntentId,
    code: &str,
    detail: &str,
    counts: bool,
) -> rusqlite::Result<Option<u32>> {
    rows.prepare_cached(&format!(
        "update intents set state = 'unsent', tries = case when code is ?2 then tries else 0 end + ?4, code = ?2, detail = ?3
         where intent_id = ?1 and {QUEUED} returning tries"
    ))?
    .query_row((id.to_string(), code, detail, counts), |row| row.get(0))
    .optional()
}

/// The device stops sending it. Its lane is blocked until the driver retries or discards it.
pub fn give_up(rows: &Connection, id: IntentId) -> rusqlite::Result<()> {
    rows.prepare_cached(&format!(
        "update intents set state = 'gave_up' where intent_id = ?1 and {QUEUED}"
    ))?
    .execute([id.to_string()])?;
    Ok(())
}

/// Keeps its number, so that it goes before the intents that it blocked. False: it has not failed.
pub fn retry(rows: &Connection, id: IntentId) -> rusqlite::Result<bool> {
    let sql = format!(
        "update intents set state = 'unsent', tries = 0 where intent_id = ?1 and state = 'gave_up' and open = 1 and {OURS}"
    );
    Ok(rows.execute(&sql, [id.to_string()])? > 0)
}

/// The driver has read a refusal, or discards a failed intent. False: it is neither.
pub fn dismiss(rows: &Connection, id: IntentId) -> rusqlite::Result<bool> {
    let sql = format!(
        "update intents set open = 0
         where intent_id = ?1 and open = 1 and (verdict = 'rejected' or state = 'gave_up') and {OURS}"
    );
    Ok(rows.execute(&sql, [id.to_string()])? > 0)
}

/// The feed has reached this sequence: the deliveries include every effect up to it, so those intents leave the overlay.
pub fn settle(rows: &Connection, at: u64) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set open = 0 where open = 1 and verdict in ('applied', 'superseded') and at <= ?1",
    )?
    .execute([sequence(at)])?;
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

/// Removes personal data from conflicts about deliveries that are no longer the driver's. The driver's own words stay.
pub fn strip(rows: &Connection) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update intents set current = json_remove(current, '$.customer', '$.note')
         where current is not null and order_id not in (select order_id from deliveries)",
    )?
    .execute([])?;
    Ok(())
}

/// The driver's open intents, oldest first: of one lane, or of all.
pub fn open(rows: &Connection, lane: Option<OrderId>) -> rusqlite::Result<Vec<LocalIntent>> {
    rows.prepare_cached(&format!(
        "select {LOCAL} from intents where open = 1 and order_id = coalesce(?1, order_id) and {OURS}
         order by incarnation = (select incarnation from device), seq"
    ))?
    .query_map([lane.map(|id| id.to_string())], json)?
    .collect()
}

/// Of the driver.
pub fn find(rows: &Connection, id: IntentId) -> rusqlite::Result<Option<LocalIntent>> {
    rows.prepare_cached(&format!(
        "select {LOCAL} from intents where intent_id = ?1 and {OURS}"
    ))?
    .query_row([id.to_string()], json)
    .optional()
}

/// Does any driver's intent have this id?
pub fn is_taken(rows: &Connection, id: IntentId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from intents where intent_id = ?1")?
        .exists([id.to_string()])
}

/// Is a decision about this conflict queued, or has sending one failed?
pub fn is_deciding(rows: &Connection, about: IntentId) -> rusqlite::Result<bool> {
    rows.prepare_cached(&format!(
        "select 1 from intents where about = ?1 and {UNDECIDED}"
    ))?
    .exists([about.to_string()])
}

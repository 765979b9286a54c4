//! The way up: each intent is judged once, and its verdict is an event beside its effect, in a savepoint of its own.
//!
//! An upload is one transaction. An intent that fails is undone alone and asked for again; only its lane waits.
//!
//! What changes nothing is bounded: a device can neither fill the log nor the disk with it, and each intent costs little,
//! whatever it says. No bound holds a delivery up: refusals about an order are counted by that order and end with a verdict,
//! and only what is about no order of the driver's waits for a budget.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};

use event_schema::sync::{Intent, Kind, Outcome, Upload, Verdict, Verdicts};
use event_schema::{
    DeviceId, DriverId, IncarnationId, IntentRefusedV2, IntentStamp, OrderEvent, OrderId,
    RefusedVerdict, Version, Wanted,
};
use jiff::Timestamp;
use relay::rusqlite;
use relay::{Tx, chain, outbox};
use serde_json::Value;

use super::{FeedToken, delivery};
use crate::domain::{Judgement, Order, Ruling, Unclear, Wish, explain, judge, with_clean_note};
use crate::events::{MakeError, make};
use crate::store::{drivers, history, intents, orders, scopes};

/// Why an upload as a whole is not taken. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The device was copied, or put back from an older copy of itself. Its intents keep their ids and get new places.
    #[error("at place {place} this incarnation had another intent: begin a new incarnation")]
    Forked { place: u64 },
    #[error("the places of its intents do not ascend, or are no places")]
    OutOfOrder,
    /// Since the request was let in.
    #[error("the driver or the device was revoked")]
    Revoked,
    /// Places and versions are numbers of a database, which end before those of JSON do.
    #[error("a place or a version is beyond {}", i64::MAX)]
    BeyondCounting,
    #[error("the orders cannot be read")]
    Database(#[from] rusqlite::Error),
}

/// Whose intents are judged, and when.
struct Bench<'a> {
    tx: &'a Tx<'a>,
    device_id: DeviceId,
    driver_id: DriverId,
    incarnation: IncarnationId,
    /// The places of this upload that were answered for good. A duplicate was written down at the place it first had.
    answered: HashSet<u64>,
    /// Counted once it is needed.
    budget: Option<Budget>,
    now_ms: i64,
}

/// What the device may still say about no order of its driver's.
struct Budget {
    left: u32,
    /// When there is more.
    more_at_ms: i64,
}

/// Why an intent has no verdict yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("{detail}")]
    Wait {
        code: &'static str,
        detail: String,
        after_ms: u64,
    },
    #[error("it could not be written down")]
    Failed(#[from] MakeError),
    #[error("the orders cannot be read")]
    Database(#[from] rusqlite::Error),
}

/// When a device should ask again.
const RETRY_AFTER_MS: u64 = 2_000;
/// Refusals of one device about one order: so many of what would move it, and as many of all else. A driver meets a few.
const REFUSED_OF_ORDER: u32 = 20;
/// Refusals of one device about no order of its driver's, in a day.
const DEVICE_BUDGET: u32 = 500;
/// Those of a driver, with all devices that are theirs.
const DRIVER_BUDGET: u32 = 1_000;
/// The last 24 hours by this service's clock. What it judged while it ran ahead does not count until it is there again.
const BUDGET_MS: i64 = 86_400_000;
/// How long a device without a budget is asked to wait: each of its questions costs something, too.
const BUDGET_RETRY_MS: (i64, i64) = (60_000, 900_000);
/// Of intents that failed, one is an error in the log in so much time.
const SAID_AGAIN_MS: u64 = 60_000;
/// Of a lane or a kind that means nothing here, so many characters are kept.
const KEPT_CHARACTERS: usize = 64;
/// Arguments that are not understood are kept up to so many bytes.
const KEPT_BYTES: usize = 512;

pub fn receive(
    tx: &Tx<'_>,
    device_id: DeviceId,
    driver_id: DriverId,
    upload: Upload,
    now_ms: i64,
) -> Result<Verdicts, UploadError> {
    let Upload {
        incarnation,
        intents,
    } = upload;
    let mut bench = Bench {
        tx,
        device_id,
        driver_id,
        incarnation,
        answered: HashSet::new(),
        budget: None,
        now_ms,
    };
    bench.admit(&intents)?;
    let (mut held, mut verdicts) = (HashSet::new(), Vec::new());
    for intent in intents {
        let (intent_id, place, lane) = (intent.intent_id, intent.seq, intent.order_id.clone());
        let outcome = match held.contains(&lane) {
            true => later(
                "lane_waits",
                "an earlier intent about this order waits",
                RETRY_AFTER_MS,
            ),
            false => bench.answer(intent)?,
        };
        match outcome.is_final() {
            true => drop(bench.answered.insert(place)),
            false => drop(held.insert(lane)),
        }
        verdicts.push(Verdict { intent_id, outcome });
    }
    Ok(Verdicts { verdicts })
}

fn is_beyond_counting(intent: &Intent) -> bool {
    let numbers = [
        Some(intent.seq),
        intent.after_seq,
        Some(intent.base_version.get()),
    ];
    let mut numbers = numbers.into_iter().flatten();
    numbers.any(|number| i64::try_from(number).is_err())
}

impl Bench<'_> {
    /// The device is still its driver's, the upload makes sense, and it comes from the line of the device that was heard
    /// before.
    fn admit(&self, intents: &[Intent]) -> Result<(), UploadError> {
        if !drivers::may_sync(self.tx, self.device_id, self.driver_id)? {
            return Err(UploadError::Revoked);
        }
        if intents.iter().any(is_beyond_counting) {
            return Err(UploadError::BeyondCounting);
        }
        let ascend = intents.is_sorted_by(|one, next| one.seq < next.seq);
        if !ascend || !intents.iter().all(has_a_place) {
            return Err(UploadError::OutOfOrder);
        }
        for intent in intents {
            let known = intents::at(self.tx, self.device_id, self.incarnation, intent.seq)?;
            if known.is_some_and(|known| known != intent.intent_id) {
                return Err(UploadError::Forked { place: intent.seq });
            }
        }
        Ok(())
    }

    /// A full disk ends the whole transaction, and with it the upload; any other failure is this intent's alone.
    fn answer(&mut self, intent: Intent) -> Result<Outcome, UploadError> {
        match self.judge(intent) {
            Ok(outcome) => Ok(outcome),
            Err(NotYet::Wait {
                code,
                detail,
                after_ms,
            }) => Ok(later(code, detail, after_ms)),
            Err(NotYet::Database(error)) if self.tx.is_autocommit() => Err(error.into()),
            Err(failed) => {
                log_failure(&failed, self.now_ms);
                let detail = "the office could not write it down";
                Ok(later("failed", detail, RETRY_AFTER_MS))
            }
        }
    }

    fn judge(&mut self, intent: Intent) -> Result<Outcome, NotYet> {
        if let Some(known) = intents::find(self.tx, intent.intent_id)? {
            return self.known(known);
        }
        if history::has(self.tx, &intent.intent_id.to_string())? {
            return Ok(not_written("intent_id_taken"));
        }
        self.has_seen_enough(&intent)?;
        let order = self.order_in_scope(&intent)?;
        let wish = Wish::read(&intent.kind, intent.schema_version, &intent.arguments);
        match (wish, order) {
            (Ok(wish), Some(order)) => self.rule(&order, wish, intent),
            (Ok(_), None) => self.refuse(None, intent, rejected("order_not_found")),
            (Err(newer @ Unclear::NewerVersion { .. }), _) => {
                Err(wait(newer.code(), newer.to_string()))
            }
            (Err(unclear), order) => {
                self.refuse(order.as_ref(), shortened(intent), rejected(unclear.code()))
            }
        }
    }

    /// What was judged once stays so, also for a device that has another driver by now. Another device's intent of this id
    /// tells nothing of itself.
    fn known(&self, known: intents::Judged) -> Result<Outcome, NotYet> {
        if known.driver_id != self.driver_id && known.device_id != self.device_id {
            return Ok(not_written("intent_id_taken"));
        }
        let first = Box::new(self.outcome(&known)?);
        Ok(Outcome::Duplicate { first })
    }

    fn outcome(&self, judged: &intents::Judged) -> Result<Outcome, NotYet> {
        let code = judged.code.clone().unwrap_or_default();
        let (at, detail) = (judged.seq, explain(&code).to_owned());
        Ok(match judged.verdict.as_str() {
            "applied" => Outcome::Applied { at },
            "superseded" => Outcome::Superseded { at, code, detail },
            "conflict" => Outcome::Conflict {
                at,
                code,
                detail,
                current: self.current(&judged.lane)?,
            },
            _ => Outcome::Rejected { at, code, detail },
        })
    }

    /// The order, while it is this driver's.
    fn current(&self, lane: &str) -> Result<Option<event_schema::sync::Delivery>, NotYet> {
        let Ok(order_id) = lane.parse() else {
            return Ok(None);
        };
        if scopes::has(self.tx, self.driver_id, order_id)? != Some(true) {
            return Ok(None);
        }
        let order = orders::find(self.tx, order_id)?;
        Ok(order.map(|order| delivery(self.tx, order)).transpose()?)
    }

    /// The driver decided on what they saw; whoever judges must have seen as much.
    fn has_seen_enough(&self, intent: &Intent) -> Result<(), NotYet> {
        if let Some(place) = intent.after_seq
            && !self.answered.contains(&place)
            && intents::at(self.tx, self.device_id, self.incarnation, place)?.is_none()
        {
            let detail = format!("intent {place} comes before it and has not arrived");
            return Err(wait("out_of_order", detail));
        }
        let seen = intent.seen.as_deref().map(str::parse::<FeedToken>);
        let (head, _) = outbox::head(self.tx)?;
        match seen {
            // Another driver's place, or no place at all, holds nothing up.
            Some(Ok(seen)) if seen.driver_id == self.driver_id && seen.seq > head => {
                let seen = seen.seq;
                let detail =
                    format!("the driver has seen event {seen} and the office is at {head}");
                Err(wait("not_caught_up", detail))
            }
            _ => Ok(()),
        }
    }

    /// Now or once this driver's. What never was is not told from what does not exist.
    fn order_in_scope(&self, intent: &Intent) -> Result<Option<Order>, NotYet> {
        let Ok(order_id) = intent.order_id.parse::<OrderId>() else {
            return Ok(None);
        };
        match scopes::has(self.tx, self.driver_id, order_id)? {
            Some(_) => Ok(orders::find(self.tx, order_id)?),
            None => Ok(None),
        }
    }

    fn rule(&mut self, order: &Order, wish: Wish, intent: Intent) -> Result<Outcome, NotYet> {
        let conflict = match &wish {
            Wish::DecideConflict { intent_id, .. } => intents::conflict(self.tx, *intent_id)?,
            _ => None,
        };
        let judgement = judge(
            order,
            conflict.as_ref(),
            self.driver_id,
            wish,
            intent.base_version,
            self.stamp(&intent),
            self.now_ms,
        );
        match judgement {
            Judgement::Applied(event) => {
                let at = self.write(*event)?;
                Ok(Outcome::Applied { at })
            }
            Judgement::Refused(ruling) => self.refuse(Some(order), intent, ruling),
        }
    }

    /// `order`: the one it is about, if that is or was the driver's.
    fn refuse(
        &mut self,
        order: Option<&Order>,
        intent: Intent,
        ruling: Ruling,
    ) -> Result<Outcome, NotYet> {
        match order {
            Some(order) if self.is_told_enough(order, &intent.kind)? => {
                return Ok(not_written("too_many_refusals"));
            }
            Some(_) => {}
            None => self.spend()?,
        }
        let lane = order.map(|order| order.id.to_string());
        let intent_id = intent.intent_id;
        let refused = IntentRefusedV2 {
            driver_id: self.driver_id,
            intent: self.stamp(&intent),
            lane: lane.unwrap_or_else(|| beginning(&intent.order_id)),
            verdict: ruling.verdict,
            code: ruling.code.to_owned(),
            status: order.map(|order| order.status.to_string()),
            version: Version::FIRST,
            at_ms: self.now_ms,
            wanted: wanted(intent),
        };
        self.write(OrderEvent::IntentRefusedV2(refused))?;
        self.read_back(intent_id)
    }

    /// Garbage about an order takes nothing from what would move it.
    fn is_told_enough(&self, order: &Order, kind: &str) -> rusqlite::Result<bool> {
        let moves_it = matches!(Kind::of(kind), Kind::PickUp | Kind::Deliver);
        let refused = intents::refused(self.tx, self.device_id, order.id, moves_it)?;
        Ok(refused >= REFUSED_OF_ORDER)
    }

    /// The event that answers an intent.
    fn write(&self, event: OrderEvent) -> Result<u64, NotYet> {
        let tx = self.tx;
        tx.savepoint(|| Ok(make(tx, event)?))
    }

    fn spend(&mut self) -> Result<(), NotYet> {
        let Budget { left, more_at_ms } = match self.budget.take() {
            Some(budget) => budget,
            None => self.count()?,
        };
        let rest = left.checked_sub(1);
        let left = rest.unwrap_or_default();
        self.budget = Some(Budget { left, more_at_ms });
        rest.map(drop).ok_or_else(|| self.spent(more_at_ms))
    }

    /// From the judged intents, so that neither a restart nor a restore begins it again.
    fn count(&self) -> rusqlite::Result<Budget> {
        let last_day = (self.now_ms - BUDGET_MS, self.now_ms);
        let count = |of, id: String, most| {
            let (spent, since_ms) = intents::spent(self.tx, of, &id, last_day, most)?;
            let (left, more_at_ms) = (most - spent, since_ms + BUDGET_MS);
            Ok::<_, rusqlite::Error>(Budget { left, more_at_ms })
        };
        let device = count(
            intents::OF_DEVICE,
            self.device_id.to_string(),
            DEVICE_BUDGET,
        )?;
        let driver = count(
            intents::OF_DRIVER,
            self.driver_id.to_string(),
            DRIVER_BUDGET,
        )?;
        Ok(Budget {
            left: device.left.min(driver.left),
            more_at_ms: match driver.left {
                0 => driver.more_at_ms,
                _ => device.more_at_ms,
            },
        })
    }

    fn spent(&self, more_at_ms: i64) -> NotYet {
        let (least, most) = BUDGET_RETRY_MS;
        let more_at = Timestamp::from_millisecond(more_at_ms).unwrap_or(Timestamp::MAX);
        NotYet::Wait {
            code: "budget_spent",
            detail: format!(
                "this device or its driver has sent too much about what is no order of theirs; more is taken from {more_at} on"
            ),
            after_ms: (more_at_ms - self.now_ms).clamp(least, most).unsigned_abs(),
        }
    }

    fn read_back(&self, intent_id: event_schema::IntentId) -> Result<Outcome, NotYet> {
        let judged = intents::find(self.tx, intent_id)?;
        self.outcome(&judged.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }

    fn stamp(&self, intent: &Intent) -> IntentStamp {
        IntentStamp {
            intent_id: intent.intent_id,
            device_id: self.device_id,
            incarnation: self.incarnation,
            seq: intent.seq,
            device_time_ms: intent.device_time_ms,
        }
    }
}

/// Places begin at 1.
fn has_a_place(intent: &Intent) -> bool {
    intent.seq > 0
}

fn rejected(code: &'static str) -> Ruling {
    let verdict = RefusedVerdict::Rejected;
    Ruling { verdict, code }
}

/// The refusals without an event.
fn not_written(code: &str) -> Outcome {
    Outcome::Rejected {
        at: 0,
        code: code.to_owned(),
        detail: explain(code).to_owned(),
    }
}

/// A device asks again for what failed, as often as it likes: the log gets one error of it in a while.
fn log_failure(failed: &NotYet, now_ms: i64) {
    static LAST_MS: AtomicI64 = AtomicI64::new(i64::MIN);
    let error = chain(failed);
    match is_due(&LAST_MS, now_ms) {
        true => tracing::error!(error, "an intent could not be judged"),
        false => tracing::debug!(error, "an intent could not be judged"),
    }
}

fn is_due(last_ms: &AtomicI64, now_ms: i64) -> bool {
    let due = last_ms.load(Ordering::Relaxed).abs_diff(now_ms) >= SAID_AGAIN_MS;
    if due {
        last_ms.store(now_ms, Ordering::Relaxed);
    }
    due
}

/// What is kept of an intent that is not understood.
fn shortened(intent: Intent) -> Intent {
    let is_short = intent.arguments.to_string().len() <= KEPT_BYTES;
    Intent {
        kind: beginning(&intent.kind),
        arguments: if is_short {
            intent.arguments
        } else {
            Value::Null
        },
        ..intent
    }
}

fn beginning(text: &str) -> String {
    text.chars().take(KEPT_CHARACTERS).collect()
}

fn wanted(intent: Intent) -> Wanted {
    Wanted {
        arguments: with_clean_note(&intent.kind, intent.arguments),
        kind: intent.kind,
        schema_version: intent.schema_version,
        base_version: intent.base_version,
    }
}

fn wait(code: &'static str, detail: String) -> NotYet {
    let after_ms = RETRY_AFTER_MS;
    NotYet::Wait {
        code,
        detail,
        after_ms,
    }
}

fn later(code: &str, detail: impl Into<String>, after_ms: u64) -> Outcome {
    Outcome::RetryLater {
        code: code.to_owned(),
        detail: detail.into(),
        after_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_over_and_over_is_an_error_once_in_a_while() {
        let last_ms = AtomicI64::new(i64::MIN);
        let written = (0..120_000).filter(|now_ms| is_due(&last_ms, *now_ms));
        assert_eq!(written.collect::<Vec<_>>(), [0, 60_000]);
        assert!(is_due(&last_ms, 0), "a clock that was put back");
    }
}

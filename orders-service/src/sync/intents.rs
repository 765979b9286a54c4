//! Uploads: each intent is judged once, in its own savepoint, and its verdict is written with its effect as one event.
//!
//! An upload is one transaction. An intent that fails is rolled back alone, and the device sends it again; only its lane
//! waits.
//!
//! Refused intents are bounded, so that a device can fill neither the log nor the disk. No bound delays a delivery: refusals
//! about an order are counted per order and end with a verdict, and only intents about no order of the driver's wait for a
//! budget.

use std::collections::HashSet;

use event_schema::sync::{self, Kind, Outcome, Upload, Verdicts};
use event_schema::{
    DeviceId, DriverId, IncarnationId, IntentId, IntentRefusedV2, IntentStamp, OrderEvent, OrderId,
    Version, Wanted,
};
use jiff::Timestamp;
use relay::error::chain;
use relay::rusqlite;
use relay::{Tx, outbox};
use serde_json::Value;
use service_kit::may_log;

use super::FeedToken;
use crate::domain::{Act, Intent, InvalidIntent, Order, Verdict, explain, judge, with_clean_note};
use crate::events::{MakeError, make};
use crate::store::intents::IntentRow;
use crate::store::{drivers, history, intents, scopes};

/// Why an upload as a whole is refused. Nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The device was copied, or restored from a backup. Its intents keep their ids and get new numbers.
    #[error("this incarnation already has another intent {seq}: begin a new incarnation")]
    Forked { seq: u64 },
    #[error("number the intents from 1, in ascending order")]
    OutOfOrder,
    /// After the request was authenticated.
    #[error("the driver or the device was revoked")]
    Revoked,
    /// Integers of the database end before those of JSON do.
    #[error("a number or a version is greater than {}", i64::MAX)]
    TooLarge,
    #[error("the orders cannot be read")]
    Database(#[from] rusqlite::Error),
}

/// What the intents of one upload share.
struct Context<'a> {
    tx: &'a Tx<'a>,
    device_id: DeviceId,
    driver_id: DriverId,
    incarnation: IncarnationId,
    /// Intents of this upload that have a final outcome. A duplicate's row may have the number it was first sent with.
    answered: HashSet<u64>,
    /// Counted when it is first needed.
    budget: Option<Budget>,
    now_ms: i64,
}

/// How many more intents about no order of the driver's the device may send.
#[derive(Clone, Copy)]
struct Budget {
    left: u32,
    /// When it grows again.
    more_at_ms: i64,
}

/// Why an intent has no verdict yet.
#[derive(Debug, thiserror::Error)]
enum NotJudged {
    #[error("the device is to send it later")]
    Later(Box<Outcome>),
    #[error("it cannot be written")]
    Failed(#[from] MakeError),
    #[error("the orders cannot be read")]
    Database(#[from] rusqlite::Error),
}

/// When the device should try again.
const RETRY_AFTER_MS: u64 = 2_000;
/// Refusals of one device about one order: 20 of intents that would move it, and 20 of all others. A driver causes few.
const MAX_REFUSALS: u32 = 20;
/// Refusals of one device about no order of its driver's, in a day.
const DEVICE_BUDGET: u32 = 500;
/// Those of a driver, with all their devices.
const DRIVER_BUDGET: u32 = 1_000;
/// The last 24 hours by this service's clock. Verdicts from the future do not count: the clock ran ahead and was set back.
const BUDGET_MS: i64 = 86_400_000;
/// How long a device without budget must wait. Each of its requests costs something, too.
const BUDGET_RETRY_MS: (i64, i64) = (60_000, 900_000);
/// Characters kept of an invalid lane or kind.
const KEPT_CHARACTERS: usize = 64;
/// Invalid arguments are kept up to this size.
const KEPT_BYTES: usize = 512;

pub fn receive(
    tx: &Tx<'_>,
    device_id: DeviceId,
    driver_id: DriverId,
    upload: Upload,
    now_ms: i64,
) -> Result<Verdicts, UploadError> {
    let mut context = Context {
        tx,
        device_id,
        driver_id,
        incarnation: upload.incarnation,
        answered: HashSet::new(),
        budget: None,
        now_ms,
    };
    context.admit(&upload.intents)?;
    let (mut waiting, mut verdicts) = (HashSet::new(), Vec::new());
    for intent in upload.intents {
        let (intent_id, seq, lane) = (intent.intent_id, intent.seq, intent.order_id.clone());
        let outcome = match waiting.contains(&lane) {
            true => later("lane_waits", "an earlier intent about this order waits"),
            false => context.answer(intent)?,
        };
        match outcome.is_final() {
            true => context.answered.insert(seq),
            false => waiting.insert(lane),
        };
        verdicts.push(sync::Verdict { intent_id, outcome });
    }
    Ok(Verdicts { verdicts })
}

impl Context<'_> {
    /// The device still belongs to the driver, the numbers are valid, and the incarnation has not forked.
    fn admit(&self, intents: &[sync::Intent]) -> Result<(), UploadError> {
        if !drivers::may_sync(self.tx, self.device_id, self.driver_id)? {
            return Err(UploadError::Revoked);
        }
        if intents.iter().any(is_too_large) {
            return Err(UploadError::TooLarge);
        }
        let ascend = intents.is_sorted_by(|one, next| one.seq < next.seq);
        if !ascend || intents.iter().any(|intent| intent.seq == 0) {
            return Err(UploadError::OutOfOrder);
        }
        for &sync::Intent { seq, intent_id, .. } in intents {
            let known = intents::at(self.tx, self.device_id, self.incarnation, seq)?;
            if known.is_some_and(|known| known != intent_id) {
                return Err(UploadError::Forked { seq });
            }
        }
        Ok(())
    }

    /// A full disk ends the whole transaction, and with it the upload. Any other failure affects this intent alone.
    fn answer(&mut self, intent: sync::Intent) -> Result<Outcome, UploadError> {
        match self.judge(intent) {
            Ok(outcome) => Ok(outcome),
            Err(NotJudged::Later(outcome)) => Ok(*outcome),
            Err(NotJudged::Database(error)) if self.tx.is_autocommit() => Err(error.into()),
            Err(failed) => {
                if let Some(withheld) = may_log("an intent could not be judged") {
                    let error = chain(&failed);
                    tracing::error!(error, withheld, "an intent could not be judged");
                }
                Ok(later("failed", "orders-service could not write it"))
            }
        }
    }

    fn judge(&mut self, intent: sync::Intent) -> Result<Outcome, NotJudged> {
        if let Some(known) = intents::find(self.tx, intent.intent_id)? {
            return self.duplicate(&known);
        }
        if history::has(self.tx, &intent.intent_id.to_string())? {
            return Ok(without_event("intent_id_taken"));
        }
        self.check_caught_up(&intent)?;
        // An order that never was this driver's looks as if it did not exist.
        let order = match intent.order_id.parse::<OrderId>() {
            Ok(order_id) => scopes::order(self.tx, self.driver_id, order_id)?,
            Err(_) => None,
        };
        let parsed = Intent::parse(&intent.kind, intent.schema_version, &intent.arguments);
        match (parsed, order) {
            (Ok(parsed), Some(order)) => self.apply(&order, parsed, intent),
            (Ok(_), None) => self.refuse(None, intent, Verdict::rejected("order_not_found")),
            (Err(newer @ InvalidIntent::NewerVersion { .. }), _) => Err(NotJudged::Later(
                Box::new(later(newer.code(), newer.to_string())),
            )),
            (Err(invalid), order) => {
                let verdict = Verdict::rejected(invalid.code());
                self.refuse(order.as_ref(), shortened(intent), verdict)
            }
        }
    }

    /// The first verdict stays, even if the device has another driver by now. An intent of another driver on another device
    /// reveals nothing of itself.
    fn duplicate(&self, known: &IntentRow) -> Result<Outcome, NotJudged> {
        if known.driver_id != self.driver_id && known.stamp.device_id != self.device_id {
            return Ok(without_event("intent_id_taken"));
        }
        let first = Box::new(self.outcome(known)?);
        Ok(Outcome::Duplicate { first })
    }

    fn outcome(&self, row: &IntentRow) -> Result<Outcome, NotJudged> {
        let code = row.code.clone().unwrap_or_default();
        let (at, detail) = (row.seq, explain(&code).to_owned());
        Ok(match row.verdict.as_str() {
            "applied" => Outcome::Applied { at },
            "superseded" => Outcome::Superseded { at, code, detail },
            "conflict" => Outcome::Conflict {
                at,
                code,
                detail,
                current: scopes::delivery(self.tx, self.driver_id, &row.lane)?,
            },
            _ => Outcome::Rejected { at, code, detail },
        })
    }

    /// The driver acted on what they saw: this service must have seen it, too.
    fn check_caught_up(&self, intent: &sync::Intent) -> Result<(), NotJudged> {
        if let Some(seq) = intent.after_seq
            && !self.answered.contains(&seq)
            && intents::at(self.tx, self.device_id, self.incarnation, seq)?.is_none()
        {
            let detail = format!("intent {seq} comes before it and has not arrived");
            return Err(NotJudged::Later(Box::new(later("out_of_order", detail))));
        }
        let seen = intent.seen.as_deref().map(str::parse::<FeedToken>);
        let (head, _) = outbox::head(self.tx)?;
        match seen {
            // Another driver's token, or text that is no token, delays nothing.
            Some(Ok(FeedToken { driver_id, seq, .. }))
                if driver_id == self.driver_id && seq > head =>
            {
                let detail =
                    format!("the driver has seen event {seq} and orders-service is at {head}");
                Err(NotJudged::Later(Box::new(later("not_caught_up", detail))))
            }
            _ => Ok(()),
        }
    }

    fn apply(
        &mut self,
        order: &Order,
        parsed: Intent,
        intent: sync::Intent,
    ) -> Result<Outcome, NotJudged> {
        let conflict = match &parsed {
            Intent::DecideConflict { intent_id, .. } => intents::conflict(self.tx, *intent_id)?,
            _ => None,
        };
        let act = self.act(&intent);
        let judged = judge(order, conflict.as_ref(), act, parsed, intent.base_version);
        match judged {
            Ok(event) => Ok(Outcome::Applied {
                at: self.write(event)?,
            }),
            Err(verdict) => self.refuse(Some(order), intent, verdict),
        }
    }

    /// `order`: the one that the intent is about, if it is or was the driver's.
    fn refuse(
        &mut self,
        order: Option<&Order>,
        intent: sync::Intent,
        verdict: Verdict,
    ) -> Result<Outcome, NotJudged> {
        match order {
            Some(order) if self.has_refused_enough(order, &intent.kind)? => {
                return Ok(without_event("too_many_refusals"));
            }
            Some(_) => {}
            None => self.spend()?,
        }
        let lane = order.map(|order| order.id.to_string());
        let (intent_id, act) = (intent.intent_id, self.act(&intent));
        self.write(OrderEvent::IntentRefusedV2(IntentRefusedV2 {
            driver_id: act.driver_id,
            intent: act.intent,
            lane: lane.unwrap_or_else(|| beginning(&intent.order_id)),
            verdict: verdict.kind,
            code: verdict.code.to_owned(),
            status: order.map(|order| order.status.as_str().to_owned()),
            version: Version::FIRST,
            at_ms: act.at_ms,
            wanted: wanted(intent),
        }))?;
        self.read_back(intent_id)
    }

    /// Invalid intents about an order use up nothing of the limit for those that would move it.
    fn has_refused_enough(&self, order: &Order, kind: &str) -> rusqlite::Result<bool> {
        let moves_it = matches!(Kind::of(kind), Kind::PickUp | Kind::Deliver);
        let refusals = intents::refusals(self.tx, self.device_id, order.id, moves_it)?;
        Ok(refusals >= MAX_REFUSALS)
    }

    fn write(&self, event: OrderEvent) -> Result<u64, NotJudged> {
        let tx = self.tx;
        tx.savepoint(|| Ok(make(tx, event)?))
    }

    fn read_back(&self, intent_id: IntentId) -> Result<Outcome, NotJudged> {
        let row = intents::find(self.tx, intent_id)?;
        self.outcome(&row.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }

    fn spend(&mut self) -> Result<(), NotJudged> {
        let budget = match self.budget {
            Some(budget) => budget,
            None => self.count()?,
        };
        let left = budget.left.saturating_sub(1);
        self.budget = Some(Budget { left, ..budget });
        match budget.left {
            0 => Err(self.budget_spent(budget.more_at_ms)),
            _ => Ok(()),
        }
    }

    /// Counted from the rows, so that neither a restart nor a restore resets it. The smaller of the two counts.
    fn count(&self) -> rusqlite::Result<Budget> {
        let last_day = (self.now_ms - BUDGET_MS, self.now_ms);
        let (device, driver) = (self.device_id.to_string(), self.driver_id.to_string());
        let count = |of, id: &str, most| {
            let (spent, since_ms) = intents::spent(self.tx, of, id, last_day, most)?;
            Ok::<_, rusqlite::Error>(Budget {
                left: most - spent,
                more_at_ms: since_ms + BUDGET_MS,
            })
        };
        let device = count(intents::OF_DEVICE, &device, DEVICE_BUDGET)?;
        let driver = count(intents::OF_DRIVER, &driver, DRIVER_BUDGET)?;
        Ok(match device.left < driver.left {
            true => device,
            false => driver,
        })
    }

    fn budget_spent(&self, more_at_ms: i64) -> NotJudged {
        let (least, most) = BUDGET_RETRY_MS;
        let more_at = Timestamp::from_millisecond(more_at_ms).unwrap_or(Timestamp::MAX);
        NotJudged::Later(Box::new(Outcome::RetryLater {
            code: "budget_spent".to_owned(),
            detail: format!(
                "this device or its driver has sent too many intents about orders of other drivers; the next is taken at {more_at}"
            ),
            after_ms: (more_at_ms - self.now_ms).clamp(least, most).unsigned_abs(),
        }))
    }

    fn act(&self, intent: &sync::Intent) -> Act {
        Act {
            driver_id: self.driver_id,
            intent: IntentStamp {
                intent_id: intent.intent_id,
                device_id: self.device_id,
                incarnation: self.incarnation,
                seq: intent.seq,
                device_time_ms: intent.device_time_ms,
            },
            at_ms: self.now_ms,
        }
    }
}

fn is_too_large(intent: &sync::Intent) -> bool {
    let numbers = [
        intent.seq,
        intent.after_seq.unwrap_or(0),
        intent.base_version.get(),
    ];
    numbers.iter().any(|number| i64::try_from(*number).is_err())
}

fn without_event(code: &str) -> Outcome {
    Outcome::Rejected {
        at: 0,
        code: code.to_owned(),
        detail: explain(code).to_owned(),
    }
}

/// What is kept of an invalid intent.
fn shortened(mut intent: sync::Intent) -> sync::Intent {
    intent.kind = beginning(&intent.kind);
    if intent.arguments.to_string().len() > KEPT_BYTES {
        intent.arguments = Value::Null;
    }
    intent
}

fn beginning(text: &str) -> String {
    text.chars().take(KEPT_CHARACTERS).collect()
}

fn wanted(intent: sync::Intent) -> Wanted {
    Wanted {
        arguments: with_clean_note(&intent.kind, intent.arguments),
        kind: intent.kind,
        schema_version: intent.schema_version,
        base_version: intent.base_version,
    }
}

fn later(code: &str, detail: impl Into<String>) -> Outcome {
    Outcome::RetryLater {
        code: code.to_owned(),
        detail: detail.into(),
        after_ms: RETRY_AFTER_MS,
    }
}

//! The way up: each intent is judged once, in a savepoint of its own, and its verdict is an event beside its effect.
//!
//! An upload is one transaction. An intent that fails is undone alone and asked for again; only its lane waits.

use std::collections::HashSet;

use event_schema::sync::{Intent, Outcome, Upload, Verdict, Verdicts};
use event_schema::{
    DeviceId, DriverId, IncarnationId, IntentMisdirected, IntentRefused, IntentStamp, OrderEvent,
    OrderId, RefusedVerdict, Wanted,
};
use relay::rusqlite;
use relay::{Tx, chain, outbox};

use super::{FeedToken, delivery};
use crate::domain::{Driver, Judgement, Order, Ruling, Unclear, Wish, explain, judge};
use crate::events::{MakeError, make};
use crate::store::{drivers, intents, orders, scopes};

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
    now_ms: i64,
}

/// Why an intent has no verdict yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error("{detail}")]
    Wait { code: &'static str, detail: String },
    #[error("it could not be written down")]
    Failed(#[from] MakeError),
    #[error("the orders cannot be read")]
    Database(#[from] rusqlite::Error),
}

/// When a device should ask again.
const RETRY_AFTER_MS: u64 = 2_000;

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
        now_ms,
    };
    bench.admit(&intents)?;
    let (mut held, mut verdicts) = (HashSet::new(), Vec::new());
    for intent in intents {
        let (intent_id, place, lane) = (intent.intent_id, intent.seq, intent.order_id.clone());
        let outcome = match held.contains(&lane) {
            true => later("lane_waits", "an earlier intent about this order waits"),
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
    fn answer(&self, intent: Intent) -> Result<Outcome, UploadError> {
        let answered = self.tx.savepoint(|| self.judge(intent));
        match answered {
            Ok(outcome) => Ok(outcome),
            Err(NotYet::Wait { code, detail }) => Ok(later(code, detail)),
            Err(NotYet::Database(error)) if self.tx.is_autocommit() => Err(error.into()),
            Err(failed) => {
                tracing::error!(error = %chain(&failed), "an intent could not be judged");
                Ok(later("failed", "the office could not write it down"))
            }
        }
    }

    fn judge(&self, intent: Intent) -> Result<Outcome, NotYet> {
        if let Some(known) = intents::find(self.tx, intent.intent_id)? {
            return self.known(known);
        }
        self.has_seen_enough(&intent)?;
        let wish = match Wish::read(&intent.kind, intent.schema_version, &intent.arguments) {
            Ok(wish) => Ok(wish),
            Err(newer @ Unclear::NewerVersion { .. }) => {
                let (code, detail) = (newer.code(), newer.to_string());
                return Err(NotYet::Wait { code, detail });
            }
            Err(unclear) => Err(unclear.code()),
        };
        let Some(order) = self.order_in_scope(&intent)? else {
            let code = match wish {
                Ok(_) => "order_not_found",
                Err(code) => code,
            };
            return self.misdirected(intent, code);
        };
        match wish {
            Ok(wish) => self.rule(&order, wish, intent),
            Err(code) => {
                let verdict = RefusedVerdict::Rejected;
                self.refuse(&order, intent, Ruling { verdict, code })
            }
        }
    }

    /// What was judged once stays so, also for a device that has another driver by now. Another device's intent of this id
    /// tells nothing of itself.
    fn known(&self, known: intents::Judged) -> Result<Outcome, NotYet> {
        if known.driver_id != self.driver_id && known.device_id != self.device_id {
            return Ok(Outcome::Rejected {
                at: 0,
                code: "intent_id_taken".to_owned(),
                detail: explain("intent_id_taken").to_owned(),
            });
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
        let wait = |code, detail| Err(NotYet::Wait { code, detail });
        if let Some(place) = intent.after_seq
            && !self.answered.contains(&place)
            && intents::at(self.tx, self.device_id, self.incarnation, place)?.is_none()
        {
            return wait(
                "out_of_order",
                format!("intent {place} comes before it and has not arrived"),
            );
        }
        let seen = intent.seen.as_deref().map(str::parse::<FeedToken>);
        let (head, _) = outbox::head(self.tx)?;
        match seen {
            // Another driver's place, or no place at all, holds nothing up.
            Some(Ok(seen)) if seen.driver_id == self.driver_id && seen.seq > head => wait(
                "not_caught_up",
                format!(
                    "the driver has seen event {} and the office is at {head}",
                    seen.seq
                ),
            ),
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

    fn rule(&self, order: &Order, wish: Wish, intent: Intent) -> Result<Outcome, NotYet> {
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
                let at = make(self.tx, *event)?;
                Ok(Outcome::Applied { at })
            }
            Judgement::Refused(ruling) => self.refuse(order, intent, ruling),
        }
    }

    fn refuse(&self, order: &Order, intent: Intent, ruling: Ruling) -> Result<Outcome, NotYet> {
        let refused = IntentRefused {
            order_id: order.id,
            driver_id: self.driver_id,
            intent: self.stamp(&intent),
            verdict: ruling.verdict,
            code: ruling.code.to_owned(),
            status: order.status.to_string(),
            version: order.version.next(),
            at_ms: self.now_ms,
            wanted: wanted(intent),
        };
        let intent_id = refused.intent.intent_id;
        make(self.tx, OrderEvent::IntentRefused(refused))?;
        self.read_back(intent_id)
    }

    /// It belongs to no order, so it is told as the driver's.
    fn misdirected(&self, intent: Intent, code: &'static str) -> Result<Outcome, NotYet> {
        let stamp = self.stamp(&intent);
        let intent_id = stamp.intent_id;
        let misdirected = IntentMisdirected {
            driver_id: self.driver_id,
            intent: stamp,
            lane: intent.order_id.clone(),
            wanted: wanted(intent),
            verdict: RefusedVerdict::Rejected,
            code: code.to_owned(),
            version: self.driver()?.version.next(),
            at_ms: self.now_ms,
        };
        make(self.tx, OrderEvent::IntentMisdirected(misdirected))?;
        self.read_back(intent_id)
    }

    fn read_back(&self, intent_id: event_schema::IntentId) -> Result<Outcome, NotYet> {
        let judged = intents::find(self.tx, intent_id)?;
        self.outcome(&judged.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
    }

    fn driver(&self) -> Result<Driver, NotYet> {
        let driver = drivers::find(self.tx, self.driver_id)?;
        Ok(driver.ok_or(rusqlite::Error::QueryReturnedNoRows)?)
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

fn wanted(intent: Intent) -> Wanted {
    Wanted {
        kind: intent.kind,
        schema_version: intent.schema_version,
        arguments: intent.arguments,
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

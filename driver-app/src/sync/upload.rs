//! Uploads intents: the next ones of each lane that is not held, oldest first, and records their verdicts.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use event_schema::IntentId;
use event_schema::sync::{Intent, MAX_INTENTS, Outcome, Upload, Verdict};
use relay::Tx;
use relay::rusqlite::{self, Connection};
use tokio::time::Instant;

use super::{LONGEST_WAIT, Link, Step, growing};
use crate::device::Device;
use crate::owner_api::{OwnerApi, OwnerError};
use crate::status::Part;
use crate::store::device::Identity;
use crate::store::{self, StoreError};

/// Its memory may be lost at any time. The device then tries a little earlier.
pub struct Uploader {
    link: Link,
    /// Intents in one upload; fewer after an upload that the owner could not read.
    most: usize,
    /// Lanes whose next intent the owner has not decided, and until when they wait.
    held: HashMap<String, Instant>,
    /// Lanes whose wait the driver cut short. Another `retry_later` does not count as a try.
    hurried: HashSet<String>,
}

/// Of one upload's body; the owner accepts more.
pub const MAX_UPLOAD_BYTES: usize = 48 * 1024;
/// An intent fails after so many uploads of it alone that the owner could not read, each after a full wait. Any other reason
/// for having no verdict passes by itself, or with an update.
pub const MAX_TRIES: u32 = 20;
/// The longest wait that the device chooses.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// The longest wait that the owner can ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// The device's own code: the owner could not read an upload of this intent alone.
const UPLOAD_REFUSED: &str = "upload_refused";

/// A lane that waits.
struct Hold {
    lane: String,
    tries: u32,
    after: Duration,
    why: String,
}

impl Uploader {
    pub fn new(device: &Device, owner: Arc<OwnerApi>) -> Self {
        Self {
            link: Link::new(Part::Upload, device, owner),
            most: MAX_INTENTS,
            held: HashMap::new(),
            hurried: HashSet::new(),
        }
    }

    /// Sends one upload, if there is something to send.
    pub async fn step(&mut self) -> Step {
        let step = self.send_next().await;
        self.link.finish(step)
    }

    async fn send_next(&mut self) -> Result<Step, StoreError> {
        self.release();
        let (identity, intents) = self.next().await?;
        let Some(token) = identity.usable_token() else {
            return Ok(Step::Idle);
        };
        if intents.is_empty() {
            return Ok(self.rest());
        }
        self.mark_sent(&intents).await?;
        let incarnation = identity.incarnation;
        let upload = Upload {
            incarnation,
            intents,
        };
        let owner = self.link.owner.clone();
        match owner.upload(&token, &upload).await {
            Ok(reply) => {
                self.take(token, reply.date_ms, upload.intents, reply.value)
                    .await?;
                self.most = (self.most * 2).min(MAX_INTENTS);
                Ok(Step::Progress)
            }
            Err(OwnerError::Forked { detail }) => self.fork(&upload, &detail).await,
            Err(error @ OwnerError::Unreadable { .. }) => {
                self.divide(token, upload.intents, &error).await
            }
            Err(error) => self.link.refused(&token, error).await,
        }
    }

    /// Releases the lanes whose wait is over, or all of them when the driver asked to sync now.
    fn release(&mut self) {
        let now = Instant::now();
        self.held.retain(|_, until| *until > now);
        if self.link.take_now() {
            self.hurried.extend(self.held.drain().map(|(lane, _)| lane));
        }
        if self.held.is_empty() {
            self.link.status().set_wait(Part::Lanes, None);
        }
    }

    /// Only held lanes have something to send.
    fn rest(&self) -> Step {
        self.link.status().set_wait(Part::Upload, None);
        let next = self.held.values().min();
        next.map_or(Step::Idle, |until| {
            Step::Wait(until.saturating_duration_since(Instant::now()))
        })
    }

    async fn next(&self) -> Result<(Identity, Vec<Intent>), StoreError> {
        let (held, most) = (self.held.clone(), self.most);
        let read = move |rows: &Connection| {
            let held: Vec<&String> = held.keys().collect();
            let queued = store::intents::queued(rows, &held, most)?;
            Ok((store::device::get(rows)?, fitting(queued)))
        };
        Ok(self.link.db().read(read).await?)
    }

    /// Before the first byte leaves: whatever happens next, the owner may have received them.
    async fn mark_sent(&self, intents: &[Intent]) -> Result<(), StoreError> {
        let ids: Vec<IntentId> = intents.iter().map(|intent| intent.intent_id).collect();
        let write = move |tx: &Tx<'_>| store::intents::mark_sent(tx, &ids);
        self.link.db().write(write).await?;
        self.link.status().changed();
        Ok(())
    }

    /// Records the verdicts, in one transaction.
    async fn take(
        &mut self,
        token: String,
        date_ms: Option<i64>,
        sent: Vec<Intent>,
        verdicts: Vec<Verdict>,
    ) -> Result<(), StoreError> {
        let now_ms = self.link.device.now_ms();
        let lanes = sent.iter().map(|intent| &intent.order_id);
        let hurried = lanes.filter_map(|lane| self.hurried.take(lane)).collect();
        let work = move |tx: &Tx<'_>| {
            store::device::set_contact(tx, now_ms)?;
            record(tx, &sent, &hurried, verdicts)
        };
        let holds = self.link.store(token, date_ms, work).await?;
        holds.into_iter().for_each(|hold| self.hold(hold));
        self.link.status().changed();
        Ok(())
    }

    fn hold(&mut self, hold: Hold) {
        let wait = growing(hold.tries, LONGEST_HOLD).max(hold.after.min(LONGEST_ASKED));
        let why = format!("orders-service asks to wait: {}", hold.why);
        tracing::info!(
            lane = hold.lane,
            tries = hold.tries,
            ?wait,
            why,
            "a lane waits"
        );
        self.held.insert(hold.lane, Instant::now() + wait);
        self.link.status().set_wait(Part::Lanes, Some(why));
    }

    /// The owner could not read the upload. Halving it isolates the bad intent: alone, it holds its lane and in the end fails,
    /// while the others go on.
    async fn divide(
        &mut self,
        token: String,
        sent: Vec<Intent>,
        error: &OwnerError,
    ) -> Result<Step, StoreError> {
        self.most = (sent.len() / 2).max(1);
        if let [intent] = &sent[..] {
            tracing::warn!(why = %error, "orders-service could not read an upload of one intent");
            let (intent_id, outcome) =
                (intent.intent_id, later(UPLOAD_REFUSED, &error.to_string()));
            self.take(token, None, sent, vec![Verdict { intent_id, outcome }])
                .await?;
        } else {
            self.link.reached(None);
        }
        Ok(Step::Progress)
    }

    /// Another file uses this incarnation. This device begins a new one, unless it has just done so.
    async fn fork(&mut self, upload: &Upload, detail: &str) -> Result<Step, StoreError> {
        tracing::warn!(
            detail,
            "a new incarnation begins: the device sends undecided intents again and the feed begins from scratch"
        );
        let device = &self.link.device;
        let (ours, now_ms) = (upload.incarnation, device.now_ms());
        let reason =
            format!("orders-service received data from another copy of this device: {detail}");
        let write = move |tx: &Tx<'_>| match store::device::get(tx)?.incarnation == ours {
            true => store::device::fork(tx, &reason, now_ms),
            false => Ok(()),
        };
        device.database().write(write).await?;
        device.status().changed();
        device.status().feed.wake();
        // If the owner calls every incarnation forked, the device must not ask without a pause.
        Ok(self.link.back_off(LONGEST_WAIT))
    }
}

/// As many as fit into one upload, at least one.
fn fitting(mut intents: Vec<Intent>) -> Vec<Intent> {
    let mut bytes = 0;
    let fits = |intent: &&Intent| {
        bytes += serde_json::to_vec(intent).map_or(0, |json| json.len() + 1);
        bytes <= MAX_UPLOAD_BYTES
    };
    let fitting = intents.iter().take_while(fits).count();
    intents.truncate(fitting.max(1));
    intents
}

/// Records the verdict of each intent, and returns the lanes that have to wait. Only the first undecided intent of a lane
/// counts a try, because the others wait for it; and only if its wait was not cut short.
fn record(
    rows: &Connection,
    sent: &[Intent],
    hurried: &HashSet<String>,
    verdicts: Vec<Verdict>,
) -> rusqlite::Result<Vec<Hold>> {
    let mut outcomes = HashMap::new();
    for Verdict { intent_id, outcome } in verdicts {
        outcomes.entry(intent_id).or_insert(outcome);
    }
    let (mut holds, mut undecided) = (Vec::new(), HashSet::new());
    for intent in sent {
        let outcome = outcomes.remove(&intent.intent_id);
        let outcome =
            outcome.unwrap_or_else(|| later("no_verdict", "orders-service sent no verdict"));
        match outcome.first() {
            Outcome::RetryLater {
                code,
                detail,
                after_ms,
            } => {
                let first = undecided.insert(&intent.order_id);
                let counts = first && !hurried.contains(&intent.order_id);
                let tries = postpone(rows, intent.intent_id, code, detail, counts)?;
                holds.extend(tries.filter(|_| first).map(|tries| Hold {
                    lane: intent.order_id.clone(),
                    tries,
                    after: Duration::from_millis(*after_ms),
                    why: detail.clone(),
                }));
            }
            outcome => store::intents::answer(rows, intent.intent_id, outcome)?,
        }
    }
    for (id, outcome) in outcomes {
        record_unasked(rows, id, outcome.first())?;
    }
    Ok(holds)
}

/// The owner has not decided. Returns its tries; `None` for an intent that does not wait, or now fails.
fn postpone(
    rows: &Connection,
    id: IntentId,
    code: &str,
    why: &str,
    counts: bool,
) -> rusqlite::Result<Option<u32>> {
    let tries = store::intents::retry_later(rows, id, code, why, counts)?;
    if code == UPLOAD_REFUSED && tries.is_some_and(|tries| tries >= MAX_TRIES) {
        tracing::warn!(intent_id = %id, why, "an intent failed after {MAX_TRIES} tries; the driver has to retry or discard it");
        store::intents::give_up(rows, id)?;
        return Ok(None);
    }
    Ok(tries)
}

/// A verdict about an intent that this upload did not contain. It counts if the intent is the driver's.
fn record_unasked(rows: &Connection, id: IntentId, outcome: &Outcome) -> rusqlite::Result<()> {
    let ours = store::intents::needs_verdict(rows, id)?;
    tracing::warn!(intent_id = %id, ours, "orders-service sent a verdict that this upload did not ask for");
    match ours && outcome.is_final() {
        true => store::intents::answer(rows, id, outcome),
        false => Ok(()),
    }
}

fn later(code: &str, detail: &str) -> Outcome {
    let (code, detail, after_ms) = (code.to_owned(), detail.to_owned(), 0);
    Outcome::RetryLater {
        code,
        detail,
        after_ms,
    }
}

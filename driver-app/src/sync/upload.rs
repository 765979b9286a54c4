//! The way up: the next intents of each lane that is not held, oldest first, and what becomes of them.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use event_schema::IntentId;
use event_schema::sync::{Intent, MAX_INTENTS, Outcome, Upload, Verdict};
use relay::Tx;
use relay::rusqlite::{self, Connection};
use tokio::time::Instant;

use super::status::Way;
use super::{Backoff, Step, broken, growing, refused};
use crate::device::Device;
use crate::owner_api::{Owner, Refusal};
use crate::store::device::Identity;
use crate::store::intents::{Answer, Final};
use crate::store::{self, StoreError};

/// Sends what waits. What it keeps in memory may be lost: then it tries a little earlier.
pub struct Uploader {
    device: Device,
    owner: Arc<dyn Owner>,
    /// Intents in one upload. Fewer after one that was too much.
    most: usize,
    /// Lanes whose next intent is not decided yet.
    held: HashMap<String, Instant>,
    /// Lanes that somebody was too impatient to wait for: being asked to wait again counts for nothing.
    hurried: HashSet<String>,
    backoff: Backoff,
    hurries: u64,
}

/// Of one upload's body, below what the owner takes.
pub const MAX_UPLOAD_BYTES: usize = 48 * 1024;
/// Uploads of one intent that were refused as a whole, each after a wait that was kept, before it is given up. Whatever else
/// an owner says instead of a verdict passes by itself, or with an update.
pub const MAX_TRIES: u32 = 20;
/// What a device asks for on its own.
const LONGEST_HOLD: Duration = Duration::from_secs(600);
/// However long the owner asks a lane to wait: longer than it ever does.
const LONGEST_ASKED: Duration = Duration::from_secs(3600);
/// No word of the owner: what this device makes of an intent that it cannot get across.
const UPLOAD_REFUSED: &str = "upload_refused";

/// What is sent together.
struct Chunk {
    identity: Identity,
    intents: Vec<Intent>,
}

/// A lane that waits.
struct Hold {
    lane: String,
    tries: u32,
    after: Duration,
    cannot_be_sent: bool,
    why: String,
}

impl Uploader {
    pub fn new(device: &Device, owner: Arc<dyn Owner>) -> Self {
        Self {
            device: device.clone(),
            owner,
            most: MAX_INTENTS,
            held: HashMap::new(),
            hurried: HashSet::new(),
            backoff: Backoff::default(),
            hurries: device.status.hurries(),
        }
    }

    /// Sends one chunk, if there is something to send.
    pub async fn step(&mut self) -> Step {
        match self.send_next().await {
            Ok(step) => step,
            Err(error) => broken(&self.device, Way::Up, &error, &mut self.backoff),
        }
    }

    async fn send_next(&mut self) -> Result<Step, StoreError> {
        self.let_go();
        let chunk = self.next_chunk().await?;
        let Some(token) = chunk.identity.pass().map(str::to_owned) else {
            return Ok(Step::Idle);
        };
        if chunk.intents.is_empty() {
            return Ok(self.rest());
        }
        self.mark_sent(&chunk.intents).await?;
        let upload = Upload {
            incarnation: chunk.identity.incarnation,
            intents: chunk.intents,
        };
        match self.owner.upload(&token, &upload).await {
            Ok(answer) => {
                self.take(&token, upload.intents, answer.value).await?;
                self.contact(answer.date_ms);
                self.most = (self.most * 2).min(MAX_INTENTS);
                Ok(Step::Progress)
            }
            Err(refusal) => self.refused(&token, upload, refusal).await,
        }
    }

    /// Lanes whose time has come, or all of them when somebody said: now.
    fn let_go(&mut self) {
        let hurries = self.device.status.hurries();
        let now = Instant::now();
        self.held.retain(|_, until| *until > now);
        if std::mem::replace(&mut self.hurries, hurries) != hurries {
            self.hurried.extend(self.held.drain().map(|(lane, _)| lane));
            self.backoff.reset();
        }
        if self.held.is_empty() {
            self.device.status.hold(None);
        }
    }

    /// Nothing is left to send but what is held.
    fn rest(&self) -> Step {
        self.device.status.clear(Way::Up);
        let next = self.held.values().min();
        next.map_or(Step::Idle, |until| {
            Step::Wait(until.saturating_duration_since(Instant::now()))
        })
    }

    async fn next_chunk(&self) -> Result<Chunk, StoreError> {
        let held: HashSet<String> = self.held.keys().cloned().collect();
        let most = self.most;
        let read = move |rows: &Connection| {
            Ok(Chunk {
                identity: store::device::get(rows)?,
                intents: fill(rows, &held, most)?,
            })
        };
        Ok(self.device.db.read(read).await?)
    }

    /// Before the first byte leaves: whatever happens from here on, the owner may know of them.
    async fn mark_sent(&self, intents: &[Intent]) -> Result<(), StoreError> {
        let ids: Vec<IntentId> = intents.iter().map(|intent| intent.intent_id).collect();
        let write = move |tx: &Tx<'_>| {
            ids.iter()
                .try_for_each(|id| store::intents::mark_sent(tx, *id))
        };
        self.device.db.write(write).await?;
        self.device.status.changed();
        Ok(())
    }

    /// The verdicts, in one transaction.
    async fn take(
        &mut self,
        token: &str,
        sent: Vec<Intent>,
        verdicts: Vec<Verdict>,
    ) -> Result<(), StoreError> {
        let (token, now_ms) = (token.to_owned(), self.device.now_ms());
        let hurried = self.take_hurried(&sent);
        let write = move |tx: &Tx<'_>| {
            store::device::set_contact(tx, now_ms)?;
            let accepted_again = store::device::accept(tx, &token)?;
            let holds = rule(tx, &sent, &hurried, verdicts)?;
            Ok((holds, accepted_again))
        };
        let (holds, accepted_again) = self.device.db.write(write).await?;
        holds.into_iter().for_each(|hold| self.hold(hold));
        if accepted_again {
            self.device.ring();
        }
        self.device.status.changed();
        Ok(())
    }

    /// The lanes of these that were asked before their time.
    fn take_hurried(&mut self, sent: &[Intent]) -> HashSet<String> {
        let lanes = sent.iter().map(|intent| &intent.order_id);
        lanes.filter_map(|lane| self.hurried.take(lane)).collect()
    }

    fn hold(&mut self, hold: Hold) {
        let wait = growing(hold.tries, LONGEST_HOLD).max(hold.after.min(LONGEST_ASKED));
        tracing::info!(
            lane = hold.lane,
            tries = hold.tries,
            ?wait,
            why = hold.why,
            "a lane waits"
        );
        self.held.insert(hold.lane, Instant::now() + wait);
        self.device
            .status
            .hold(Some(format!("orders-service asks to wait: {}", hold.why)));
    }

    async fn refused(
        &mut self,
        token: &str,
        upload: Upload,
        refusal: Refusal,
    ) -> Result<Step, StoreError> {
        match refusal {
            Refusal::Forked { detail } => self.fork(&upload, &detail).await,
            Refusal::TooLarge | Refusal::Unreadable { .. } => {
                self.divide(token, upload.intents, &refusal).await
            }
            other => refused(&self.device, Way::Up, token, other, &mut self.backoff).await,
        }
    }

    /// Something in it cannot be sent. What it is shows when it is alone: then it waits, and is given up in the end,
    /// while the others go.
    async fn divide(
        &mut self,
        token: &str,
        mut sent: Vec<Intent>,
        refusal: &Refusal,
    ) -> Result<Step, StoreError> {
        self.most = (sent.len() / 2).max(1);
        if sent.len() == 1 {
            tracing::warn!(why = %refusal, "an upload of one intent was refused as a whole");
            let outcome = later(UPLOAD_REFUSED, refusal.to_string());
            let verdicts = sent.iter().map(|intent| Verdict {
                intent_id: intent.intent_id,
                outcome: outcome.clone(),
            });
            let verdicts = verdicts.collect();
            self.take(token, std::mem::take(&mut sent), verdicts)
                .await?;
        }
        self.contact(None);
        Ok(Step::Progress)
    }

    /// Another file speaks as this incarnation. This one goes on as a new one, unless it has just done so.
    async fn fork(&mut self, upload: &Upload, detail: &str) -> Result<Step, StoreError> {
        tracing::warn!(
            detail,
            "a new incarnation begins: what is unanswered is sent again, the feed from scratch"
        );
        let (ours, now_ms) = (upload.incarnation, self.device.now_ms());
        let reason =
            format!("orders-service has heard another copy of this device's data: {detail}");
        let write = move |tx: &Tx<'_>| match store::device::get(tx)?.incarnation == ours {
            true => store::device::fork(tx, &reason, now_ms),
            false => Ok(()),
        };
        self.device.db.write(write).await?;
        self.device.status.changed();
        self.device.bells().feed.notify_one();
        // An owner that calls every incarnation forked is not asked without end.
        Ok(Step::Wait(self.backoff.next()))
    }

    fn contact(&mut self, date_ms: Option<i64>) {
        self.backoff.reset();
        self.device
            .status
            .heard(Way::Up, self.device.now_ms(), date_ms);
    }
}

/// The oldest first, without the lanes that are held, until a limit is reached.
fn fill(rows: &Connection, held: &HashSet<String>, most: usize) -> rusqlite::Result<Vec<Intent>> {
    let (mut chunk, mut bytes) = (Vec::new(), 0);
    store::intents::waiting(rows, |intent| {
        if held.contains(&intent.order_id) {
            return ControlFlow::Continue(());
        }
        bytes += serde_json::to_vec(&intent).map_or(0, |json| json.len() + 1);
        if !chunk.is_empty() && bytes > MAX_UPLOAD_BYTES {
            return ControlFlow::Break(());
        }
        chunk.push(intent);
        match chunk.len() < most {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    })?;
    Ok(chunk)
}

/// Writes down what became of each intent; answers the lanes that wait. Only the first of a lane that is not decided
/// counts a try: those behind it wait for it, not for themselves. One that was asked before its time counts none.
fn rule(
    rows: &Connection,
    sent: &[Intent],
    hurried: &HashSet<String>,
    verdicts: Vec<Verdict>,
) -> rusqlite::Result<Vec<Hold>> {
    let mut said = HashMap::new();
    for Verdict { intent_id, outcome } in verdicts {
        said.entry(intent_id).or_insert(outcome);
    }
    let (mut holds, mut undecided) = (Vec::new(), HashSet::new());
    for intent in sent {
        let outcome = said.remove(&intent.intent_id).unwrap_or_else(missing);
        if let Some(answer) = answer(outcome.first()) {
            store::intents::answer(rows, intent.intent_id, &answer)?;
        } else if let Outcome::RetryLater {
            code,
            detail,
            after_ms,
        } = outcome.first()
        {
            let first = undecided.insert(intent.order_id.as_str());
            let counts = first && !hurried.contains(&intent.order_id);
            let tries = store::intents::later(rows, intent.intent_id, code, detail, counts)?;
            holds.extend(tries.filter(|_| first).map(|tries| Hold {
                lane: intent.order_id.clone(),
                tries,
                after: Duration::from_millis(*after_ms),
                cannot_be_sent: code == UPLOAD_REFUSED,
                why: detail.clone(),
            }));
        }
    }
    give_up(rows, sent, &mut holds)?;
    said.into_iter()
        .try_for_each(|(id, outcome)| unasked(rows, id, &outcome))?;
    Ok(holds)
}

/// What could not be sent too often is not sent any more. Its lane waits for the driver's word.
fn give_up(rows: &Connection, sent: &[Intent], holds: &mut Vec<Hold>) -> rusqlite::Result<()> {
    let (over, holding): (Vec<_>, Vec<_>) = std::mem::take(holds)
        .into_iter()
        .partition(|hold| hold.cannot_be_sent && hold.tries >= MAX_TRIES);
    *holds = holding;
    for Hold { lane, why, .. } in over {
        let lane_of = |intent: &&Intent| intent.order_id == lane;
        let mut waiting = sent.iter().filter(lane_of);
        let head = waiting.find(|intent| is_undecided(rows, intent.intent_id));
        if let Some(head) = head {
            tracing::warn!(intent_id = %head.intent_id, why, "given up after {MAX_TRIES} tries; its lane waits for the driver");
            store::intents::give_up(rows, head.intent_id)?;
        }
    }
    Ok(())
}

fn is_undecided(rows: &Connection, id: IntentId) -> bool {
    matches!(store::intents::lane_of_open(rows, id), Ok(Some(_)))
}

/// A verdict about an intent that was not sent along. If it is one of ours, it counts.
fn unasked(rows: &Connection, id: IntentId, outcome: &Outcome) -> rusqlite::Result<()> {
    let lane = store::intents::lane_of_open(rows, id)?;
    tracing::warn!(intent_id = %id, ours = lane.is_some(), "a verdict that nobody asked for");
    match (lane, answer(outcome.first())) {
        (Some(_), Some(answer)) => store::intents::answer(rows, id, &answer),
        _ => Ok(()),
    }
}

/// `None`: nothing is decided.
fn answer(outcome: &Outcome) -> Option<Answer> {
    let refused = |verdict, at: &u64, code: &String, detail: &String| Answer {
        verdict,
        at: *at,
        code: Some(code.clone()),
        detail: Some(detail.clone()),
        current: None,
    };
    Some(match outcome {
        Outcome::Applied { at } => Answer {
            verdict: Final::Applied,
            at: *at,
            code: None,
            detail: None,
            current: None,
        },
        Outcome::Superseded { at, code, detail } => refused(Final::Superseded, at, code, detail),
        Outcome::Rejected { at, code, detail } => refused(Final::Rejected, at, code, detail),
        Outcome::Conflict {
            at,
            code,
            detail,
            current,
        } => Answer {
            current: current.clone(),
            ..refused(Final::Conflict, at, code, detail)
        },
        Outcome::Duplicate { .. } | Outcome::RetryLater { .. } => return None,
    })
}

fn missing() -> Outcome {
    later(
        "no_verdict",
        "orders-service has not said what became of it".to_owned(),
    )
}

fn later(code: &str, detail: String) -> Outcome {
    let code = code.to_owned();
    Outcome::RetryLater {
        code,
        detail,
        after_ms: 0,
    }
}

//! `dead-letter`: the events a consumer could not apply, those parked behind them, and their way back.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use relay::{Consumer, Database, DeadLetter, LetterState};
use serde_json::{Value, json};

use super::answer::{Answer, count, moment};
use super::{Change, Look};
use crate::door;
use crate::exit::Outcome;
use crate::operator_api::{Discard, Done, Retry};
use crate::program::Parts;

#[derive(Debug, Subcommand)]
pub(crate) enum Letters {
    /// List them, oldest first
    List {
        /// How many, at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        look: Look,
    },
    /// Show one with its bytes
    Show {
        #[arg(value_name = "SEQ")]
        seq: u64,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        look: Look,
    },
    /// Apply the events of a key again, in order, up to the first that is rejected again
    Retry {
        /// The aggregate's id, as `list` shows it
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        change: Change,
    },
    /// Give up a dead event and apply those parked behind it. Its bytes are kept
    Discard {
        #[arg(value_name = "SEQ")]
        seq: u64,
        /// Why, for whoever reads the audit later
        #[arg(long, value_name = "TEXT")]
        note: String,
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        change: Change,
    },
}

#[derive(Args, Debug)]
pub(crate) struct Of {
    /// Whose they are; may be left out when the service has one consumer
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
}

/// What lies there for one consumer at most is far less.
const ALL: usize = 100_000;

impl Letters {
    pub(super) fn look(&self) -> Look {
        match self {
            Self::List { look, .. } | Self::Show { look, .. } => *look,
            Self::Retry { change, .. } | Self::Discard { change, .. } => change.look,
        }
    }

    pub(super) async fn answer(self, parts: &Parts) -> anyhow::Result<Answer> {
        let name = match &self {
            Self::List { of, .. } | Self::Show { of, .. } => &of.consumer,
            Self::Retry { of, .. } | Self::Discard { of, .. } => &of.consumer,
        };
        let consumer = parts.consumer_or_only(name.as_deref())?;
        match self {
            Self::List { limit, .. } => list(parts, consumer, limit).await,
            Self::Show { seq, .. } => show(parts, consumer, seq).await,
            Self::Retry { key, change, .. } => retry(parts, consumer, key, change.dry_run).await,
            Self::Discard {
                seq, note, change, ..
            } => discard(parts, consumer, Discard { seq, note }, change.dry_run).await,
        }
    }
}

async fn list(parts: &Parts, consumer: &Consumer, limit: usize) -> anyhow::Result<Answer> {
    let (name, file) = (consumer.name(), parts.look().await?);
    let letters = file.read(move |rows| DeadLetter::list(rows, name, limit));
    let letters = letters.await?;
    Ok(listed(consumer, &letters))
}

async fn show(parts: &Parts, consumer: &Consumer, seq: u64) -> anyhow::Result<Answer> {
    let letter = find(parts, consumer, seq).await?;
    let envelope = String::from_utf8_lossy(&letter.envelope);
    let mut json = json_of(&letter);
    json["envelope"] = json!(envelope);
    Ok(Answer::new(json)
        .line("event", format!("{} ({})", letter.seq, letter.event_id))
        .line("type", &letter.event_type)
        .line("key", &letter.key)
        .line("state", state(&letter))
        .line("since", moment(letter.since_ms))
        .line("reason", &letter.reason)
        .line("tried", count(letter.attempts.into(), "time"))
        .line("envelope", envelope))
}

async fn retry(
    parts: &Parts,
    consumer: &Consumer,
    key: String,
    dry_run: bool,
) -> anyhow::Result<Answer> {
    let name = consumer.name();
    let file = parts.look().await?;
    let letters = file.read(move |rows| DeadLetter::list(rows, name, ALL));
    let mut letters = letters.await?;
    letters.retain(|letter| letter.key == key);
    if letters.is_empty() {
        bail!("no event of {key} is set aside for {name}");
    }
    if dry_run {
        let what = count(letters.len() as u64, "event");
        return Ok(listed(consumer, &letters).line("would try", format!("{what}, in this order")));
    }
    let done = match door::find(parts.database()).await? {
        Some((running, _)) => {
            let path = format!("consumers/{name}/retry");
            running.post(&path, &Retry { key }).await?
        }
        None => {
            let db = parts.open().await?;
            let retried = consumer.retry(&db, &key).await;
            closed(&db, retried.map(Done::from)).await?
        }
    };
    Ok(came_of(&done))
}

async fn discard(
    parts: &Parts,
    consumer: &Consumer,
    discard: Discard,
    dry_run: bool,
) -> anyhow::Result<Answer> {
    let (name, seq) = (consumer.name(), discard.seq);
    let letter = find(parts, consumer, seq).await?;
    if letter.state == LetterState::Parked {
        bail!(
            "event {seq} was never tried: it waits behind a dead one of {}, so decide on that first",
            letter.key
        );
    }
    if dry_run {
        let text = format!("event {seq} and then apply those parked behind it");
        return Ok(listed(consumer, &[letter]).line("would give up", text));
    }
    let done = match door::find(parts.database()).await? {
        Some((running, _)) => {
            let path = format!("consumers/{name}/discard");
            running.post(&path, &discard).await?
        }
        None => {
            let db = parts.open().await?;
            let discarded = consumer.discard(&db, seq, &discard.note).await;
            let discarded = closed(&db, discarded).await?;
            discarded
                .with_context(|| format!("event {seq} is dead no more"))?
                .into()
        }
    };
    Ok(came_of(&done).line(
        "given up",
        format!("event {seq}; its bytes are in the audit table"),
    ))
}

/// Whatever came of it, the file is closed in order.
async fn closed<T, E>(db: &Database, done: Result<T, E>) -> Result<T, E> {
    db.close().await;
    done
}

async fn find(parts: &Parts, consumer: &Consumer, seq: u64) -> anyhow::Result<DeadLetter> {
    let name = consumer.name();
    let file = parts.look().await?;
    let found = file.read(move |rows| DeadLetter::find(rows, name, seq));
    (found.await?).with_context(|| format!("event {seq} is not set aside for {name}"))
}

fn listed(consumer: &Consumer, letters: &[DeadLetter]) -> Answer {
    let each: Vec<Value> = letters.iter().map(json_of).collect();
    let mut answer = Answer::new(json!({"consumer": consumer.name(), "letters": each}));
    if letters.is_empty() {
        answer = answer.line(consumer.name(), "no event is set aside");
    }
    for letter in letters {
        let text = format!(
            "{}  {}  {}  {}: {}",
            state(letter),
            moment(letter.since_ms),
            letter.event_type,
            letter.key,
            letter.reason
        );
        answer = answer.line(letter.seq, text);
    }
    answer
}

fn came_of(done: &Done) -> Answer {
    let answer = Answer::new(json!({"applied": done.applied, "stopped_at": done.stopped_at}))
        .line("applied", count(done.applied as u64, "event"));
    match &done.stopped_at {
        None => answer,
        Some((seq, reason)) => answer
            .line("stopped at", format!("event {seq}: {reason}"))
            .ends(Outcome::Differs),
    }
}

fn state(letter: &DeadLetter) -> &'static str {
    match letter.state {
        LetterState::Dead => "dead",
        LetterState::Parked => "parked",
    }
}

fn json_of(letter: &DeadLetter) -> Value {
    json!({
        "seq": letter.seq,
        "event_id": letter.event_id,
        "key": letter.key,
        "event_type": letter.event_type,
        "state": state(letter),
        "reason": letter.reason,
        "attempts": letter.attempts,
        "since": moment(letter.since_ms),
    })
}

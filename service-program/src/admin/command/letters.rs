//! `dead-letter`: lists, retries and discards the events that a consumer could not apply, and those parked behind them.

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use relay::consume::{DeadLetter, LetterState, Retried};
use relay::{Consumer, Database};
use serde_json::{Value, json};

use crate::admin::api::{Discard, Retry};
use crate::admin::command::Change;
use crate::admin::command::answer::{Answer, count, moment};
use crate::admin::setup::Setup;
use crate::process::exit::Outcome;

#[derive(Args, Debug)]
pub(crate) struct Letters {
    /// The consumer. Not needed when the service has only one
    #[arg(long, value_name = "NAME", global = true)]
    consumer: Option<String>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the events, oldest first
    List {
        /// The most events to list
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Show one event with its bytes
    Show {
        #[arg(value_name = "SEQ")]
        seq: u64,
    },
    /// Apply the events of a key again, in order, up to the first that is rejected again
    Retry {
        /// The aggregate's id, as `list` shows it
        #[arg(value_name = "KEY")]
        key: String,
        #[command(flatten)]
        change: Change,
    },
    /// Discard a dead event and apply those parked behind it. The audit keeps its bytes
    Discard {
        #[arg(value_name = "SEQ")]
        seq: u64,
        /// The reason, for the audit
        #[arg(long, value_name = "TEXT")]
        note: String,
        #[command(flatten)]
        change: Change,
    },
}

/// Far more than one consumer can have.
const ALL: usize = 100_000;

impl Letters {
    pub(super) async fn answer(self, setup: &Setup) -> anyhow::Result<Answer> {
        let consumer = setup.consumer_or_only(self.consumer.as_deref())?;
        match self.action {
            Action::List { limit } => Ok(listed(consumer, &read(setup, consumer, limit).await?)),
            Action::Show { seq } => show(setup, consumer, seq).await,
            Action::Retry { key, change } => retry(setup, consumer, key, change).await,
            Action::Discard { seq, note, change } => {
                discard(setup, consumer, Discard { seq, note }, change).await
            }
        }
    }
}

async fn read(setup: &Setup, of: &Consumer, limit: usize) -> anyhow::Result<Vec<DeadLetter>> {
    let (name, file) = (of.name().to_owned(), setup.read_only().await?);
    let letters = file.read(move |rows| DeadLetter::list(rows, &name, limit));
    Ok(letters.await?)
}

async fn find(setup: &Setup, consumer: &Consumer, seq: u64) -> anyhow::Result<DeadLetter> {
    let name = consumer.name();
    let (of, file) = (name.to_owned(), setup.read_only().await?);
    let found = file.read(move |rows| DeadLetter::find(rows, &of, seq));
    (found.await?).with_context(|| format!("{name} has no dead or parked event {seq}"))
}

async fn show(setup: &Setup, consumer: &Consumer, seq: u64) -> anyhow::Result<Answer> {
    let letter = find(setup, consumer, seq).await?;
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
    setup: &Setup,
    consumer: &Consumer,
    key: String,
    Change { dry_run }: Change,
) -> anyhow::Result<Answer> {
    let name = consumer.name();
    let mut letters = read(setup, consumer, ALL).await?;
    letters.retain(|letter| letter.key == key);
    if letters.is_empty() {
        bail!("{name} has no dead or parked event of {key}");
    }
    if dry_run {
        let events = count(letters.len() as u64, "event");
        let text = format!("{events}, in this order");
        return Ok(listed(consumer, &letters).line("would try", text));
    }
    let (path, asked) = (format!("consumers/{name}/retry"), Retry { key });
    let here = async |db: &Database| Ok(consumer.retry(db, &asked.key).await?);
    let retried = setup.by_service_or_here(&path, &asked, here).await?;
    Ok(answer(&retried))
}

async fn discard(
    setup: &Setup,
    consumer: &Consumer,
    asked: Discard,
    Change { dry_run }: Change,
) -> anyhow::Result<Answer> {
    let (name, seq) = (consumer.name(), asked.seq);
    let letter = find(setup, consumer, seq).await?;
    if letter.state == LetterState::Parked {
        let key = &letter.key;
        bail!(
            "event {seq} is parked behind a dead event of {key}: retry or discard that one first"
        );
    }
    if dry_run {
        let text = format!("event {seq} and then apply those parked behind it");
        return Ok(listed(consumer, &[letter]).line("would discard", text));
    }
    let path = format!("consumers/{name}/discard");
    let here = async |db: &Database| {
        let retried = consumer.discard(db, seq, &asked.note).await?;
        retried.with_context(|| format!("event {seq} is no longer a dead letter"))
    };
    let retried = setup.by_service_or_here(&path, &asked, here).await?;
    let text = format!("event {seq}; its bytes are in the audit table");
    Ok(answer(&retried).line("discarded", text))
}

fn listed(consumer: &Consumer, letters: &[DeadLetter]) -> Answer {
    let each: Vec<Value> = letters.iter().map(json_of).collect();
    let answer = Answer::new(json!({"consumer": consumer.name(), "letters": each}));
    if letters.is_empty() {
        return answer.line(consumer.name(), "no dead or parked events");
    }
    letters.iter().fold(answer, |answer, letter| {
        let DeadLetter {
            event_type, key, ..
        } = letter;
        let (state, since, reason) = (state(letter), moment(letter.since_ms), &letter.reason);
        let text = format!("{state}  {since}  {event_type}  {key}: {reason}");
        answer.line(letter.seq, text)
    })
}

fn answer(retried: &Retried) -> Answer {
    let applied = count(retried.applied as u64, "event");
    let answer = Answer::new(json!(retried)).line("applied", applied);
    match &retried.stopped_at {
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

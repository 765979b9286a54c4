//! `rebuild`: a cache is loaded anew from a snapshot of its producer, by the running service or in its place.

use std::time::Duration;

use anyhow::{Context, bail};
use relay::{Consumer, Holds, Progress as Step, chain};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::answer::{Answer, Progress, count, place};
use crate::admin::door::{self, Running};
use crate::admin::operator_api::{ConsumerState, Rebuild, State};
use crate::program::Parts;
use crate::program::exit::Outcome;

/// How often the service is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long no further row may come before nobody waits any more: with nothing known to be wrong, and otherwise.
const MAX_STANDSTILL: Duration = Duration::from_secs(60);
const MAX_TROUBLE: Duration = Duration::from_secs(10);

/// Where it is, and whether its producer still knows that place.
pub(super) async fn plan(parts: &Parts, name: &str) -> anyhow::Result<Answer> {
    let consumer = can_rebuild(parts, name)?;
    let (known, db) = (consumer.clone(), parts.look().await?);
    let at = db.read(move |rows| known.position(rows)).await?;
    let producer = consumer.producer().context("it has a producer")?;
    let (holds, text) = match at {
        None => (Value::Null, "nothing was applied yet".to_owned()),
        Some(at) => match producer.holds(at).await {
            Ok(holds) => (json!(holds), in_words(holds).to_owned()),
            Err(error) => (Value::Null, format!("does not answer: {}", chain(&error))),
        },
    };
    let json = json!({"done": false, "consumer": name, "at": at, "producer_holds": holds, "producer": text});
    Ok(Answer::new(json)
        .line("would load", format!("the cache of {name} anew"))
        .line("it is at", place(at))
        .line("producer", text))
}

pub(super) async fn rebuild(parts: &Parts, name: &str) -> anyhow::Result<Answer> {
    let consumer = can_rebuild(parts, name)?;
    match door::find(parts.database()).await? {
        Some((running, _)) => through_the_door(&running, name).await,
        None => here(parts, consumer).await,
    }
}

fn can_rebuild<'a>(parts: &'a Parts, name: &str) -> anyhow::Result<&'a Consumer> {
    let consumer = parts.consumer(name)?;
    if !consumer.keeps_cache() {
        bail!(
            "{name} keeps no cache, so there is nothing to load: it reacts to events, each in its turn"
        );
    }
    if !consumer.can_rebuild() {
        bail!(
            "{name} was not told where to load a snapshot from: set the producer's address and read token"
        );
    }
    Ok(consumer)
}

fn in_words(holds: Holds) -> &'static str {
    match holds {
        Holds::Yes => "holds that event",
        Holds::No => "does not hold that event: it is another log",
        Holds::Pruned => "does not keep that event any more",
    }
}

async fn here(parts: &Parts, consumer: &Consumer) -> anyhow::Result<Answer> {
    let (from, db) = (parts.reader(consumer)?, parts.open().await?);
    consumer.rebuild();
    let mut follower = consumer.follow(&db, from);
    let step = Box::pin(follower.step()).await;
    let offset = consumer.status().borrow().offset;
    db.close().await;
    match step? {
        Step::Rebuilt(rows) => Ok(loaded(consumer.name(), offset).line("rows", rows)),
        other => bail!("the snapshot was not loaded: {other:?}"),
    }
}

/// The service does it between two of its steps; here somebody waits and sees.
async fn through_the_door(running: &Running, name: &str) -> anyhow::Result<Answer> {
    let path = format!("consumers/{name}/rebuild");
    let before: State = running.post(&path, &Rebuild {}).await?;
    let before = of(&before, name)?;
    check_loads(before)?;
    let rebuilt = before.rebuilt;
    let (progress, mut most, mut moved) = (Progress::new(), 0, Instant::now());
    loop {
        let state = running.state().await?;
        let now = of(&state, name)?;
        if now.rebuilt > rebuilt {
            return Ok(loaded(name, now.offset));
        }
        check_loads(now)?;
        let rows = now.rebuilding.unwrap_or(0);
        if rows > most {
            (most, moved) = (rows, Instant::now());
        }
        let patience = match &now.trouble {
            Some(_) => MAX_TROUBLE,
            None => MAX_STANDSTILL,
        };
        if moved.elapsed() >= patience {
            return Ok(still_waiting(now));
        }
        let rows = count(rows, "row");
        progress.show(format_args!("loading a snapshot: {rows} so far"));
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn of<'a>(state: &'a State, name: &str) -> anyhow::Result<&'a ConsumerState> {
    let found = state.consumers.iter().find(|known| known.name == name);
    found.with_context(|| format!("the service that runs has no consumer {name}"))
}

/// It is asked for once and tried once.
fn check_loads(consumer: &ConsumerState) -> anyhow::Result<()> {
    let ConsumerState {
        name, not_rebuilt, ..
    } = consumer;
    match not_rebuilt {
        Some(why) => {
            bail!("the cache of {name} is as it was, because its snapshot was not loaded: {why}")
        }
        None => Ok(()),
    }
}

fn loaded(name: &str, offset: u64) -> Answer {
    Answer::new(json!({"done": true, "consumer": name, "offset": offset}))
        .line("loaded", format!("the cache of {name} anew"))
        .line("it is at", offset)
}

fn still_waiting(now: &ConsumerState) -> Answer {
    let why = now.trouble.as_deref().unwrap_or("no row came");
    Answer::new(json!({"done": false, "consumer": now.name, "why": why}))
        .line(
            "not yet",
            format!("{why}; the service goes on trying, nobody waits for it here any more"),
        )
        .ends(Outcome::Unknown)
}

//! `rebuild`: reloads a cache from a snapshot of its producer, in the running service or in its place.

use std::time::Duration;

use anyhow::{Context, bail};
use relay::error::chain;
use relay::log::Holds;
use relay::{Consumer, Database};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::admin::api::{Asked, ConsumerState, State};
use crate::admin::command::answer::{Answer, Progress, count, position};
use crate::admin::setup::Setup;
use crate::admin::socket::{self, Running};
use crate::process::exit::Outcome;

/// How often the service is asked for its progress.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long to wait for the next row: while the consumer reports no trouble, and while it does.
const MAX_STANDSTILL: Duration = Duration::from_secs(60);
const MAX_TROUBLE: Duration = Duration::from_secs(10);

pub(super) async fn rebuild(setup: &Setup, name: &str, dry_run: bool) -> anyhow::Result<Answer> {
    let consumer = setup.consumer(name)?;
    if !consumer.keeps_cache() {
        bail!("{name} keeps no cache to reload: it reacts to events, each in its turn");
    }
    if !consumer.can_rebuild() {
        bail!("{name} cannot load a snapshot: set the producer's address and read token");
    }
    if dry_run {
        return plan(setup, consumer).await;
    }
    match socket::find(setup.database()).await? {
        Some((running, _)) => by_service(&running, name).await,
        None => {
            let load = async |db: &_| Box::pin(here(setup, db, consumer)).await;
            setup.exclusively(load).await
        }
    }
}

/// Shows the position, and whether the producer still holds it.
async fn plan(setup: &Setup, consumer: &Consumer) -> anyhow::Result<Answer> {
    let (name, known, db) = (consumer.name(), consumer.clone(), setup.read_only().await?);
    let at = db.read(move |rows| known.position(rows)).await?;
    let producer = consumer.producer().context("it has a producer")?;
    let (holds, text) = match at {
        None => (Value::Null, "nothing is applied yet".to_owned()),
        Some(at) => match producer.holds(at).await {
            Ok(holds) => (json!(holds), in_words(holds).to_owned()),
            Err(error) => (Value::Null, format!("does not answer: {}", chain(&error))),
        },
    };
    let json = json!({"done": false, "consumer": name, "at": at, "producer_holds": holds, "producer": text});
    Ok(Answer::new(json)
        .line("would load", format!("a snapshot into the cache of {name}"))
        .line("it is at", position(at))
        .line("producer", text))
}

fn in_words(holds: Holds) -> &'static str {
    match holds {
        Holds::Yes => "holds that event",
        Holds::No => "does not hold that event: it is another log",
        Holds::Pruned => "does not keep that event any more",
    }
}

async fn here(setup: &Setup, db: &Database, consumer: &Consumer) -> anyhow::Result<Answer> {
    let mut follower = consumer.follow(db, setup.reader(consumer)?);
    consumer.rebuild();
    match follower.step().await? {
        relay::consume::Progress::Rebuilt(rows) => {
            let offset = consumer.status().borrow().offset;
            Ok(loaded(consumer.name(), offset).line("rows", rows))
        }
        other => bail!("the snapshot was not loaded: {other:?}"),
    }
}

/// Asks the service, which loads the snapshot between two steps, and waits for the result.
async fn by_service(running: &Running, name: &str) -> anyhow::Result<Answer> {
    let path = format!("consumers/{name}/rebuild");
    let asked: Asked = running.post(&path, &()).await?;
    check_loads(name, asked.not_rebuilt.as_deref())?;
    let (progress, mut most, mut moved) = (Progress, 0, Instant::now());
    loop {
        let ConsumerState { status, .. } = state_of(running.state().await?, name)?;
        if status.rebuilt > asked.rebuilt {
            return Ok(loaded(name, status.offset));
        }
        check_loads(name, status.not_rebuilt.as_deref())?;
        let rows = status.rebuilding.unwrap_or(0);
        if rows > most {
            (most, moved) = (rows, Instant::now());
        }
        let patience = match &status.trouble {
            Some(_) => MAX_TROUBLE,
            None => MAX_STANDSTILL,
        };
        if moved.elapsed() >= patience {
            let why = status.trouble.unwrap_or_else(|| "no row came".to_owned());
            return Ok(still_waiting(name, &why));
        }
        let rows = count(rows, "row");
        progress.show(format_args!("loading a snapshot: {rows} so far"));
        sleep(ASK_EVERY).await;
    }
}

fn state_of(state: State, name: &str) -> anyhow::Result<ConsumerState> {
    let mut consumers = state.consumers.into_iter();
    let found = consumers.find(|known| known.name == name);
    found.with_context(|| format!("the running service has no consumer {name}"))
}

/// The service makes one attempt for each request.
fn check_loads(name: &str, not_rebuilt: Option<&str>) -> anyhow::Result<()> {
    match not_rebuilt {
        Some(why) => bail!("the cache of {name} is unchanged, its snapshot was not loaded: {why}"),
        None => Ok(()),
    }
}

fn loaded(name: &str, offset: u64) -> Answer {
    Answer::new(json!({"done": true, "consumer": name, "offset": offset}))
        .line("loaded", format!("a snapshot into the cache of {name}"))
        .line("it is at", offset)
}

fn still_waiting(name: &str, why: &str) -> Answer {
    let text = format!("{why}; the service goes on trying, this command stops waiting");
    Answer::new(json!({"done": false, "consumer": name, "why": why}))
        .line("not yet", text)
        .ends(Outcome::Unknown)
}

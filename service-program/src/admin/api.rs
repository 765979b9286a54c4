//! What a running service does for its operator: it reports its state, reloads a cache, and retries or discards dead
//! letters. Only the admin socket serves it; the commands of the same program are its clients.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract;
use axum::middleware::from_fn;
use axum::routing::{get, post};
use relay::Consumer;
use relay::consume::{ConsumerStatus, Retried};
use relay::publish::{RelayState, RelayStatus};
use serde::{Deserialize, Serialize};

use service_kit::{Json, Path, Problem, codes};
use service_kit::{Monitor, trace};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Why writes are refused; null while they are accepted.
    pub(crate) refuses_writes: Option<String>,
    /// What is wrong with the disk; null while nothing is.
    pub(crate) disk: Option<String>,
    /// What the relay is doing, as a sentence.
    pub(crate) relay: Option<String>,
    /// What its last contact found: a case of docs/reconciliation.md.
    pub(crate) case: Option<String>,
    /// What the broker refuses while events are still published; null while it refuses nothing.
    pub(crate) trouble: Option<String>,
    /// How full the stream is; null while that is not known.
    pub(crate) stream_room: Option<StreamRoom>,
    pub(crate) consumers: Vec<ConsumerState>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct StreamRoom {
    pub(crate) bytes: u64,
    pub(crate) max_bytes: u64,
    pub(crate) nearly_full: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ConsumerState {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) status: ConsumerStatus,
}

/// Retries the dead and parked events of a key, in order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    pub(crate) key: String,
}

/// Discards a dead event.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discard {
    pub(crate) seq: u64,
    pub(crate) note: String,
}

/// The answer to the request for a rebuild.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked {
    /// How many snapshots were loaded before. The load is done once the state reports one more.
    pub(crate) rebuilt: u64,
    /// Why the load failed, if it has failed already.
    pub(crate) not_rebuilt: Option<String>,
}

#[derive(Clone)]
struct Service {
    monitor: Monitor,
    consumers: Arc<[Consumer]>,
}

pub(crate) fn routes(monitor: Monitor, consumers: Vec<Consumer>) -> Router {
    let consumers = consumers.into();
    Router::new()
        .route("/state", get(state))
        .route("/consumers/{name}/rebuild", post(rebuild))
        .route("/consumers/{name}/retry", post(retry))
        .route("/consumers/{name}/discard", post(discard))
        .layer(from_fn(trace::accompany))
        .with_state(Service { monitor, consumers })
}

async fn state(extract::State(service): extract::State<Service>) -> Json<State> {
    let Service { monitor, consumers } = service;
    let relay = monitor.relay();
    let case = relay.as_ref().and_then(|relay| relay.case);
    Json(State {
        case: case.map(|case| case.name().to_owned()),
        disk: monitor.db().disk().trouble(),
        trouble: relay.as_ref().and_then(|relay| relay.trouble.clone()),
        stream_room: relay.as_ref().and_then(StreamRoom::of),
        refuses_writes: monitor.db().gate().reason().map(str::to_owned),
        relay: relay.map(|relay| in_words(relay.state)),
        consumers: consumers.iter().map(ConsumerState::of).collect(),
    })
}

/// A mistake in the program ends the service during the load. Waiting this long lets the answer carry the reason.
const SOON: Duration = Duration::from_secs(2);

async fn rebuild(
    extract::State(service): extract::State<Service>,
    Path(name): Path<String>,
) -> Result<Json<Asked>, Problem> {
    let consumer = service.consumer(&name)?;
    if !consumer.can_rebuild() {
        let detail = format!("{name} has no source to load a snapshot from");
        return Err(Problem::new(codes::NO_PRODUCER, detail));
    }
    let mut status = consumer.status();
    let rebuilt = status.borrow().rebuilt;
    consumer.rebuild();
    let ended = status.wait_for(|now| now.rebuilt > rebuilt || now.not_rebuilt.is_some());
    let _in_time = tokio::time::timeout(SOON, ended).await;
    let not_rebuilt = consumer.status().borrow().not_rebuilt.clone();
    Ok(Json(Asked {
        rebuilt,
        not_rebuilt,
    }))
}

async fn retry(
    extract::State(service): extract::State<Service>,
    Path(name): Path<String>,
    Json(Retry { key }): Json<Retry>,
) -> Result<Json<Retried>, Problem> {
    let (consumer, db) = (service.consumer(&name)?, service.monitor.db());
    Ok(Json(consumer.retry(db, &key).await?))
}

async fn discard(
    extract::State(service): extract::State<Service>,
    Path(name): Path<String>,
    Json(Discard { seq, note }): Json<Discard>,
) -> Result<Json<Retried>, Problem> {
    let (consumer, db) = (service.consumer(&name)?, service.monitor.db());
    let retried = consumer.discard(db, seq, &note).await?;
    retried.map(Json).ok_or_else(|| {
        let detail = format!("no dead event of {name} has the number {seq}");
        Problem::new(codes::LETTER_NOT_FOUND, detail)
    })
}

impl Service {
    fn consumer(&self, name: &str) -> Result<&Consumer, Problem> {
        let found = self.consumers.iter().find(|known| known.name() == name);
        found.ok_or_else(|| {
            let detail = format!("this service has no consumer {name}");
            Problem::new(codes::CONSUMER_NOT_FOUND, detail)
        })
    }
}

impl StreamRoom {
    fn of(relay: &RelayStatus) -> Option<Self> {
        let (bytes, max_bytes) = relay.stream_bytes?;
        Some(Self {
            bytes,
            max_bytes,
            nearly_full: relay.is_nearly_full(),
        })
    }
}

impl ConsumerState {
    fn of(consumer: &Consumer) -> Self {
        Self {
            name: consumer.name().to_owned(),
            status: consumer.status().borrow().clone(),
        }
    }
}

fn in_words(state: RelayState) -> String {
    match state {
        RelayState::Publishing => "publishing".to_owned(),
        RelayState::Importing => "importing events from its stream".to_owned(),
        RelayState::Connecting(why) => format!("not connected: {why}"),
        RelayState::Stuck(why) => format!("not publishing: {why}"),
        RelayState::Halted(_) => "halted".to_owned(),
    }
}

//! What a running service does for its operator: tells how it fares, loads a cache anew, and lets dead letters back in or
//! gives them up. Behind the door's token; the commands of the same program are the clients.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract;
use axum::routing::{get, post};
use relay::{Consumer, RelayState, RelayStatus, Retried};
use serde::{Deserialize, Serialize};

use crate::bearer::Guard;
use crate::{Json, Monitor, Path, Problem, codes};

/// How the service fares.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Why writes are refused; null while they are taken.
    pub(crate) refuses_writes: Option<String>,
    /// What is wrong with the disk, in words; null while all is well.
    #[serde(default)]
    pub(crate) disk: Option<String>,
    /// What the relay does, in words.
    pub(crate) relay: Option<String>,
    /// What its last contact found: a case of docs/reconciliation.md.
    pub(crate) case: Option<String>,
    /// What the broker refuses although events are published; null while all is well.
    #[serde(default)]
    pub(crate) trouble: Option<String>,
    /// How full the stream is; null while that is not known.
    #[serde(default)]
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
    pub(crate) offset: u64,
    /// Null while that is not known.
    pub(crate) stream_head: Option<u64>,
    /// Why nothing is applied; null while all is well.
    pub(crate) trouble: Option<String>,
    /// While a snapshot comes in: the rows that have come.
    pub(crate) rebuilding: Option<u64>,
    /// Snapshots loaded since the start.
    pub(crate) rebuilt: u64,
    /// Why the last snapshot was not loaded; null since one is asked for or was loaded.
    #[serde(default)]
    pub(crate) not_rebuilt: Option<String>,
}

/// Asks for a new snapshot: no more than the consumer's name, which is in the path.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rebuild {}

/// Lets a key's dead and parked events back in, in order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    pub(crate) key: String,
}

/// Gives a dead event up.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Discard {
    pub(crate) seq: u64,
    pub(crate) note: String,
}

/// What a retry or a discard achieved.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Done {
    /// Events applied now.
    pub(crate) applied: usize,
    /// The event that was not, and why, if one is left.
    pub(crate) stopped_at: Option<(u64, String)>,
}

#[derive(Clone)]
struct Service {
    monitor: Monitor,
    consumers: Arc<Vec<Consumer>>,
}

pub(crate) fn routes(monitor: Monitor, consumers: Vec<Consumer>, guard: Guard) -> Router {
    let consumers = Arc::new(consumers);
    let routes = Router::new()
        .route("/operator/state", get(state))
        .route("/operator/consumers/{name}/rebuild", post(rebuild))
        .route("/operator/consumers/{name}/retry", post(retry))
        .route("/operator/consumers/{name}/discard", post(discard))
        .with_state(Service { monitor, consumers });
    guard.before(routes)
}

async fn state(extract::State(service): extract::State<Service>) -> Json<State> {
    Json(service.state())
}

/// A load that fails for a mistake of the program ends the service: its cause goes out with this answer, or never.
const SOON: Duration = Duration::from_secs(2);

/// Answers how the service fares right before: when `rebuilt` has grown, it is done. Only `not_rebuilt` is what came since.
async fn rebuild(
    extract::State(service): extract::State<Service>,
    Path(name): Path<String>,
    Json(Rebuild {}): Json<Rebuild>,
) -> Result<Json<State>, Problem> {
    let consumer = service.consumer(&name)?;
    if !consumer.can_rebuild() {
        let detail = format!("{name} was not told where to load a snapshot from");
        return Err(Problem::new(codes::NO_PRODUCER, detail));
    }
    let mut answer = service.state();
    let mut status = consumer.status();
    let rebuilt = status.borrow().rebuilt;
    consumer.rebuild();
    let ended = status.wait_for(|now| now.rebuilt > rebuilt || now.not_rebuilt.is_some());
    let _in_time = tokio::time::timeout(SOON, ended).await;
    for known in answer
        .consumers
        .iter_mut()
        .filter(|known| known.name == name)
    {
        known
            .not_rebuilt
            .clone_from(&consumer.status().borrow().not_rebuilt);
    }
    Ok(Json(answer))
}

async fn retry(
    extract::State(service): extract::State<Service>,
    Path(name): Path<String>,
    Json(Retry { key }): Json<Retry>,
) -> Result<Json<Done>, Problem> {
    let consumer = service.consumer(&name)?;
    let retried = consumer.retry(service.monitor.db(), &key).await?;
    Ok(Json(retried.into()))
}

async fn discard(
    extract::State(service): extract::State<Service>,
    Path(name): Path<String>,
    Json(Discard { seq, note }): Json<Discard>,
) -> Result<Json<Done>, Problem> {
    let (consumer, db) = (service.consumer(&name)?, service.monitor.db());
    let retried = consumer.discard(db, seq, &note).await?;
    let retried = retried.ok_or_else(|| {
        let detail = format!("no dead event of {name} has the number {seq}");
        Problem::new(codes::LETTER_NOT_FOUND, detail)
    })?;
    Ok(Json(retried.into()))
}

impl Service {
    fn consumer(&self, name: &str) -> Result<&Consumer, Problem> {
        let found = self.consumers.iter().find(|known| known.name() == name);
        found.ok_or_else(|| {
            let detail = format!("this service has no consumer {name}");
            Problem::new(codes::CONSUMER_NOT_FOUND, detail)
        })
    }

    fn state(&self) -> State {
        let relay = self.monitor.relay();
        let case = relay.as_ref().and_then(|relay| relay.case);
        State {
            case: case.map(|case| case.name().to_owned()),
            disk: self.monitor.db().disk().trouble(),
            trouble: relay.as_ref().and_then(|relay| relay.trouble.clone()),
            stream_room: relay.as_ref().and_then(StreamRoom::of),
            refuses_writes: self.monitor.db().gate().reason().map(str::to_owned),
            relay: relay.map(|relay| in_words(relay.state)),
            consumers: self.consumers.iter().map(ConsumerState::of).collect(),
        }
    }
}

impl StreamRoom {
    fn of(relay: &RelayStatus) -> Option<Self> {
        let (bytes, max_bytes) = relay.stream_bytes?;
        let nearly_full = relay.is_nearly_full();
        Some(Self {
            bytes,
            max_bytes,
            nearly_full,
        })
    }
}

impl ConsumerState {
    fn of(consumer: &Consumer) -> Self {
        let status = consumer.status().borrow().clone();
        Self {
            name: consumer.name().to_owned(),
            offset: status.offset,
            stream_head: status.stream_head,
            trouble: status.trouble,
            rebuilding: status.rebuilding,
            rebuilt: status.rebuilt,
            not_rebuilt: status.not_rebuilt,
        }
    }
}

impl From<Retried> for Done {
    fn from(retried: Retried) -> Self {
        let Retried {
            applied,
            stopped_at,
        } = retried;
        Self {
            applied,
            stopped_at,
        }
    }
}

fn in_words(state: RelayState) -> String {
    match state {
        RelayState::Publishing => "publishing".to_owned(),
        RelayState::Importing => "taking over events from its stream".to_owned(),
        RelayState::Connecting(why) => format!("not connected: {why}"),
        RelayState::Stuck(why) => format!("not publishing: {why}"),
        RelayState::Halted(_) => "halted".to_owned(),
    }
}

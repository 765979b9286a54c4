//! The device: opens its file, and records what the driver does.

use std::path::Path;
use std::sync::Arc;

use event_schema::sync::{Delivery, Enrolled};
use event_schema::{IntentId, OrderId, Version};
use relay::environment::Environment;
use relay::error::ReadError;
use relay::rusqlite::{self, Connection};
use relay::{Database, Options, Tx, WriteError};

use crate::MIGRATIONS;
use crate::domain::{self, Action, LocalIntent, Verdict};
use crate::status::Status;
use crate::store::device::Identity;
use crate::store::{self, StoreError};

/// An open device; clones share it.
#[derive(Clone)]
pub struct Device {
    db: Database,
    status: Arc<Status>,
    clock: Arc<dyn Environment>,
}

/// Everything that the page shows, as of one moment.
#[derive(Debug)]
pub struct View {
    pub identity: Identity,
    pub deliveries: Vec<Delivery>,
    /// Open ones.
    pub intents: Vec<LocalIntent>,
    /// Queued intents of other drivers, until they enrol here again.
    pub others_unsent: usize,
}

/// Why the driver cannot do this.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no such {0} on this device")]
    NotFound(&'static str),
    #[error("a delivery that is {status} does not allow {kind}")]
    NotPossible { kind: String, status: String },
    #[error("{0}")]
    NotOpen(&'static str),
    #[error("this key belongs to another action; draw a new one for each")]
    KeyReused,
    #[error(
        "{MAX_QUEUED} actions wait already. Connect this device so that it can send them, then try again"
    )]
    QueueFull,
    #[error(transparent)]
    Rows(#[from] rusqlite::Error),
}

/// Intents in a driver's queue, at most.
pub const MAX_QUEUED: usize = 10_000;

/// A device emits no events, so it has no stream. A file that may be an older copy of itself therefore need not wait until it
/// has met its stream: it begins a new incarnation (`start`).
pub fn database(clock: Arc<dyn Environment>) -> Options {
    Options {
        environment: clock,
        readers: 2,
        open_without_stream: true,
        on_disk_failure: service_program::on_disk_failure(),
        ..Options::new("driver-app", "DEVICE", MIGRATIONS)
    }
}

impl Device {
    /// Opens the device's file, or creates it. A file that is a copy, or an older copy of itself, begins a new
    /// incarnation.
    pub async fn open(path: &Path, clock: Arc<dyn Environment>) -> Result<Self, StoreError> {
        let db = Database::open(path, database(clock.clone())).await?;
        let now_ms = clock.now().as_millisecond();
        let identity = db.write(move |tx| start(tx, now_ms)).await?;
        let status = Arc::new(Status::new(identity.last_contact_ms));
        Ok(Self { db, status, clock })
    }

    pub fn database(&self) -> &Database {
        &self.db
    }

    /// By the device's clock, which may be wrong by years. It is never compared with the owner's.
    pub fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Everything at once, in one read transaction.
    pub async fn view(&self) -> Result<View, ReadError<rusqlite::Error>> {
        let read = |rows: &Connection| {
            Ok(View {
                identity: store::device::get(rows)?,
                deliveries: store::deliveries::list(rows)?,
                intents: store::intents::open(rows, None)?,
                others_unsent: store::intents::count_queued(rows)?.1,
            })
        };
        self.db.read(read).await
    }

    /// The driver does something with a delivery.
    pub async fn act(
        &self,
        id: OrderId,
        action: Action,
        key: Option<IntentId>,
    ) -> Result<IntentId, WriteError<Refused>> {
        self.record(action, key, Some(id), move |tx, action| {
            let delivery = store::deliveries::find(tx, id)?.ok_or(Refused::NotFound("delivery"))?;
            let seen = domain::overlay(&delivery, &store::intents::open(tx, Some(id))?);
            if !domain::allows(&seen, &action.kind) {
                let (kind, status) = (action.kind.as_str().to_owned(), seen.status);
                return Err(Refused::NotPossible { kind, status });
            }
            Ok((id.to_string(), delivery.version))
        })
        .await
    }

    /// The driver decides about a conflict: an intent like any other.
    pub async fn decide(
        &self,
        about: IntentId,
        decision: Action,
        key: Option<IntentId>,
    ) -> Result<IntentId, WriteError<Refused>> {
        self.record(decision, key, None, move |tx, decision| {
            let conflict = undecided(tx, about, decision)?;
            let current = conflict.current.map(|current| current.version);
            Ok((conflict.order_id, current.unwrap_or(conflict.base_version)))
        })
        .await
    }

    /// Records an intent. It is on disk when this returns; the upload sends it when it can. With a key, which becomes the
    /// intent's id, it is recorded once however often the request arrives. `ground` finds its lane and base version.
    async fn record(
        &self,
        action: Action,
        key: Option<IntentId>,
        lane: Option<OrderId>,
        ground: impl FnOnce(&Connection, &Action) -> Result<(String, Version), Refused> + Send + 'static,
    ) -> Result<IntentId, WriteError<Refused>> {
        let now_ms = self.now_ms();
        self.write(move |tx| {
            if let Some(id) = key
                && is_recorded(tx, id, &action, lane)?
            {
                return Ok(id);
            }
            let (lane, base_version) = ground(tx, &action)?;
            if store::intents::count_queued(tx)?.0 >= MAX_QUEUED {
                return Err(Refused::QueueFull);
            }
            let id = key.unwrap_or_else(IntentId::new);
            store::intents::insert(tx, id, &lane, &action, base_version, now_ms)?;
            Ok(id)
        })
        .await
    }

    /// The driver has read why something was refused, or discards what failed.
    pub async fn dismiss(&self, id: IntentId) -> Result<(), WriteError<Refused>> {
        self.write(move |tx| match store::intents::dismiss(tx, id)? {
            true => Ok(()),
            false => Err(Refused::NotFound("refusal")),
        })
        .await
    }

    /// Sends a failed intent again.
    pub async fn retry(&self, id: IntentId) -> Result<(), WriteError<Refused>> {
        self.write(move |tx| {
            if store::intents::retry(tx, id)? {
                return Ok(());
            }
            match store::intents::find(tx, id)?.and_then(|intent| intent.verdict) {
                Some(Verdict::Rejected) => Err(Refused::NotOpen(
                    "orders-service refused it for good; only failed actions can be retried",
                )),
                _ => Err(Refused::NotFound("refusal")),
            }
        })
        .await
    }

    /// Stores a credential, and asks for everything that has happened since.
    pub async fn enrol(&self, enrolled: Enrolled) -> Result<(), WriteError<rusqlite::Error>> {
        let write = move |tx: &Tx<'_>| store::device::enrol(tx, &enrolled);
        self.db.write(write).await?;
        self.status.forget_failures();
        self.status.sync_now();
        Ok(())
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, WriteError<Refused>> {
        let done = self.db.write(work).await?;
        self.status.changed();
        self.status.upload.wake();
        Ok(done)
    }
}

/// Creates the device's row, or begins a new incarnation if the library found the file to be a copy. The library's note
/// survives a crash between opening the file and this.
fn start(tx: &Tx<'_>, now_ms: i64) -> rusqlite::Result<Identity> {
    match store::device::find(tx)? {
        None => store::device::create(tx)?,
        Some(identity) if identity.is_copy => {
            let reason = "this device's data was copied or restored";
            tracing::warn!(
                reason,
                "a new incarnation begins: the device sends undecided intents again and the feed begins from scratch"
            );
            store::device::fork(tx, reason, now_ms)?;
        }
        Some(_) => {}
    }
    store::device::get(tx)
}

/// Did a request with this key record this very action?
fn is_recorded(
    rows: &Connection,
    key: IntentId,
    action: &Action,
    lane: Option<OrderId>,
) -> Result<bool, Refused> {
    let is_same = |intent: &LocalIntent| {
        (&intent.kind, &intent.arguments) == (&action.kind, &action.arguments)
            && lane.is_none_or(|lane| intent.order_id == lane.to_string())
    };
    match store::intents::find(rows, key)? {
        Some(intent) if is_same(&intent) => Ok(true),
        None if !store::intents::is_taken(rows, key)? => Ok(false),
        _ => Err(Refused::KeyReused),
    }
}

/// A conflict that the driver may decide like this. A driver who insisted may still accept, until the owner has decided.
fn undecided(rows: &Connection, id: IntentId, decision: &Action) -> Result<LocalIntent, Refused> {
    let found = store::intents::find(rows, id)?;
    let conflict = found.filter(|intent| intent.verdict == Some(Verdict::Conflict));
    let conflict = conflict.ok_or(Refused::NotFound("conflict"))?;
    if store::intents::is_deciding(rows, id)? {
        return Err(Refused::NotOpen("your decision about it waits to be sent"));
    }
    if !conflict.open {
        return Err(Refused::NotOpen("the conflict is decided and over"));
    }
    if conflict.decision.as_deref() == decision.arguments["decision"].as_str() {
        return Err(Refused::NotOpen("you have decided this already"));
    }
    Ok(conflict)
}

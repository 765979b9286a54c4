//! The device: its file, opened as what it is, and what the driver does with it.

use std::path::Path;
use std::sync::Arc;

use event_schema::sync::{Delivery, Enrolled};
use event_schema::{IntentId, OrderId};
use relay::rusqlite::{self, Connection};
use relay::{Database, Environment, Gate, OpenError, Options, ReadError, Tx, WriteError};
use tokio::sync::Notify;

use crate::MIGRATIONS;
use crate::domain::{self, Action, DriverDecision, NotPossible, Said};
use crate::store::device::Identity;
use crate::store::intents::{Final, NewIntent, Shown, State};
use crate::store::{self, StoreError};
use crate::sync::status::Status;

/// An open device; clones share it.
#[derive(Clone)]
pub struct Device {
    pub(crate) db: Database,
    pub(crate) status: Arc<Status>,
    clock: Arc<dyn Environment>,
    bells: Arc<Bells>,
}

/// Wake those who wait. A bell that nobody waits for is heard by the next who does.
#[derive(Default)]
pub(crate) struct Bells {
    /// There is something to send.
    pub(crate) upload: Notify,
    /// The feed is to be asked anew.
    pub(crate) feed: Notify,
}

/// Everything a driver is to see, as of one moment.
#[derive(Debug)]
pub struct View {
    pub identity: Identity,
    pub deliveries: Vec<Delivery>,
    pub intents: Vec<Shown>,
    /// Unanswered ones of others, which wait for them to enrol here again.
    pub others_unsent: u64,
}

/// Why the driver cannot do this.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no such {0} on this device")]
    NotFound(&'static str),
    #[error(transparent)]
    NotPossible(#[from] NotPossible),
    #[error("{0}")]
    NotOpen(&'static str),
    #[error("this key belongs to another action; draw a new one for each")]
    KeyReused,
    #[error("{MAX_WAITING} actions wait already; they must be sent before more are taken")]
    QueueFull,
    #[error(transparent)]
    Rows(#[from] rusqlite::Error),
}

/// Unanswered intents, at most.
pub const MAX_WAITING: u64 = 10_000;

/// What the file is for. Nothing is emitted on a device, so its stream never exists.
pub fn database(clock: Arc<dyn Environment>) -> Options {
    Options {
        environment: clock,
        readers: 2,
        on_disk_failure: service_kit::on_disk_failure(),
        ..Options::new("driver-app", "DEVICE", MIGRATIONS)
    }
}

impl Device {
    /// Opens the device's file, or makes it. A file that is a copy, or an older self, begins a new incarnation.
    pub async fn open(path: &Path, clock: Arc<dyn Environment>) -> Result<Self, OpenDeviceError> {
        let db = open_for_writing(path, &clock).await?;
        let this = Self {
            db,
            status: Arc::new(Status::new()),
            clock,
            bells: Arc::default(),
        };
        let now_ms = this.now_ms();
        let started = this.db.write(move |tx| start(tx, now_ms)).await;
        let identity = started.map_err(StoreError::from)?;
        this.status.begin(identity.last_contact_ms);
        Ok(this)
    }

    pub fn database(&self) -> &Database {
        &self.db
    }

    pub async fn close(&self) {
        self.db.close().await;
    }

    /// By the device's clock, which may be wrong by years: said, never compared with the owner's.
    pub fn now_ms(&self) -> i64 {
        self.clock.now().as_millisecond()
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    /// Everything at once, in one read transaction.
    pub async fn view(&self) -> Result<View, ReadError<rusqlite::Error>> {
        self.db
            .read(|rows| {
                Ok(View {
                    identity: store::device::get(rows)?,
                    deliveries: store::deliveries::list(rows)?,
                    intents: store::intents::shown(rows)?,
                    others_unsent: store::intents::count_others_waiting(rows)?,
                })
            })
            .await
    }

    /// The driver does something with a delivery. It is on disk when this answers, and sent when it can be. With a key,
    /// which becomes the intent's id, it is done once however often it is asked.
    pub async fn act(
        &self,
        id: OrderId,
        action: Action,
        key: Option<IntentId>,
    ) -> Result<IntentId, WriteError<Refused>> {
        let now_ms = self.now_ms();
        self.write(move |tx| {
            if let Some(done) = done_before(tx, key, &action.said(), |shown| {
                shown.lane == id.to_string()
            })? {
                return Ok(done);
            }
            let told = store::deliveries::find(tx, id)?.ok_or(Refused::NotFound("delivery"))?;
            let pending = pending_of(tx, id)?;
            let said = domain::decide(&domain::overlay(&told, &pending), &action)?;
            insert(
                tx,
                NewIntent {
                    id: key.unwrap_or_else(IntentId::new),
                    lane: id.to_string(),
                    said,
                    about: None,
                    base_version: told.version,
                    device_time_ms: now_ms,
                },
            )
        })
        .await
    }

    /// The driver decides about a conflict: an intent like any other.
    pub async fn decide(
        &self,
        about: IntentId,
        decision: DriverDecision,
        key: Option<IntentId>,
    ) -> Result<IntentId, WriteError<Refused>> {
        let now_ms = self.now_ms();
        self.write(move |tx| {
            let said = decision.said(about);
            if let Some(done) = done_before(tx, key, &said, |shown| shown.about == Some(about))? {
                return Ok(done);
            }
            let conflict = undecided(tx, about, &decision)?;
            let seen = conflict.current.as_ref().map(|current| current.version);
            insert(
                tx,
                NewIntent {
                    id: key.unwrap_or_else(IntentId::new),
                    lane: conflict.lane,
                    said,
                    about: Some(about),
                    base_version: seen.unwrap_or(conflict.base_version),
                    device_time_ms: now_ms,
                },
            )
        })
        .await
    }

    /// The driver has read why something was refused.
    pub async fn dismiss(&self, id: IntentId) -> Result<(), WriteError<Refused>> {
        self.write(move |tx| match store::intents::dismiss(tx, id)? {
            true => Ok(()),
            false => Err(Refused::NotFound("refusal")),
        })
        .await
    }

    /// What was given up is tried again.
    pub async fn retry(&self, id: IntentId) -> Result<(), WriteError<Refused>> {
        self.write(move |tx| {
            if store::intents::retry(tx, id)? {
                return Ok(());
            }
            let found = store::intents::find(tx, id)?.filter(|shown| shown.verdict == Some(Final::Rejected));
            Err(found.map_or(Refused::NotFound("refusal"), |_| {
                Refused::NotOpen("orders-service has refused it for good; only what was given up can be tried again")
            }))
        })
        .await
    }

    /// Takes a credential, and asks for everything that has happened since.
    pub async fn enrol(&self, enrolled: Enrolled) -> Result<(), WriteError<rusqlite::Error>> {
        let write = move |tx: &Tx<'_>| store::device::enrol(tx, &enrolled);
        self.db.write(write).await?;
        self.status.forget_troubles();
        self.ring();
        Ok(())
    }

    /// Try now: whatever waits for a better moment does not wait any longer.
    pub fn ring(&self) {
        self.status.hurry();
        self.bells.upload.notify_one();
        self.bells.feed.notify_one();
    }

    pub(crate) fn bells(&self) -> &Bells {
        &self.bells
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Tx<'_>) -> Result<T, Refused> + Send + 'static,
    ) -> Result<T, WriteError<Refused>> {
        let done = self.db.write(work).await?;
        self.status.changed();
        self.bells.upload.notify_one();
        Ok(done)
    }
}

/// Why the device could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenDeviceError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Start(#[from] StoreError),
}

/// The library closes the gate of a file that may be an older copy of itself until it has met its stream. A device has
/// none: it begins a new incarnation instead (`start`), so its gate is opened.
async fn open_for_writing(
    path: &Path,
    clock: &Arc<dyn Environment>,
) -> Result<Database, OpenError> {
    let db = Database::open(path, database(clock.clone())).await?;
    if let Gate::MustImport(_) = db.gate() {
        db.close().await;
        let options = Options {
            open_without_stream: true,
            ..database(clock.clone())
        };
        return Database::open(path, options).await;
    }
    Ok(db)
}

/// Makes the device's row, or begins a new incarnation if the file was found to be a copy since the last one began. The
/// library's note of that outlives a kill between opening the gate and this.
fn start(tx: &Tx<'_>, now_ms: i64) -> rusqlite::Result<Identity> {
    let marks = store::device::marks(tx)?;
    match store::device::find(tx)? {
        None => store::device::create(tx, marks)?,
        Some(known) if known.marks_seen < marks => {
            let reason = "this device's data was copied or restored";
            tracing::warn!(
                reason,
                "a new incarnation begins: what is unanswered is sent again, the feed from scratch"
            );
            store::device::fork(tx, reason, now_ms)?;
            store::device::account_for_marks(tx, marks)?;
        }
        Some(_) => {}
    }
    store::device::get(tx)
}

fn pending_of(rows: &Connection, id: OrderId) -> rusqlite::Result<Vec<domain::Pending>> {
    let shown = store::intents::shown_of(rows, id)?;
    Ok(shown
        .iter()
        .filter(|shown| shown.is_pending())
        .map(Shown::pending)
        .collect())
}

/// The intent with this key, if it is the same one.
fn done_before(
    rows: &Connection,
    key: Option<IntentId>,
    said: &Said,
    about_the_same: impl Fn(&Shown) -> bool,
) -> Result<Option<IntentId>, Refused> {
    let Some(id) = key else { return Ok(None) };
    let same = |shown: &Shown| {
        shown.kind == said.kind.as_str()
            && shown.arguments == said.arguments
            && about_the_same(shown)
    };
    match store::intents::find(rows, id)? {
        Some(shown) if same(&shown) => Ok(Some(id)),
        None if !store::intents::is_taken(rows, id)? => Ok(None),
        _ => Err(Refused::KeyReused),
    }
}

fn insert(rows: &Connection, intent: NewIntent) -> Result<IntentId, Refused> {
    if store::intents::count_waiting(rows)? >= MAX_WAITING {
        return Err(Refused::QueueFull);
    }
    Ok(store::intents::insert(rows, &intent)?)
}

/// A conflict that the driver may decide like this. Who has insisted may still give in, until the office has decided.
fn undecided(rows: &Connection, id: IntentId, decision: &DriverDecision) -> Result<Shown, Refused> {
    let found = store::intents::find(rows, id)?;
    let conflict = found
        .filter(|shown| shown.verdict == Some(Final::Conflict) && shown.state == State::Answered);
    let conflict = conflict.ok_or(Refused::NotFound("conflict"))?;
    if store::intents::is_deciding(rows, id)? {
        return Err(Refused::NotOpen("a decision about it is on its way"));
    }
    match conflict.decision.as_deref() {
        Some(last) if domain::ends_conflict(last) => {
            Err(Refused::NotOpen("it is decided, and the conflict is over"))
        }
        Some(last) if last == decision.as_str() => {
            Err(Refused::NotOpen("this was decided already"))
        }
        _ => Ok(conflict),
    }
}

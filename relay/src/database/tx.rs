//! The open transaction, as the work inside it sees it.

use std::cell::RefCell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use rusqlite::Connection;

use super::{Context, head};
use crate::error::ApplyError;
use crate::event::trace::Trace;
use crate::event::{Envelope, Open};

/// A write transaction. SQL comes through `Deref`, events go through [`Tx::emit`]; it exists only inside
/// `Database::write`, so an event without a transaction cannot be written down.
pub struct Tx<'a> {
    rows: Rows<'a>,
    context: &'a Context,
    /// The event that a reaction is reacting to: what it emits names it.
    cause: RefCell<Option<Answering>>,
    /// The request that what is emitted comes from.
    trace: RefCell<Trace>,
}

/// An event that a reaction is reacting to.
struct Answering {
    cause: String,
    /// Whether something was emitted for it already.
    has_emitted: bool,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(connection: &'a Connection, context: &'a Context) -> Self {
        Self {
            rows: Rows(connection),
            context,
            cause: RefCell::default(),
            trace: RefCell::default(),
        }
    }

    /// The same transaction without `emit`.
    pub fn rows(&self) -> &Rows<'a> {
        &self.rows
    }

    pub(crate) fn context(&self) -> &Context {
        self.context
    }

    /// The last sequence of the service's log as this transaction sees it: after an `emit` that event's.
    ///
    /// # Errors
    ///
    /// An SQLite error when the read fails; on a transaction that has already failed, any read does.
    pub fn head(&self) -> rusqlite::Result<u64> {
        head::seq(self)
    }

    /// Unix time in milliseconds.
    pub fn now_ms(&self) -> u64 {
        self.context.environment.now_ms()
    }

    /// The cause that an event names, and whether an earlier event has named it already.
    pub(crate) fn next_cause(&self) -> Option<(String, bool)> {
        let mut answering = self.cause.borrow_mut();
        let answering = answering.as_mut()?;
        let earlier = std::mem::replace(&mut answering.has_emitted, true);
        Some((answering.cause.clone(), earlier))
    }

    /// Runs `work`; what it emits names `cause`.
    pub(crate) fn caused_by<T>(&self, cause: Option<String>, work: impl FnOnce() -> T) -> T {
        let answering = cause.map(|cause| Answering {
            cause,
            has_emitted: false,
        });
        let before = self.cause.replace(answering);
        let done = work();
        self.cause.replace(before);
        done
    }

    pub(crate) fn trace(&self) -> Trace {
        self.trace.borrow().clone()
    }

    /// What is emitted from now on came from this request. Every write begins by saying so: many share one transaction.
    pub(crate) fn set_trace(&self, trace: Trace) {
        self.trace.replace(trace);
    }

    /// What the owner sealed into an event of its own. Other services' sealed parts stay closed.
    pub(crate) fn open_sealed(
        &self,
        envelope: &Envelope<'_>,
    ) -> Result<Option<Vec<u8>>, ApplyError> {
        let (key, sealed) = match (&envelope.sealedkey, &envelope.sealed) {
            (None, None) => return Ok(None),
            (Some(key), Some(sealed)) => (key, sealed),
            _ => {
                return Err(ApplyError::Fatal(
                    "half of its sealed part is missing".to_owned(),
                ));
            }
        };
        let keys = self.context.keys.as_ref().ok_or_else(|| {
            ApplyError::Fatal("it has a sealed part, and this program has no key file".to_owned())
        })?;
        let open = Open {
            id: envelope.id,
            event_type: &envelope.event_type,
            subject: &envelope.subject,
            data: envelope.data.get(),
        };
        let opened = keys.open_sealed(open, key, sealed);
        opened
            .map(Some)
            .map_err(|error| ApplyError::Fatal(error.to_string()))
    }

    /// Runs `work` in a savepoint: what it did, emitted events included, is kept together or not at all. After a panic it is
    /// undone, and the panic goes on.
    ///
    /// # Errors
    ///
    /// The error of `work`, whose changes are then undone; or an SQLite error when `work` has ended the transaction itself, or
    /// the savepoint cannot be made.
    pub fn savepoint<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.still_open()?; // or the savepoint would be a transaction of its own, and its release a commit
        self.command("savepoint relay_inner")?;
        let done = catch_unwind(AssertUnwindSafe(work));
        let kept = matches!(done, Ok(Ok(_)));
        match (self.end_savepoint(kept), done) {
            (_, Err(panic)) => resume_unwind(panic),
            (ended, Ok(result)) => {
                ended?;
                result
            }
        }
    }

    /// Savepoints share one name, and so each must end before the one around it: one that cannot takes the transaction along.
    fn end_savepoint(&self, kept: bool) -> rusqlite::Result<()> {
        self.still_open()?;
        let undone = match kept {
            true => Ok(()),
            false => self.command("rollback to relay_inner"),
        };
        let ended = undone.and_then(|()| self.command("release relay_inner"));
        if ended.is_err() && !self.is_autocommit() {
            self.command("rollback")?;
        }
        ended
    }

    /// On a full disk or a failed read SQLite rolls the whole transaction back by itself. What is executed after that
    /// would commit on its own, statement by statement: nothing may be.
    pub(crate) fn still_open(&self) -> rusqlite::Result<()> {
        if !self.is_autocommit() {
            return Ok(());
        }
        let aborted = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT);
        let why = "the transaction ended inside a write".to_owned();
        Err(rusqlite::Error::SqliteFailure(aborted, Some(why)))
    }

    /// A statement without rows, parsed once: it runs for every event and every write.
    pub(crate) fn command(&self, sql: &'static str) -> rusqlite::Result<()> {
        self.prepare_cached(sql)?.execute([]).map(drop)
    }
}

impl Deref for Tx<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.rows.0
    }
}

/// What a projection gets: rows, and no way to emit. Replaying a projection cannot emit.
pub struct Rows<'a>(&'a Connection);

impl Deref for Rows<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

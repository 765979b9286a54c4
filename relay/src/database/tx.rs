//! The open transaction, as the work inside it sees it.

use std::ops::Deref;

use rusqlite::Connection;

use super::Identity;

/// A write transaction. SQL comes through `Deref`, events go through [`Tx::emit`]; it exists only inside
/// `Database::write`, so an event without a transaction cannot be written down.
pub struct Tx<'a> {
    rows: Rows<'a>,
    identity: &'a Identity,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(connection: &'a Connection, identity: &'a Identity) -> Self {
        Self {
            rows: Rows(connection),
            identity,
        }
    }

    /// The same transaction without `emit`.
    pub fn rows(&self) -> &Rows<'a> {
        &self.rows
    }

    pub(crate) fn identity(&self) -> &Identity {
        self.identity
    }

    /// Runs `work` in a savepoint: what it did is kept together or not at all.
    pub(crate) fn savepoint<T, E: From<rusqlite::Error>>(
        &self,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.command("savepoint inner")?;
        let result = work();
        self.still_open()?;
        if result.is_err() {
            self.command("rollback to inner")?;
        }
        self.command("release inner")?;
        result
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

/// What a projection gets: rows, and no way to emit. Replaying it cannot tell the world anything.
pub struct Rows<'a>(&'a Connection);

impl Deref for Rows<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

//! A database opened read-only, without its lock: for operators' commands, whether the service runs or not.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::database::threaded::Threaded;
use crate::database::{Options, open};
use crate::error::{OpenError, ReadError};
use crate::event::EventId;
use crate::log::{Origin, Position};
use crate::outbox;
use crate::publish::readers::{self, ReportedReader};

/// An open file that is never written through this handle.
pub struct ReadOnly {
    rows: Threaded,
    path: PathBuf,
}

/// The state of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which database and epoch it is.
    pub origin: Origin,
    /// Why it may be an older copy of itself, if there is a sign of that.
    pub must_import: Option<String>,
    /// The oldest event kept, and the last.
    pub first: u64,
    /// The last event; `None` while the log is empty.
    pub last: Option<Position>,
    /// Every consumer with an offset here.
    pub consumers: Vec<Offset>,
    /// Readers of its log that report to it how far they have come.
    pub readers: Vec<ReportedReader>,
    /// Dead and parked events, of all consumers.
    pub dead_letters: u64,
    /// Events that are in no log any more.
    pub quarantined: u64,
    /// What was done to it other than by its service, newest first; at most twenty.
    pub audit: Vec<Audited>,
}

/// How far a consumer is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Offset {
    /// Its name.
    pub consumer: String,
    /// The stream that it follows.
    pub stream: String,
    /// The last event that it has applied.
    pub at: Position,
    /// The epoch of the producer in which that event was emitted.
    pub epoch: u32,
}

/// Something done to a database other than by its service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What was done: `new epoch`, `reader dropped`.
    pub action: String,
    /// With which values, or the note of the operator.
    pub detail: String,
}

impl ReadOnly {
    /// Opens a file that its service has opened before. Refuses what [`Database::open`](crate::Database::open) refuses.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: there is no such file, it is another service's, or its schema is older than this program needs.
    pub async fn open(path: &Path, options: &Options) -> Result<Self, OpenError> {
        let (rows, path) = open::open_read_only(path.to_owned(), options.clone()).await?;
        let rows = Threaded::new(rows);
        Ok(Self { rows, path })
    }

    /// The file, with every link followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Runs `work` on a connection that cannot write.
    ///
    /// # Errors
    ///
    /// [`ReadError::Work`] with the error of `work`; [`ReadError::Closed`] when `work` has panicked before.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, ReadError<rusqlite::Error>> {
        let read = self.rows.call(move |rows| work(rows)).await;
        read.map_err(|_| ReadError::Closed)?
            .map_err(ReadError::Work)
    }

    /// The id of an event in the outbox; `None` when it is not kept.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn event_id(&self, seq: u64) -> Result<Option<EventId>, ReadError<rusqlite::Error>> {
        self.read(move |rows| outbox::event_id(rows, seq)).await
    }

    /// Closes the file. Dropped instead, it closes a little later, and an owner that ends meanwhile leaves its WAL.
    pub async fn close(self) {
        if let Err(error) = self.rows.close().await {
            tracing::warn!(%error, "a reader did not close cleanly");
        }
    }

    /// The state of the database: what `status` prints.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub async fn report(&self) -> Result<Report, ReadError<rusqlite::Error>> {
        self.read(report).await
    }
}

fn report(rows: &Connection) -> rusqlite::Result<Report> {
    let ends = outbox::ends(rows)?;
    let count = |sql: &str| rows.query_row(sql, [], |row| row.get(0));
    Ok(Report {
        must_import: rows.query_row("select must_import from relay_identity", [], |row| {
            row.get(0)
        })?,
        first: ends.first,
        last: ends.last.map(|id| Position { seq: ends.seq, id }),
        origin: ends.origin,
        consumers: offsets(rows)?,
        readers: readers::all(rows)?,
        dead_letters: count("select count(*) from relay_dead_letter")?,
        quarantined: count("select count(*) from relay_set_aside")?,
        audit: audit(rows)?,
    })
}

fn offsets(rows: &Connection) -> rusqlite::Result<Vec<Offset>> {
    rows.prepare(
        "select consumer, stream, seq, event_id, epoch from relay_offset order by consumer",
    )?
    .query_map([], |row| {
        Ok(Offset {
            consumer: row.get(0)?,
            stream: row.get(1)?,
            at: Position {
                seq: row.get(2)?,
                id: row.get(3)?,
            },
            epoch: row.get(4)?,
        })
    })?
    .collect()
}

fn audit(rows: &Connection) -> rusqlite::Result<Vec<Audited>> {
    rows.prepare("select at_ms, action, detail from relay_audit order by id desc limit 20")?
        .query_map([], |row| {
            Ok(Audited {
                at_ms: row.get(0)?,
                action: row.get(1)?,
                detail: row.get(2)?,
            })
        })?
        .collect()
}

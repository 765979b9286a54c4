//! What can go wrong, sorted by what happens next.
//!
//! A message speaks for its own layer and names the cure; causes are linked as sources.

use std::path::PathBuf;

/// Any other layer's error, kept as the cause of ours.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// A database was not opened. The file's content is as it was.
#[derive(Debug, thiserror::Error)]
#[error("{} {why}", path.display())]
pub struct OpenError {
    /// The database, or what its path leads to.
    pub path: PathBuf,
    /// What is wrong with it, and the cure.
    #[source]
    pub why: Refusal,
}

/// Why a database was not opened; the sentence's subject is its path.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A database has one owner.
    #[error(
        "is in use by another process ({holder}): a database has one owner; stop that process or choose another file"
    )]
    InUse {
        /// The process that has it, as far as the system shows it.
        holder: String,
    },
    /// Another service has made it.
    #[error("belongs to {owner}, not to {service}: check the database path")]
    OtherService {
        /// That service.
        owner: String,
        /// The one that tried.
        service: String,
    },
    /// It is an SQLite database or another file that Freehold has not made.
    #[error("is no Freehold database: choose a new path or the service's own file")]
    NotOurs,
    /// A newer program has migrated it.
    #[error(
        "has schema {found}, this program knows {known}: start the newer version of the program"
    )]
    NewerSchema {
        /// The number of its last migration.
        found: i64,
        /// The last that this program has.
        known: i64,
    },
    /// It was opened read-only, and its service has not migrated it yet.
    #[error(
        "has schema {found}, this program needs {needed}: start the service once, which migrates the file"
    )]
    OlderSchema {
        /// The number of its last migration.
        found: i64,
        /// The last that this program has.
        needed: i64,
    },
    /// It has hard links.
    #[error(
        "has {names} names (hard links), and SQLite keeps a WAL for each: remove the others; a restore that was killed leaves a name with .before-restore- in it, and is to be repeated"
    )]
    ManyNames {
        /// How many names it has.
        names: u64,
    },
    /// Its file system cannot share memory between processes, as a WAL needs it.
    #[error(
        "cannot be written with a WAL, only with journal mode {mode}: put it on a local disk of this machine"
    )]
    NoWal {
        /// SQLite's journal mode instead.
        mode: String,
    },
    /// The migrations of the service do not make a table that its fold declares.
    #[error(
        "has no table {table}, which the fold of the service's events writes to: add a migration that makes it"
    )]
    NoTable {
        /// The missing table.
        table: String,
    },
    /// Its pages or tables are not whole.
    #[error("is damaged ({detail}): restore it from a backup; the file was left untouched")]
    Damaged {
        /// What SQLite found.
        detail: String,
    },
    /// This version of SQLite can corrupt a WAL.
    #[error(
        "is not opened, because this program was built with SQLite {0}, and those before 3.51.3 can corrupt a WAL: build it with rusqlite's bundled SQLite"
    )]
    OldSqlite(&'static str),
    /// Sealed parts could not be opened any more.
    #[error(
        "holds events sealed with key {key}, which is not in the key file: put the copy of the key file back that has this key; docs/operating.md says what is left without one"
    )]
    KeyLost {
        /// The id of the missing key.
        key: String,
    },
    /// There is no room for what opening writes.
    #[error(
        "cannot be opened, because its disk is full or has no inodes left: make room and start again"
    )]
    Full,
    /// It cannot be read or written; the source says why.
    #[error("cannot be opened: it must be a file in a directory that exists and can be written")]
    Unusable(#[source] Cause),
}

/// Why a write did not happen: nothing of it is stored. Only after [`Unknown`](Self::Unknown) it may be.
#[derive(Debug, thiserror::Error)]
pub enum WriteError<E> {
    /// The closure refused; its changes are rolled back, the other writes of its commit are not.
    #[error("the write was refused")]
    Work(#[source] E),
    /// The queue stayed full for the longest permitted wait, or another program holds the file's write lock; the text says which.
    /// Try again a little later.
    #[error("the writer is busy: {0}")]
    Busy(String),
    /// The relay found that this database may no longer write. The operator must decide.
    #[error("writes are halted: {0}")]
    Halted(String),
    /// The file may be an older copy of itself. Writes open by themselves once it has met its stream.
    #[error("writes wait until this database has met its stream: {0}")]
    MustImport(String),
    /// The disk is full. Reads go on; writes work again once there is room.
    #[error("the disk is full")]
    Full,
    /// The disk failed under the commit: the write is stored or not. The database is closed; opened again, it says which. By
    /// default the process ends instead; see [`Options::on_disk_failure`](crate::Options::on_disk_failure).
    #[error(
        "the disk failed under the commit: whether the write is stored shows when the database is opened again"
    )]
    Unknown,
    /// The closure panicked. It was rolled back alone.
    #[error("the write panicked: {0}")]
    Panicked(String),
    /// The transaction it shared could not be committed: a deferred constraint, or work that ended the transaction.
    #[error("the transaction was not committed: {0}")]
    Failed(String),
    /// The database is closing.
    #[error("the database is closed")]
    Closed,
}

/// Why a read gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError<E> {
    /// The closure's own error.
    #[error("the read failed")]
    Work(#[source] E),
    /// The closure panicked, with this message.
    #[error("the read panicked: {0}")]
    Panicked(String),
    /// The database is closing.
    #[error("the database is closed")]
    Closed,
}

/// Why an event was not emitted. The transaction can still be rolled back or go on without it.
#[derive(Debug, thiserror::Error)]
pub enum EmitError {
    /// Its declaration names the stream of another service.
    #[error("the event {event_type} does not belong on stream {stream}")]
    WrongStream {
        /// The event's type.
        event_type: String,
        /// The stream of this database.
        stream: String,
    },
    /// Refused now, because in the outbox it would block everything behind it.
    #[error(
        "the event type {event_type} cannot be published: write it like users.renamed.v1, in a-z, 0-9 and _"
    )]
    InvalidType {
        /// The event's type.
        event_type: String,
    },
    /// The envelope is larger than [`MAX_ENVELOPE_BYTES`](crate::event::MAX_ENVELOPE_BYTES).
    #[error("the event {event_type} is {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// The event's type.
        event_type: String,
        /// The size of its envelope.
        bytes: usize,
        /// The largest that is accepted.
        limit: usize,
    },
    /// Refused now, because in the stream it would be every consumer's dead letter.
    #[error("the event {event_type} cannot be read back by its own schema")]
    Undecodable {
        /// The event's type.
        event_type: String,
        /// What its decoder answered; `None` when it does not know the type.
        #[source]
        cause: Option<serde_json::Error>,
    },
    /// There is a part to seal and no key to seal it with.
    #[error("the event {event_type} has a sealed part, but the database was opened without keys")]
    NoKeys {
        /// The event's type.
        event_type: String,
    },
    /// SQLite could not store the row.
    #[error("the outbox could not be written")]
    Outbox(#[from] rusqlite::Error),
}

/// Why a log did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The session is over. What an append did is unknown: connect again and look.
    #[error("{0}")]
    Disconnected(String, #[source] Option<Cause>),
    /// The log's head was not where the caller expected. Nothing of the refused part is stored.
    #[error("the log refused the append: {0}")]
    Refused(String),
    /// The log takes nothing until its broker is restarted. What an append did is unknown.
    #[error("{0}")]
    Stuck(String),
    /// Trying again cannot help: a password, a permission, a version.
    #[error("{0}")]
    Misconfigured(String),
}

impl LogError {
    /// The session is over.
    pub fn disconnected(what: impl Into<String>) -> Self {
        Self::Disconnected(what.into(), None)
    }

    /// The session is over, because of something below.
    pub fn disconnected_by(what: impl Into<String>, cause: impl Into<Cause>) -> Self {
        Self::Disconnected(what.into(), Some(cause.into()))
    }
}

impl From<rusqlite::Error> for LogError {
    fn from(error: rusqlite::Error) -> Self {
        Self::disconnected_by("this database cannot be used", error)
    }
}

impl From<ReadError<rusqlite::Error>> for LogError {
    fn from(error: ReadError<rusqlite::Error>) -> Self {
        Self::disconnected_by("this database cannot be read", error)
    }
}

impl From<WriteError<rusqlite::Error>> for LogError {
    fn from(error: WriteError<rusqlite::Error>) -> Self {
        Self::disconnected_by("this database cannot be written", error)
    }
}

/// What the work in the transaction answered is the answer.
impl From<WriteError<LogError>> for LogError {
    fn from(error: WriteError<LogError>) -> Self {
        match error {
            WriteError::Work(why) => why,
            other => Self::disconnected_by("this database cannot be written", other),
        }
    }
}

/// Why an event was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Try again later: the position does not move.
    #[error("not applied yet: {0}")]
    Transient(String),
    /// Trying again cannot help: the event becomes a dead letter and its key is parked.
    #[error("rejected: {0}")]
    Rejected(String),
    /// The process must stop; an engineer must look. Every event would fail alike, so none becomes a dead letter.
    #[error("cannot go on: {0}")]
    Fatal(String),
}

/// What another moment or another disk would accept is transient. What this one event's data cannot do is rejected. A
/// mistake of the program, which every event would meet, is fatal: a bad deploy must not bury a stream. So is every error
/// that is not known to be one of data.
impl From<rusqlite::Error> for ApplyError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::Error as Sql;
        let consequence = match &error {
            Sql::SqliteFailure(cause, said) => of_sqlite(cause.code, said.as_deref()),
            // A value that is not what its column should hold, a row that is not there or not alone, a panic in a function.
            Sql::FromSqlConversionFailure(..)
            | Sql::IntegralValueOutOfRange(..)
            | Sql::Utf8Error(..)
            | Sql::ToSqlConversionFailure(_)
            | Sql::QueryReturnedNoRows
            | Sql::QueryReturnedMoreThanOneRow
            | Sql::StatementChangedRows(_)
            | Sql::UnwindingPanic => Self::Rejected,
            // SQL that does not compile; parameters and columns that its statement does not have, or not of that type.
            _ => Self::Fatal,
        };
        consequence(error.to_string())
    }
}

/// What SQLite itself answered.
fn of_sqlite(code: rusqlite::ErrorCode, said: Option<&str>) -> fn(String) -> ApplyError {
    use rusqlite::ErrorCode as Code;
    match code {
        Code::DatabaseBusy
        | Code::DatabaseLocked
        | Code::FileLockingProtocolFailed
        | Code::SchemaChanged
        | Code::OperationInterrupted
        | Code::OperationAborted
        | Code::OutOfMemory
        | Code::DiskFull
        | Code::SystemIoFailure
        | Code::CannotOpen
        | Code::ReadOnly
        | Code::PermissionDenied
        | Code::NoLargeFileSupport => ApplyError::Transient,
        Code::ConstraintViolation | Code::TypeMismatch | Code::TooBig => ApplyError::Rejected,
        // One code for SQL that does not compile and for functions that do not take a value: only the text differs.
        Code::Unknown if said.is_some_and(is_about_a_value) => ApplyError::Rejected,
        _ => ApplyError::Fatal,
    }
}

/// What SQLite's own functions say of a value, as of 3.53.
fn is_about_a_value(said: &str) -> bool {
    const OF_VALUES: [&str; 5] = [
        "malformed JSON",
        "bad JSON path",
        "JSON cannot hold BLOB values",
        "integer overflow",
        "LIKE or GLOB pattern too complex",
    ];
    OF_VALUES.iter().any(|of_value| said.starts_with(of_value))
}

/// Too much data is the event's. An event that its own schema cannot read, or that has no type or stream of this service,
/// is a mistake of the program.
impl From<EmitError> for ApplyError {
    fn from(error: EmitError) -> Self {
        match error {
            EmitError::Outbox(cause) => cause.into(),
            EmitError::TooLarge { .. } => Self::Rejected(chain(&error)),
            mistake => Self::Fatal(chain(&mistake)),
        }
    }
}

/// Why a relay or a consumer stopped without being asked to. The process should end, non-zero.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(pub String);

/// An error and all its causes, for one log line. Some errors repeat their cause; it is not said twice.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !line.ends_with(&said) {
            line.push_str(": ");
            line.push_str(&said);
        }
        cause = next.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;

    fn of(code: i32, said: &str) -> ApplyError {
        rusqlite::Error::SqliteFailure(ffi::Error::new(code), Some(said.to_owned())).into()
    }

    #[test]
    fn what_sqlite_answers_is_sorted_by_whose_fault_it_is() {
        let moments = [
            ffi::SQLITE_BUSY_SNAPSHOT,
            ffi::SQLITE_FULL,
            ffi::SQLITE_IOERR_FSYNC,
            ffi::SQLITE_READONLY_DBMOVED,
            ffi::SQLITE_NOMEM,
        ];
        for code in moments {
            assert!(matches!(of(code, ""), ApplyError::Transient(_)), "{code}");
        }
        let data = [
            (ffi::SQLITE_CONSTRAINT_CHECK, "CHECK constraint failed"),
            (ffi::SQLITE_CONSTRAINT_TRIGGER, "raised by a trigger"),
            (ffi::SQLITE_MISMATCH, "datatype mismatch"),
            (ffi::SQLITE_TOOBIG, "string or blob too big"),
            (ffi::SQLITE_ERROR, "malformed JSON"),
            (ffi::SQLITE_ERROR, "integer overflow"),
        ];
        for (code, said) in data {
            assert!(matches!(of(code, said), ApplyError::Rejected(_)), "{said}");
        }
        let program = [
            (ffi::SQLITE_ERROR, "no such table: missing"),
            (
                ffi::SQLITE_ERROR,
                "table t has 2 columns but 3 values were supplied",
            ),
            (ffi::SQLITE_MISUSE, "bad parameter or other API misuse"),
            (ffi::SQLITE_RANGE, "column index out of range"),
            (ffi::SQLITE_AUTH, "not authorized"),
            (ffi::SQLITE_CORRUPT, "database disk image is malformed"),
        ];
        for (code, said) in program {
            assert!(matches!(of(code, said), ApplyError::Fatal(_)), "{said}");
        }
    }
}

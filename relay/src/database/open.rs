//! Opening a database: take the lock, look without touching, migrate, start.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};
use rusqlite_migration::{M, Migrations};
use uuid::Uuid;

use super::{Identity, Options};
use crate::error::OpenError;
use crate::log::Origin;

/// "FRHD": how `file` and our own gate know the file as one of Freehold's.
const APPLICATION_ID: i64 = 0x4652_4844;
/// The version of the library's own tables in `schema.sql`.
const SCHEMA_VERSION: i64 = 1;
/// Older versions can corrupt a WAL when two connections write and checkpoint (fixed in 3.51.3).
const OLDEST_SQLITE: i32 = 3_051_003;

pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) head: u64,
    pub(super) writer: tokio_rusqlite::Connection,
    pub(super) readers: Vec<tokio_rusqlite::Connection>,
    pub(super) ownership: Ownership,
}

pub(super) async fn open(path: PathBuf, options: &Options) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    let path = real(&path)?;
    find(&path)?; // beside what can never be a database no lock file should appear
    let ownership = Ownership::take(&path)?;
    let for_writer = (path.clone(), options.clone());
    let (writer, identity, head) = tokio::task::spawn_blocking(move || {
        let (path, options) = for_writer;
        if find(&path)? == Found::Content {
            inspect(&path, &options)?;
        }
        prepare(&path, &options)
    })
    .await
    .expect("opening a database does not panic")?;
    let mut readers = Vec::new();
    for _ in 0..options.readers.max(1) {
        let reader = reader(&path).map_err(|error| unusable(&path, error))?;
        readers.push(reader.into());
    }
    Ok(Opened {
        path,
        identity,
        head,
        writer: writer.into(),
        readers,
        ownership,
    })
}

/// The one name of the file: the lock lies beside it, and a link must not lead around the lock. (A hard link does;
/// SQLite forbids those too, since each name would get a WAL of its own.)
fn real(path: &Path) -> Result<PathBuf, OpenError> {
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let resolved = match (std::fs::canonicalize(path), path.file_name()) {
        (Err(error), Some(name)) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::canonicalize(folder).map(|folder| folder.join(name))
        }
        (resolved, _) => resolved,
    };
    resolved.map_err(|error| unusable(path, error))
}

/// What lies at the path.
#[derive(PartialEq, Eq)]
enum Found {
    /// Nothing, or an empty file: a database is made there.
    Nothing,
    Content,
}

fn find(path: &Path) -> Result<Found, OpenError> {
    match std::fs::metadata(path) {
        Ok(file) if !file.is_file() => Err(unusable(path, std::io::Error::other("it is no file"))),
        Ok(file) if file.len() > 0 => Ok(Found::Content),
        Ok(_) => Ok(Found::Nothing),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(unusable(path, error)),
    }
}

/// The exclusive lock on a file beside the database. The kernel drops it with the process, however that ends.
pub(super) struct Ownership(File);

impl Ownership {
    fn take(path: &Path) -> Result<Self, OpenError> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(beside(path, ".lock"))
            .map_err(|error| unusable(path, error))?;
        let mut this = Self(file);
        match this.0.try_lock() {
            Ok(()) => this.sign().map_err(|error| unusable(path, error))?,
            Err(TryLockError::WouldBlock) => {
                let (path, holder) = (path.to_owned(), this.holder());
                return Err(OpenError::InUse { path, holder });
            }
            Err(TryLockError::Error(error)) => return Err(unusable(path, error)),
        }
        Ok(this)
    }

    pub(super) fn release(&self) {
        if let Err(error) = self.0.unlock() {
            tracing::warn!(%error, "the database's lock is released with the process instead of now");
        }
    }

    fn sign(&mut self) -> std::io::Result<()> {
        self.0.set_len(0)?;
        writeln!(self.0, "process {}", std::process::id())
    }

    fn holder(&mut self) -> String {
        let mut text = String::new();
        let read = self
            .0
            .rewind()
            .and_then(|()| self.0.read_to_string(&mut text));
        match read {
            Ok(_) if !text.trim().is_empty() => text.trim().to_owned(),
            _ => "unknown".to_owned(),
        }
    }
}

/// Everything that can be refused is refused here, on a connection that cannot write.
fn inspect(path: &Path, options: &Options) -> Result<(), OpenError> {
    let rows = open_to_look(path).map_err(|error| refusal(path, error))?;
    check_owner(&rows, path, options)?;
    check_versions(&rows, path, options)?;
    if was_killed(path) {
        check_pages(&rows, path)?;
    }
    Ok(())
}

/// Without a WAL nothing but the file itself needs to be read, and SQLite is told so: it would put files of its own
/// beside one that turns out to be somebody else's.
fn open_to_look(path: &Path) -> rusqlite::Result<Connection> {
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let plain = path.to_str().filter(|_| !beside(path, "-wal").exists());
    let Some(plain) = plain else {
        return Connection::open_with_flags(path, read_only);
    };
    let escaped = plain
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    let uri = format!("file:{escaped}?immutable=1");
    Connection::open_with_flags(uri, read_only | OpenFlags::SQLITE_OPEN_URI)
}

fn check_owner(rows: &Connection, path: &Path, options: &Options) -> Result<(), OpenError> {
    let application_id = pragma(rows, "application_id").map_err(|error| refusal(path, error))?;
    if application_id != APPLICATION_ID {
        // A creation that was killed half-way left an empty database; it is nobody's yet.
        let tables: i64 = rows
            .query_row("select count(*) from sqlite_schema", [], |row| row.get(0))
            .map_err(|error| refusal(path, error))?;
        let path = path.to_owned();
        return if tables == 0 {
            Ok(())
        } else {
            Err(OpenError::NotOurs { path })
        };
    }
    match identity(rows).map_err(|error| refusal(path, error))? {
        Some(found) if found.service != options.service => Err(OpenError::OtherService {
            path: path.to_owned(),
            owner: found.service,
            service: options.service.to_owned(),
        }),
        _ => Ok(()),
    }
}

fn check_versions(rows: &Connection, path: &Path, options: &Options) -> Result<(), OpenError> {
    let of_service = pragma(rows, "user_version").map_err(|error| refusal(path, error))?;
    let of_library = schema_version(rows).map_err(|error| refusal(path, error))?;
    let known = i64::try_from(options.migrations.len()).unwrap_or(i64::MAX);
    for (found, known) in [(of_service, known), (of_library, SCHEMA_VERSION)] {
        if found > known {
            let path = path.to_owned();
            return Err(OpenError::NewerSchema { path, found, known });
        }
    }
    Ok(())
}

/// SQLite deletes the WAL when the last connection closes: one that is still there was left by a kill or a crash.
fn was_killed(path: &Path) -> bool {
    std::fs::metadata(beside(path, "-wal")).is_ok_and(|wal| wal.len() > 0)
}

fn check_pages(rows: &Connection, path: &Path) -> Result<(), OpenError> {
    tracing::info!(path = %path.display(), "the last owner did not close the database: checking it");
    let verdict: String = rows
        .query_row("pragma quick_check(1)", [], |row| row.get(0))
        .map_err(|error| refusal(path, error))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(OpenError::Damaged {
        path: path.to_owned(),
        detail: verdict,
    })
}

/// The writing connection, with every table in place.
fn prepare(path: &Path, options: &Options) -> Result<(Connection, Identity, u64), OpenError> {
    let failed = |error: rusqlite::Error| refusal(path, error);
    let mut rows = Connection::open(path).map_err(failed)?;
    // FULL: a commit that was answered is on the disk (NORMAL lost 290 of them in a measured power cut).
    rows.execute_batch(
        "pragma journal_mode = wal; pragma synchronous = full; pragma foreign_keys = on; pragma busy_timeout = 5000;",
    )
    .map_err(failed)?;
    rows.set_prepared_statement_cache_capacity(64);
    install(&mut rows, options).map_err(failed)?;
    migrate(&mut rows, options).map_err(|error| unusable(path, error))?;
    let identity = identity(&rows).map_err(failed)?;
    let identity = identity.expect("installed above");
    let head = crate::outbox::head_seq(&rows).map_err(failed)?;
    Ok((rows, identity, head))
}

/// The service's own tables. A service may have none: then it only tells events.
fn migrate(rows: &mut Connection, options: &Options) -> rusqlite_migration::Result<()> {
    if options.migrations.is_empty() {
        return Ok(());
    }
    let steps = options.migrations.iter().map(|sql| M::up(sql)).collect();
    Migrations::new(steps).to_latest(rows)
}

/// The library's tables and the identity row, once, in one transaction.
fn install(rows: &mut Connection, options: &Options) -> rusqlite::Result<()> {
    if schema_version(rows)? == SCHEMA_VERSION {
        return Ok(());
    }
    let tx = rows.transaction()?;
    tx.execute_batch(include_str!("../schema.sql"))?;
    tx.execute(
        "insert into relay_identity (one, schema_version, service, stream, database_id, epoch)
         values (1, ?1, ?2, ?3, ?4, 1)",
        (
            SCHEMA_VERSION,
            options.service,
            options.stream,
            Uuid::new_v4().to_string(),
        ),
    )?;
    tx.execute("insert into relay_head (one, seq) values (1, 0)", [])?;
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.commit()
}

fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let rows = Connection::open(path)?;
    rows.execute_batch("pragma query_only = on; pragma busy_timeout = 5000;")?;
    rows.set_prepared_statement_cache_capacity(64);
    Ok(rows)
}

fn identity(rows: &Connection) -> rusqlite::Result<Option<Identity>> {
    if schema_version(rows)? == 0 {
        return Ok(None);
    }
    let read = |row: &rusqlite::Row<'_>| {
        let database_id: String = row.get(2)?;
        Ok(Identity {
            service: row.get(0)?,
            stream: row.get(1)?,
            origin: Origin {
                database_id: database_id.parse().map_err(|_| {
                    rusqlite::Error::InvalidColumnType(
                        2,
                        "database_id".into(),
                        rusqlite::types::Type::Text,
                    )
                })?,
                epoch: row.get(3)?,
            },
        })
    };
    rows.query_row(
        "select service, stream, database_id, epoch from relay_identity",
        [],
        read,
    )
    .optional()
}

/// 0 where the library's tables do not exist.
fn schema_version(rows: &Connection) -> rusqlite::Result<i64> {
    let installed = rows.table_exists(None, "relay_identity")?;
    if !installed {
        return Ok(0);
    }
    rows.query_row("select schema_version from relay_identity", [], |row| {
        row.get(0)
    })
}

fn pragma(rows: &Connection, name: &str) -> rusqlite::Result<i64> {
    rows.pragma_query_value(None, name, |row| row.get(0))
}

/// What SQLite's refusal means to the person who started us.
fn refusal(path: &Path, error: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::NotOurs { path },
        Some(ErrorCode::DatabaseCorrupt) => OpenError::Damaged {
            path,
            detail: error.to_string(),
        },
        _ => unusable(&path, error),
    }
}

fn unusable(path: &Path, cause: impl Into<crate::error::Cause>) -> OpenError {
    OpenError::Unusable {
        path: path.to_owned(),
        cause: cause.into(),
    }
}

/// `users.db` and `-wal` make `users.db-wal`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

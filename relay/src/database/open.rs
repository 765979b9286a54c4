//! Opening a database: take the lock, look without touching, migrate, start.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use rusqlite_migration::{M, Migrations};

use super::lock::Ownership;
use super::path::{Found, RealPath, beside, find, in_a_name, keep_private};
use super::{Gate, Options, connect, disk, head, identity};
use crate::error::OpenError;
use crate::event::Envelope;

/// "FRHD": how `file` and our own gate know the file as one of Freehold's.
const APPLICATION_ID: i64 = 0x4652_4844;
/// The library's own tables: numbered, final, applied in order.
const SCHEMA: [&str; 3] = [
    include_str!("../schema/0001_log.sql"),
    include_str!("../schema/0002_healing.sql"),
    include_str!("../schema/0003_following.sql"),
];
const SCHEMA_VERSION: i64 = SCHEMA.len() as i64;
/// Older versions can corrupt a WAL when two connections write and checkpoint (fixed in 3.51.3).
const OLDEST_SQLITE: i32 = 3_051_003;

pub(super) struct Opened {
    pub(super) path: PathBuf,
    pub(super) gate: Gate,
    pub(super) head: u64,
    pub(super) writer: tokio_rusqlite::Connection,
    pub(super) readers: Vec<tokio_rusqlite::Connection>,
    pub(super) index: File,
    pub(super) ownership: Ownership,
}

pub(super) async fn open(path: PathBuf, options: &Options) -> Result<Opened, OpenError> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(OpenError::OldSqlite(rusqlite::version()));
    }
    let path = RealPath::of(&path)?;
    find(&path)?; // beside what can never be a database no lock file should appear
    let mut ownership = Ownership::take(&path)?;
    keep_private(&path)?;
    let for_writer = (path.clone(), options.clone());
    // The ownership comes first, and so goes last, after the connections.
    let (ownership, writer, gate, head, index) = tokio::task::spawn_blocking(move || {
        let (path, options) = for_writer;
        ownership
            .put_stale_wal_aside(&in_a_name(options.environment.now()))
            .map_err(|error| unusable(&path, error))?;
        if find(&path)? == Found::Content {
            inspect(&path, &options)?;
            check_after_kill(&path)?;
        }
        disk::free_room(&path);
        let (writer, gate, head) = prepare(&path, &options, &mut ownership)?;
        let index = disk::reserve_index(&path).map_err(|error| unusable(&path, error))?;
        Ok((ownership, writer, gate, head, index))
    })
    .await
    .expect("opening a database does not panic")?;
    let mut readers = Vec::new();
    for _ in 0..options.readers.max(1) {
        let reader = connect::to_read(&path).map_err(|error| unusable(&path, error))?;
        readers.push(reader.into());
    }
    Ok(Opened {
        path: path.into_inner(),
        gate,
        head,
        writer: writer.into(),
        readers,
        index,
        ownership,
    })
}

/// The file without its lock, to look at. A service that runs has it checked; otherwise it is checked here.
pub(crate) async fn open_read_only(
    path: PathBuf,
    options: Options,
) -> Result<(Connection, PathBuf), OpenError> {
    let look = move || {
        let path = RealPath::of(&path)?;
        if find(&path)? == Found::Nothing {
            let missing = std::io::Error::other("there is no database yet");
            return Err(unusable(&path, missing));
        }
        inspect(&path, &options)?;
        check_up_to_date(&path)?;
        let guest = || {
            let rows = connect::to_read_as_guest(&path)?;
            rows.pragma_update(None, "query_only", true)?;
            schema_version(&rows)?; // it is the first read that needs an index of the WAL
            Ok(rows)
        };
        let rows = guest().or_else(|error: rusqlite::Error| match disk::is_full(&error) {
            true => {
                disk::free_room(&path);
                guest()
            }
            false => Err(error),
        });
        let rows = rows.map_err(|error| unusable(&path, error))?;
        Ok((rows, path.into_inner()))
    };
    tokio::task::spawn_blocking(look)
        .await
        .expect("opening a database does not panic")
}

/// Who only looks cannot migrate.
fn check_up_to_date(path: &Path) -> Result<(), OpenError> {
    let found = connect::to_look(path).and_then(|rows| schema_version(&rows));
    match found.map_err(|error| refusal(path, error))? {
        SCHEMA_VERSION => Ok(()),
        _ => {
            let old = "it is of an older version of the program; start the service once";
            Err(unusable(path, std::io::Error::other(old)))
        }
    }
}

/// Whose file is it? On a connection that cannot write.
pub(crate) fn inspect(path: &Path, options: &Options) -> Result<(), OpenError> {
    let rows = connect::to_look(path).map_err(|error| refusal(path, error))?;
    check_owner(&rows, path, options)?;
    check_versions(&rows, path, options)
}

fn check_after_kill(path: &Path) -> Result<(), OpenError> {
    if !was_killed(path) {
        return Ok(());
    }
    let rows = connect::to_look(path).map_err(|error| refusal(path, error))?;
    check_pages(&rows, path)
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
    let service = match schema_version(rows).map_err(|error| refusal(path, error))? {
        0 => None,
        _ => identity::service(rows).map_err(|error| refusal(path, error))?,
    };
    match service {
        Some(owner) if owner != options.service => Err(OpenError::OtherService {
            path: path.to_owned(),
            owner,
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

/// The writing connection, with every table in place and the file recognised.
fn prepare(
    path: &Path,
    options: &Options,
    ownership: &mut Ownership,
) -> Result<(Connection, Gate, u64), OpenError> {
    let failed = |error: rusqlite::Error| refusal(path, error);
    let mut rows = connect::to_write(path).map_err(failed)?;
    use_wal(&rows, path)?;
    // FULL: a commit that was answered is on the disk (NORMAL lost 290 of them in a measured power cut).
    rows.execute_batch("pragma synchronous = full; pragma foreign_keys = on;")
        .map_err(failed)?;
    install(&mut rows, options, ownership.knows_any()).map_err(failed)?;
    migrate(&mut rows, options).map_err(|error| unusable(path, error))?;
    options
        .fill
        .map_or(Ok(()), |fill| fill(&rows))
        .map_err(failed)?;
    check_keys(&rows, path, options)?;
    identity::recognise(&rows, path, ownership, options).map_err(|error| unusable(path, error))?;
    let gate = identity::gate(&rows).map_err(failed)?;
    let head = head::seq(&rows).map_err(failed)?;
    Ok((rows, gate, head))
}

/// SQLite answers how it will write, which is not always what was asked for, and no error.
fn use_wal(rows: &Connection, path: &Path) -> Result<(), OpenError> {
    let mode: String = rows
        .pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))
        .map_err(|error| refusal(path, error))?;
    match mode.as_str() {
        "wal" => Ok(()),
        _ => Err(OpenError::NoWal {
            path: path.to_owned(),
            mode,
        }),
    }
}

/// The service's own tables. A service may have none: then it only tells events.
fn migrate(rows: &mut Connection, options: &Options) -> rusqlite_migration::Result<()> {
    if options.migrations.is_empty() {
        return Ok(());
    }
    let steps = options.migrations.iter().map(|sql| M::up(sql)).collect();
    Migrations::new(steps).to_latest(rows)
}

/// The library's tables, in one transaction. A new database is a successor, where there was one before.
pub(crate) fn install(
    rows: &mut Connection,
    options: &Options,
    had_one: bool,
) -> rusqlite::Result<()> {
    let found = schema_version(rows)?;
    if found == SCHEMA_VERSION {
        return Ok(());
    }
    let tx = rows.transaction()?;
    for (step, version) in SCHEMA
        .iter()
        .zip(1..)
        .filter(|(_, version)| *version > found)
    {
        tx.execute_batch(step)?;
        if version == 1 {
            identity::create(&tx, options)?;
            tx.execute("insert into relay_head (one, seq) values (1, 0)", [])?;
        }
    }
    tx.execute(
        "update relay_identity set schema_version = ?1",
        [SCHEMA_VERSION],
    )?;
    if found == 0 && had_one {
        identity::succeed(&tx, options.environment.now_ms())?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.commit()
}

/// The key of the last sealed part in a database, if there is any: without it, no new key file should be made.
pub fn key_in_use(path: &Path, options: &Options) -> Result<Option<String>, OpenError> {
    let path = &*RealPath::of(path)?;
    if find(path)? == Found::Nothing {
        return Ok(None);
    }
    inspect(path, options)?;
    let rows = connect::to_look(path).map_err(|error| refusal(path, error))?;
    match schema_version(&rows).map_err(|error| refusal(path, error))? {
        0 => Ok(None), // its creation was killed half-way
        _ => sealed_with(&rows, "desc").map_err(|error| refusal(path, error)),
    }
}

/// A lost key file is answered with a fresh one, which would seal what comes and open nothing that is there: so the
/// keys of the first and the last sealed part must be known.
fn check_keys(rows: &Connection, path: &Path, options: &Options) -> Result<(), OpenError> {
    let Some(keys) = &options.keys else {
        return Ok(());
    };
    let found = outer_keys(|order| sealed_with(rows, order));
    for key in found.map_err(|error| refusal(path, error))? {
        if keys.ids().all(|id| id != key) {
            let path = path.to_owned();
            return Err(OpenError::KeyLost { path, key });
        }
    }
    Ok(())
}

/// The keys of the first and the last sealed part. Where nothing is sealed, one look at the whole outbox says so.
fn outer_keys(
    mut look: impl FnMut(&'static str) -> rusqlite::Result<Option<String>>,
) -> rusqlite::Result<Vec<String>> {
    let Some(first) = look("asc")? else {
        return Ok(Vec::new());
    };
    Ok([Some(first), look("desc")?].into_iter().flatten().collect())
}

fn sealed_with(rows: &Connection, order: &str) -> rusqlite::Result<Option<String>> {
    let sql = format!(
        r#"select envelope from relay_outbox where instr(envelope, cast('"sealedkey":' as blob)) order by seq {order} limit 1"#
    );
    let envelope: Option<Vec<u8>> = rows.query_row(&sql, [], |row| row.get(0)).optional()?;
    let key =
        envelope.and_then(|bytes| Some(Envelope::parse(&bytes).ok()?.sealedkey?.into_owned()));
    Ok(key)
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

pub(super) fn unusable(path: &Path, cause: impl Into<crate::error::Cause>) -> OpenError {
    let (path, cause) = (path.to_owned(), cause.into());
    match disk::is_full(&*cause) || disk::has_no_inodes(&path) {
        true => OpenError::Full { path },
        false => OpenError::Unusable { path, cause },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_have_a_wal_is_refused() {
        let in_memory = Connection::open_in_memory().unwrap();
        let refused = use_wal(&in_memory, Path::new("parcels.db"));
        let Err(OpenError::NoWal { mode, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(mode, "memory");
    }

    #[test]
    fn where_nothing_is_sealed_the_outbox_is_read_once() {
        let mut looks = 0;
        let none = outer_keys(|_| {
            looks += 1;
            Ok(None)
        });
        assert_eq!((none.unwrap().len(), looks), (0, 1));
        let both = outer_keys(|order| Ok(Some(order.to_owned())));
        assert_eq!(both.unwrap(), ["asc", "desc"]);
    }
}

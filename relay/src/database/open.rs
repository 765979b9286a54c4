//! Opening a database: take the lock, look without touching, migrate, start.

use std::fs::File;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OptionalExtension};
use rusqlite_migration::{M, Migrations};

use super::identity::Identity;
use super::lock::Ownership;
use super::path::{Found, find, in_a_name, keep_private, real_path, with_suffix};
use super::threaded::Threaded;
use super::{Fold, Gate, Options, connect, disk, head, identity, missing_table};
use crate::error::{Cause, OpenError, Refusal};
use crate::event::Envelope;

/// "FRHD": how `file` and our own check know the file as one of Freehold's.
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
    pub(super) writer: Threaded,
    pub(super) readers: Vec<Threaded>,
    pub(super) index: File,
    pub(super) ownership: Ownership,
}

pub(super) async fn open(path: PathBuf, options: Options) -> Result<Opened, OpenError> {
    on_a_thread(path, move |path| own(path, &options)).await
}

/// The file without its lock, to read. Whether it is damaged its service has checked.
pub(crate) async fn open_read_only(
    path: PathBuf,
    options: Options,
) -> Result<(Connection, PathBuf), OpenError> {
    on_a_thread(path, move |path| {
        if find(path)? == Found::Nothing {
            return Err(Refusal::unusable("there is no database yet"));
        }
        let (found, needed) = (schema_version(&inspect(path, &options)?)?, SCHEMA_VERSION);
        if found != needed {
            return Err(Refusal::OlderSchema { found, needed }); // a newer one is refused before
        }
        let rows = read_only(path).or_else(|error| match disk::is_full(&error) {
            true => {
                disk::free_room(path);
                read_only(path)
            }
            false => Err(error),
        });
        Ok((rows?, path.to_owned()))
    })
    .await
}

fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let rows = connect::to_read_as_guest(path)?;
    rows.pragma_update(None, "query_only", true)?;
    schema_version(&rows)?; // it is the first read that needs an index of the WAL
    Ok(rows)
}

/// The key of the last sealed part in a database, if there is any: without it, no new key file should be made.
///
/// # Errors
///
/// [`OpenError`] as from [`Database::open`](crate::Database::open): the file is not this service's, is damaged or cannot be
/// read. A file that does not exist is no error.
pub fn key_in_use(path: &Path, options: &Options) -> Result<Option<String>, OpenError> {
    at(path, |path| {
        if find(path)? == Found::Nothing {
            return Ok(None);
        }
        let rows = inspect(path, options)?;
        match schema_version(&rows)? {
            0 => Ok(None), // its creation was killed
            _ => Ok(sealed_with(&rows, "desc")?),
        }
    })
}

/// Works on the file at the end of every link: locks, backups and WALs belong to it. A refusal names it.
pub(crate) fn at<T>(
    path: &Path,
    work: impl FnOnce(&Path) -> Result<T, Refusal>,
) -> Result<T, OpenError> {
    let real = real_path(path);
    let at = real.as_deref().unwrap_or(path).to_owned();
    let done = real.map_err(Refusal::from).and_then(|path| work(&path));
    done.map_err(|why| OpenError {
        why: match why {
            Refusal::Unusable(_) if disk::has_no_inodes(&at) => Refusal::Full,
            why => why,
        },
        path: at,
    })
}

async fn on_a_thread<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> Result<T, Refusal> + Send + 'static,
) -> Result<T, OpenError> {
    let done = tokio::task::spawn_blocking(move || at(&path, work)).await;
    done.expect("opening a database does not panic")
}

fn own(path: &Path, options: &Options) -> Result<Opened, Refusal> {
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(Refusal::OldSqlite(rusqlite::version()));
    }
    find(path)?; // what can never be a database gets no lock file
    let mut ownership = Ownership::take(path)?; // declared first, so dropped last, after the connections
    keep_private(path)?;
    ownership.put_stale_wal_aside(&in_a_name(options.environment.now()))?;
    if find(path)? == Found::Content {
        let rows = inspect(path, options)?;
        if was_killed(path) {
            check_pages(&rows, path)?;
        }
    }
    disk::free_room(path);
    let (writer, gate, head) = prepare(path, options, &mut ownership)?;
    let index = disk::reserve_index(path)?;
    let reader = |_| connect::to_read(path).map(Threaded::new);
    Ok(Opened {
        path: path.to_owned(),
        gate,
        head,
        writer: Threaded::new(writer),
        readers: (0..options.readers.max(1))
            .map(reader)
            .collect::<Result<_, _>>()?,
        index,
        ownership,
    })
}

/// Whose file is it, and of which version? Answers a connection that cannot write.
pub(crate) fn inspect(path: &Path, options: &Options) -> Result<Connection, Refusal> {
    let rows = connect::to_look(path)?;
    let version = schema_version(&rows)?;
    if pragma(&rows, "application_id")? != APPLICATION_ID {
        // A creation that was killed leaves an empty database, which is no service's yet.
        let tables: i64 =
            rows.query_row("select count(*) from sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 {
            return Err(Refusal::NotOurs);
        }
    } else if version > 0
        && let Some(owner) = identity::service(&rows)?
        && owner != options.service
    {
        let service = options.service.to_owned();
        return Err(Refusal::OtherService { owner, service });
    }
    let known = i64::try_from(options.migrations.len()).unwrap_or(i64::MAX);
    for (found, known) in [
        (pragma(&rows, "user_version")?, known),
        (version, SCHEMA_VERSION),
    ] {
        if found > known {
            return Err(Refusal::NewerSchema { found, known });
        }
    }
    Ok(rows)
}

/// SQLite deletes the WAL when the last connection closes: one that is still there was left by a kill or a crash.
fn was_killed(path: &Path) -> bool {
    std::fs::metadata(with_suffix(path, "-wal")).is_ok_and(|wal| wal.len() > 0)
}

fn check_pages(rows: &Connection, path: &Path) -> Result<(), Refusal> {
    tracing::info!(path = %path.display(), "the last owner did not close the database: checking it");
    let verdict: String = rows.query_row("pragma quick_check(1)", [], |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(Refusal::Damaged { detail: verdict }),
    }
}

/// The writing connection, with every table in place and the file recognised.
fn prepare(
    path: &Path,
    options: &Options,
    ownership: &mut Ownership,
) -> Result<(Connection, Gate, u64), Refusal> {
    let mut rows = connect::to_write(path)?;
    use_wal(&rows)?;
    // FULL: a commit that was answered is on the disk (NORMAL lost 290 of them in a measured power cut).
    rows.execute_batch("pragma synchronous = full; pragma foreign_keys = on;")?;
    install(&mut rows, options, ownership.knows_any())?;
    migrate(&mut rows, options).map_err(Refusal::unusable)?;
    check_fold(&rows, options)?;
    options.fill.map_or(Ok(()), |fill| fill(&rows))?;
    check_keys(&rows, options)?;
    identity::recognise(&rows, path, ownership, options)?;
    let marked = Identity::load(&rows)?.must_import;
    let (gate, head) = (
        marked.map_or(Gate::Open, Gate::MustImport),
        head::seq(&rows)?,
    );
    Ok((rows, gate, head))
}

/// Found now, not by the import that needs the table.
fn check_fold(rows: &Connection, options: &Options) -> Result<(), Refusal> {
    let tables = options.fold.as_ref().map_or(&[][..], Fold::tables);
    match missing_table(rows, tables)? {
        Some(table) => Err(Refusal::NoTable { table }),
        None => Ok(()),
    }
}

/// SQLite answers how it will write, which is not always what was asked for, and no error.
fn use_wal(rows: &Connection) -> Result<(), Refusal> {
    let mode: String =
        rows.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
    match mode.as_str() {
        "wal" => Ok(()),
        _ => Err(Refusal::NoWal { mode }),
    }
}

/// The service's own tables. A service may have none: then it only emits.
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
    for (step, version) in SCHEMA.iter().zip(1..) {
        if version > found {
            tx.execute_batch(step)?;
        }
        if version == 1 && found == 0 {
            identity::create(&tx, options)?;
            tx.execute("insert into relay_head (one, seq) values (1, 0)", [])?;
        }
    }
    let sql = "update relay_identity set schema_version = ?1";
    tx.execute(sql, [SCHEMA_VERSION])?;
    if found == 0 && had_one {
        identity::succeed(&tx, options.environment.now_ms())?;
    }
    tx.pragma_update(None, "application_id", APPLICATION_ID)?;
    tx.commit()
}

/// A lost key file is answered with a fresh one, which would seal what comes and open nothing that is there: so the
/// keys of the first and the last sealed part must be known. Where nothing is sealed, one look at the whole outbox says so.
fn check_keys(rows: &Connection, options: &Options) -> Result<(), Refusal> {
    let Some(keys) = &options.keys else {
        return Ok(());
    };
    let Some(first) = sealed_with(rows, "asc")? else {
        return Ok(());
    };
    let last = sealed_with(rows, "desc")?;
    let unknown = |key: &String| keys.ids().all(|id| id != key);
    match [Some(first), last].into_iter().flatten().find(unknown) {
        Some(key) => Err(Refusal::KeyLost { key }),
        None => Ok(()),
    }
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
    match rows.table_exists(None, "relay_identity")? {
        true => rows.query_row("select schema_version from relay_identity", [], |row| {
            row.get(0)
        }),
        false => Ok(0),
    }
}

fn pragma(rows: &Connection, name: &str) -> rusqlite::Result<i64> {
    rows.pragma_query_value(None, name, |row| row.get(0))
}

impl Refusal {
    pub(crate) fn unusable(cause: impl Into<Cause>) -> Self {
        let cause = cause.into();
        match disk::is_full(&*cause) {
            true => Self::Full,
            false => Self::Unusable(cause),
        }
    }
}

/// What SQLite's refusal means to the person who started us.
impl From<rusqlite::Error> for Refusal {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => Self::NotOurs,
            Some(ErrorCode::DatabaseCorrupt) => Self::Damaged {
                detail: error.to_string(),
            },
            _ => Self::unusable(error),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        Self::unusable(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_have_a_wal_is_refused() {
        let in_memory = Connection::open_in_memory().unwrap();
        let refused = use_wal(&in_memory);
        let Err(Refusal::NoWal { mode }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(mode, "memory");
    }
}

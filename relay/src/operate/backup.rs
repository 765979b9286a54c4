//! Backups of a database: taken while its service runs, checked, and restored so that nothing is lost silently.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use rusqlite::{Connection, ToSql};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::database::lock::Ownership;
use crate::database::open::{at, inspect, install};
use crate::database::path::{find, in_a_name, keep_private, with_suffix};
use crate::database::{Identity, Options, connect, head, identity};
use crate::error::{Cause, OpenError, Refusal};
use crate::outbox;

/// What a backup holds: written next to it as `<backup>.manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The service that owns the database.
    pub service: String,
    /// Its stream.
    pub stream: String,
    /// Which database it is a copy of: a UUID.
    pub database_id: String,
    /// The epoch it was taken in.
    pub epoch: u32,
    /// The last event that is in it; 0 when there is none.
    pub seq: u64,
    /// The id of that event.
    pub event_id: Option<String>,
    /// RFC 3339, UTC.
    pub taken_at: String,
    /// The size of the backup file.
    pub bytes: u64,
    /// Of the backup file, in lower-case hexadecimal digits.
    pub sha256: String,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What was restored.
    pub manifest: Manifest,
    /// The path of the file that was replaced.
    pub previous: Option<PathBuf>,
    /// The last event in that file, if it could be read. Events after the backup's last one that were not published are in
    /// that file and nowhere else.
    pub previous_seq: Option<u64>,
}

/// Why there is no backup, or why one was not restored. The database is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A backup is never overwritten.
    #[error("{0} exists: choose a new name, a backup is never overwritten")]
    Exists(PathBuf),
    /// There is nothing to copy at this path.
    #[error("there is no database {0} to take a backup of")]
    NoDatabase(PathBuf),
    /// There is no file at this path.
    #[error("there is no backup {0}")]
    NoBackup(PathBuf),
    /// The file has no bytes: a copy that was interrupted, perhaps.
    #[error("{0} is empty: it is no backup")]
    Empty(PathBuf),
    /// The backup belongs to another service, or needs a newer program.
    #[error("{} is no backup of this service's that can be restored", .0.path.display())]
    Unfit(#[source] OpenError),
    /// The database itself cannot be opened; most often because its service runs.
    #[error(transparent)]
    Refused(#[from] OpenError),
    /// Its pages are not whole.
    #[error("the backup {path} is damaged ({detail}): use another one")]
    Damaged {
        /// The backup.
        path: PathBuf,
        /// What SQLite found.
        detail: String,
    },
    /// Its size, sum or content is not what the manifest says.
    #[error("the backup {path} is not the file its manifest describes ({detail}): use another one")]
    Altered {
        /// The backup.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
    /// A step failed; the source says why.
    #[error("{what}")]
    Failed {
        /// The step.
        what: &'static str,
        /// Why.
        #[source]
        cause: Cause,
    },
}

/// Says what could not be done.
trait OrFailed<T> {
    fn or_failed(self, what: &'static str) -> Result<T, BackupError>;
}

impl<T, E: Into<Cause>> OrFailed<T> for Result<T, E> {
    fn or_failed(self, what: &'static str) -> Result<T, BackupError> {
        self.map_err(|cause| BackupError::Failed {
            what,
            cause: cause.into(),
        })
    }
}

/// Takes a copy of `database` as of one moment, whether its service runs or not, checks it, and marks it: a service that
/// opens it, or a plain copy of it, imports from the stream before it writes. Blocks; give it a thread.
///
/// # Errors
///
/// [`BackupError`], and no file is left at `to`: it exists already, there is no database, the copy does not pass its check, or
/// the disk is full.
pub fn backup(database: &Path, options: &Options, to: &Path) -> Result<Manifest, BackupError> {
    refuse_existing(to)?;
    if !database.is_file() {
        return Err(BackupError::NoDatabase(database.to_owned()));
    }
    let database = &at(database, |path| {
        find(path)?;
        inspect(path, options)?;
        Ok(path.to_owned())
    })?;
    let to = &at(to, |path| Ok(path.to_owned()))?;
    refuse_existing(&manifest_path(to))?;
    // No other file has this name: nothing is replaced, and no other user can lay a link in its way.
    let suffix = format_args!(".{}.partial", options.environment.draw_word()).to_string();
    let partial = with_suffix(to, suffix);
    let made = make_backup(database, options, &partial, to);
    let _ = fs::remove_file(&partial);
    made
}

/// A link that leads nowhere exists, too.
fn refuse_existing(path: &Path) -> Result<(), BackupError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Err(BackupError::Exists(path.to_owned())),
        Err(_) => Ok(()),
    }
}

fn make_backup(
    database: &Path,
    options: &Options,
    partial: &Path,
    to: &Path,
) -> Result<Manifest, BackupError> {
    copy(database, partial)?;
    let now = options.environment.now();
    mark_copy(partial, options, &format!("it is a backup, taken at {now}"))?;
    let manifest = describe(partial, now.to_string())?;
    flush(partial)?;
    let described = manifest_path(to);
    // A new file, never one that exists or that a link leads to.
    let file = File::create_new(&described).map_err(|error| taken(&described, error))?;
    let done = write_manifest(file, &manifest)
        .and_then(|()| name(partial, to).map_err(|error| taken(to, error)))
        .and_then(|()| flush_folder(to));
    if done.is_err() {
        let _ = fs::remove_file(described);
    }
    done.map(|()| manifest)
}

fn write_manifest(mut to: File, manifest: &Manifest) -> Result<(), BackupError> {
    let text = serde_json::to_vec_pretty(manifest).expect("a manifest is JSON");
    let written = to.write_all(&text).and_then(|()| to.sync_all());
    written.or_failed("the manifest cannot be written")
}

/// Unlike a rename a link never replaces anything. On a file system without links the file is renamed.
fn name(partial: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(partial, to) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => fs::rename(partial, to),
        linked => linked,
    }
}

fn taken(path: &Path, error: io::Error) -> BackupError {
    match error.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(path.to_owned()),
        _ => BackupError::Failed {
            what: "the backup and its manifest cannot be named",
            cause: error.into(),
        },
    }
}

/// Reads a backup and its manifest, if it has one, and checks everything that can be checked.
///
/// # Errors
///
/// [`BackupError`]: there is no backup, it is empty, damaged, not what its manifest describes, or another service's.
pub fn check_backup(backup: &Path, options: &Options) -> Result<Manifest, BackupError> {
    let path = backup.to_owned();
    match fs::metadata(backup) {
        Ok(file) if file.is_file() && file.len() == 0 => return Err(BackupError::Empty(path)),
        Ok(file) if file.is_file() => {}
        _ => return Err(BackupError::NoBackup(path)),
    }
    let inspected = at(backup, |path| {
        inspect(path, options).map(|_| path.to_owned())
    });
    let backup = &inspected.map_err(|error| match error.why {
        Refusal::Damaged { detail } => BackupError::Damaged { path, detail },
        why => BackupError::Unfit(OpenError { path, why }),
    })?;
    let found = describe(backup, String::new())?;
    let Ok(text) = fs::read(manifest_path(backup)) else {
        return Ok(found); // a plain copy will do, if it is whole
    };
    let altered = |detail| BackupError::Altered {
        path: backup.clone(),
        detail,
    };
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| altered(format!("its manifest cannot be read: {error}")))?;
    let taken_at = manifest.taken_at.clone();
    match manifest == (Manifest { taken_at, ..found }) {
        true => Ok(manifest),
        false => Err(altered("size, checksum or last event differ".to_owned())),
    }
}

/// Puts a backup in the place of `database`, which no process may have open. The file that was there is kept under another
/// name; the next start imports the stream's later events. Blocks; give it a thread.
///
/// # Errors
///
/// [`BackupError`] as from [`check_backup`]; also when the database is in use or the disk has no room for both. The database is
/// then as it was.
pub fn restore(backup: &Path, options: &Options, database: &Path) -> Result<Restored, BackupError> {
    let manifest = check_backup(backup, options)?;
    let now = options.environment.now();
    let when = in_a_name(now);
    // Held to the end: no other process opens the file meanwhile.
    let (database, _ours) = at(database, |path| {
        let ours = Ownership::take_path(path)?;
        keep_private(path)?;
        ours.put_stale_wal_aside(&when)?;
        Ok((path.to_owned(), ours))
    })?;
    let suffix = format!(".{}.incoming", options.environment.draw_word());
    let incoming = with_suffix(&database, suffix);
    let reason = format!("it was restored from a backup at {now}");
    let copied = copy(backup, &incoming)
        .and_then(|()| mark_copy(&incoming, options, &reason))
        .and_then(|()| carry_over(&database, &incoming, options, &manifest))
        .and_then(|()| flush(&incoming));
    if copied.is_err() {
        let _ = fs::remove_file(&incoming);
    }
    copied?;
    let previous_seq = last_event(&database).ok();
    let previous =
        put_aside(&database, &when).or_failed("the present file cannot be given another name")?;
    fs::rename(&incoming, &database).or_failed("the backup cannot be put in place")?;
    flush_folder(&database)?;
    Ok(Restored {
        manifest,
        previous,
        previous_seq,
    })
}

/// The quarantine and the audit of the file that is replaced go on in the restored one.
fn carry_over(
    from: &Path,
    to: &Path,
    options: &Options,
    manifest: &Manifest,
) -> Result<(), BackupError> {
    // A file that cannot be read is kept under another name, and has nothing to carry over.
    let readable = from.is_file() && inspect(from, options).is_ok() && last_event(from).is_ok();
    let carry = || {
        let mut rows = connect::to_write(to)?;
        if readable {
            execute_on(&rows, "attach ?1 as present", from)?;
        }
        let tx = rows.transaction()?;
        if readable {
            tx.execute_batch(
                "insert or ignore into relay_set_aside (at_ms, found_in, log, seq, event_id, subject, envelope, reason, digest)
                   select at_ms, found_in, log, seq, event_id, subject, envelope, reason, digest
                   from present.relay_set_aside order by id;
                 insert into relay_audit (at_ms, action, detail)
                   select at_ms, action, detail from present.relay_audit as theirs
                   where not exists (select 1 from relay_audit as ours
                     where ours.at_ms = theirs.at_ms and ours.action = theirs.action and ours.detail = theirs.detail)
                   order by id;",
            )?;
        }
        let detail = format!("a backup that ends at event {}", manifest.seq);
        identity::audit(&tx, options.environment.now_ms(), "restored", &detail)?;
        tx.commit()
    };
    carry().or_failed("the present file's quarantine and audit cannot be carried over")
}

/// Everything that is committed, in one read transaction, without a WAL of its own.
fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let rows = connect::to_read_as_guest(from);
    let copied = rows.and_then(|rows| execute_on(&rows, "vacuum into ?1", to));
    copied.or_failed("the database cannot be copied")
}

fn execute_on(rows: &Connection, sql: &str, path: &Path) -> rusqlite::Result<()> {
    let path = path.to_str().ok_or("its name is no UTF-8");
    let path = path.map_err(|why| rusqlite::Error::ToSqlConversionFailure(why.into()))?;
    rows.execute(sql, [&path as &dyn ToSql]).map(drop)
}

fn mark_copy(copy: &Path, options: &Options, reason: &str) -> Result<(), BackupError> {
    let mark = || {
        let mut rows = connect::to_write(copy)?;
        install(&mut rows, options, false)?;
        identity::clear_successor(&rows)?;
        identity::mark(&rows, options.environment.now_ms(), reason)
    };
    mark().or_failed("the copy cannot be marked")
}

/// Checks the pages, the references and the log, and says what the file holds.
fn describe(path: &Path, taken_at: String) -> Result<Manifest, BackupError> {
    let rows = connect::to_look(path).or_failed("the backup cannot be opened")?;
    let damaged = |detail| BackupError::Damaged {
        path: path.to_owned(),
        detail,
    };
    let check = || {
        let pages: String = rows.query_row("pragma integrity_check(1)", [], |row| row.get(0))?;
        let sql =
            "select (select count(*) from pragma_foreign_key_check), count(*) from relay_outbox";
        let (dangling, events): (u64, u64) =
            rows.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let ends = outbox::ends(&rows)?;
        let detail = match (pages.as_str(), dangling) {
            ("ok", 0) if events == ends.seq + 1 - ends.first => None,
            ("ok", 0) => Some("its log has holes".to_owned()),
            ("ok", _) => Some(format!("{dangling} rows refer to rows that do not exist")),
            _ => Some(pages),
        };
        Ok((detail, ends, Identity::load(&rows)?))
    };
    let checked = check().map_err(|error: rusqlite::Error| damaged(error.to_string()))?;
    let (detail, ends, identity) = checked;
    if let Some(detail) = detail {
        return Err(damaged(detail));
    }
    let (bytes, sha256) = digest(path).or_failed("the backup cannot be read")?;
    Ok(Manifest {
        service: identity.service,
        stream: identity.stream,
        database_id: ends.origin.database_id.to_string(),
        epoch: ends.origin.epoch,
        seq: ends.seq,
        event_id: ends.last.map(|id| id.to_string()),
        taken_at,
        bytes,
        sha256,
    })
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            return Ok((bytes, HEXLOWER.encode(&hasher.finalize())));
        }
        hasher.update(&chunk[..read]);
        bytes += read as u64;
    }
}

fn last_event(database: &Path) -> rusqlite::Result<u64> {
    head::seq(&connect::to_look(database)?)
}

/// Gives the database a second name, and its WAL another one if it has to keep it. The first name goes over to the backup in
/// one step, so that no process finds the place empty. On a file system without links it gets the other name first.
fn put_aside(database: &Path, when: &str) -> io::Result<Option<PathBuf>> {
    let aside = with_suffix(database, format_args!(".before-restore-{when}"));
    if database.exists() {
        // A whole file takes its WAL in and deletes it. A damaged one keeps it.
        let _damaged = connect::to_write(database)
            .and_then(|rows| rows.execute_batch("pragma wal_checkpoint(truncate)"));
    }
    if with_suffix(database, "-wal").exists() {
        fs::rename(with_suffix(database, "-wal"), with_suffix(&aside, "-wal"))?;
    }
    let _index = fs::remove_file(with_suffix(database, "-shm"));
    if !database.exists() {
        return Ok(None);
    }
    fs::hard_link(database, &aside).or_else(|_| fs::rename(database, &aside))?;
    Ok(Some(aside))
}

fn manifest_path(backup: &Path) -> PathBuf {
    with_suffix(backup, ".manifest.json")
}

fn flush(path: &Path) -> Result<(), BackupError> {
    let flushed = File::open(path).and_then(|file| file.sync_all());
    flushed.or_failed("the copy cannot be flushed to the disk")
}

fn flush_folder(of: &Path) -> Result<(), BackupError> {
    match of.parent().filter(|folder| *folder != Path::new("")) {
        Some(folder) => flush(folder),
        None => flush(Path::new(".")),
    }
}

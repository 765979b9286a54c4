//! Copies of a database: taken while its service runs, checked, and put back so that nothing is lost silently.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::database::lock::Ownership;
use crate::database::open::{inspect, install};
use crate::database::path::{RealPath, beside, find, in_a_name, keep_private};
use crate::database::{Options, connect, head, identity};
use crate::error::{Cause, OpenError};
use crate::outbox;

/// What a backup holds: written beside it as `<backup>.manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub service: String,
    pub stream: String,
    pub database_id: String,
    pub epoch: u32,
    /// The last event that is in it; 0 when there is none.
    pub seq: u64,
    pub event_id: Option<String>,
    /// RFC 3339, UTC.
    pub taken_at: String,
    pub bytes: u64,
    pub sha256: String,
}

/// What a restore did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    pub manifest: Manifest,
    /// Where the file that was there lies now.
    pub previous: Option<PathBuf>,
    /// The last event in that file, if it could be read: what it held after the backup's and had not published is there
    /// and nowhere else.
    pub previous_seq: Option<u64>,
}

/// Why there is no backup, or why one was not put back. The database is as it was.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0} exists: choose a new name, a backup is never overwritten")]
    Exists(PathBuf),
    #[error("there is no database {0} to take a backup of")]
    NoDatabase(PathBuf),
    #[error("there is no backup {0}")]
    NoBackup(PathBuf),
    #[error("{0} is empty: it is no backup")]
    Empty(PathBuf),
    #[error("{path} is no backup of this service's that can be put back")]
    Unfit {
        path: PathBuf,
        #[source]
        cause: OpenError,
    },
    #[error(transparent)]
    Refused(#[from] OpenError),
    #[error("the backup {path} is damaged ({detail}): use another one")]
    Damaged { path: PathBuf, detail: String },
    #[error("the backup {path} is not the file its manifest describes ({detail}): use another one")]
    Altered { path: PathBuf, detail: String },
    #[error("{what}")]
    Failed {
        what: String,
        #[source]
        cause: Cause,
    },
}

/// Takes a copy of `database` as of one moment, whether its service runs or not, checks it, and marks it: whoever opens
/// it, or a plain copy of it, imports from the stream before anything is written. Blocks; give it a thread.
pub fn backup(database: &Path, options: &Options, to: &Path) -> Result<Manifest, BackupError> {
    refuse_existing(to)?;
    if !database.is_file() {
        return Err(BackupError::NoDatabase(database.to_owned()));
    }
    let (database, to) = (&*RealPath::of(database)?, &*RealPath::of(to)?);
    refuse_existing(&manifest_path(to))?;
    find(database)?;
    inspect(database, options)?;
    // No other file has this name: nothing is replaced, and no one can lay a link in its way.
    let partial = beside(
        to,
        format_args!(".{}.partial", options.environment.draw_word()),
    );
    let made = make_backup(database, options, &partial, to);
    let _ = fs::remove_file(&partial);
    made
}

/// A link that leads nowhere is there, too.
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
    let reason = format!("it is a backup, taken at {now}");
    mark_copy(partial, options, &reason)?;
    let manifest = describe(partial, now.to_string())?;
    flush(partial)?;
    let beside = manifest_path(to);
    // A new file, never one that is there or that a link leads to.
    let file = File::create_new(&beside);
    let file = file.map_err(taken(&beside, "the manifest cannot be made"))?;
    let done = write_manifest(file, &manifest)
        .and_then(|()| name(partial, to))
        .and_then(|()| flush_folder(to));
    if done.is_err() {
        let _ = fs::remove_file(beside);
    }
    done.map(|()| manifest)
}

fn write_manifest(mut to: File, manifest: &Manifest) -> Result<(), BackupError> {
    let text = serde_json::to_vec_pretty(manifest).expect("a manifest is JSON");
    let written = to.write_all(&text).and_then(|()| to.sync_all());
    written.map_err(failed("the manifest cannot be written"))
}

/// Unlike a rename a link never replaces anything. Where a file can have one name only, it is renamed.
fn name(partial: &Path, to: &Path) -> Result<(), BackupError> {
    match fs::hard_link(partial, to) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            fs::rename(partial, to).map_err(failed("the backup cannot be named"))
        }
        linked => linked.map_err(taken(to, "the backup cannot be named")),
    }
}

fn taken(path: &Path, what: &str) -> impl Fn(std::io::Error) -> BackupError {
    move |error| match error.kind() {
        ErrorKind::AlreadyExists => BackupError::Exists(path.to_owned()),
        _ => failed(what)(error),
    }
}

/// Reads a backup and its manifest, if it has one, and checks everything that can be checked.
pub fn check_backup(backup: &Path, options: &Options) -> Result<Manifest, BackupError> {
    let path = backup.to_owned();
    match fs::metadata(backup) {
        Ok(file) if file.is_file() && file.len() == 0 => return Err(BackupError::Empty(path)),
        Ok(file) if file.is_file() => {}
        _ => return Err(BackupError::NoBackup(path)),
    }
    let backup = &*RealPath::of(backup)?;
    inspect(backup, options).map_err(|cause| match cause {
        OpenError::Damaged { path, detail } => BackupError::Damaged { path, detail },
        cause => BackupError::Unfit { path, cause },
    })?;
    let found = describe(backup, String::new())?;
    let Ok(text) = fs::read(manifest_path(backup)) else {
        return Ok(found); // a plain copy will do, if it is whole
    };
    let altered = |detail: String| BackupError::Altered {
        path: backup.to_owned(),
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

/// Puts a backup in the place of `database`, which nobody may have open. What was there is kept beside it; the next start
/// imports what the stream holds more. Blocks; give it a thread.
pub fn restore(backup: &Path, options: &Options, database: &Path) -> Result<Restored, BackupError> {
    let manifest = check_backup(backup, options)?;
    let database = &RealPath::of(database)?;
    let ours = Ownership::take_place(database)?;
    keep_private(database)?;
    let now = options.environment.now();
    let when = in_a_name(now);
    let stale = ours.put_stale_wal_aside(&when);
    stale.map_err(failed("the present file's WAL cannot be put aside"))?;
    let incoming = format!(".{}.incoming", options.environment.draw_word());
    let incoming = beside(database, incoming);
    let reason = format!("it was restored from a backup at {now}");
    let copied = copy(backup, &incoming)
        .and_then(|()| mark_copy(&incoming, options, &reason))
        .and_then(|()| carry_over(database, &incoming, options, &manifest))
        .and_then(|()| flush(&incoming));
    if copied.is_err() {
        let _ = fs::remove_file(&incoming);
    }
    copied?;
    let previous_seq = last_event(database).ok();
    let previous = put_aside(database, &when)?;
    fs::rename(&incoming, &**database).map_err(failed("the backup cannot be put in place"))?;
    flush_folder(database)?;
    Ok(Restored {
        manifest,
        previous,
        previous_seq,
    })
}

/// What was set aside in the file that is replaced, and what was done to it, goes on in the one that comes.
fn carry_over(
    from: &Path,
    to: &Path,
    options: &Options,
    manifest: &Manifest,
) -> Result<(), BackupError> {
    let failed = failed("what the present file has set aside cannot be carried over");
    let mut rows = connect::to_write(to).map_err(&failed)?;
    let now_ms = options.environment.now_ms();
    // A file that cannot be read is kept beside, and says nothing here.
    let readable = from.is_file() && inspect(from, options).is_ok() && last_event(from).is_ok();
    if readable {
        let from = from.to_str().ok_or("its name is no UTF-8");
        let from = from.map_err(|why| BackupError::Failed {
            what: "the present file cannot be named".to_owned(),
            cause: why.into(),
        })?;
        rows.execute("attach ?1 as present", [from])
            .map_err(&failed)?;
    }
    let tx = rows.transaction().map_err(&failed)?;
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
        )
        .map_err(&failed)?;
    }
    let detail = format!("a backup that ends at event {}", manifest.seq);
    identity::audit(&tx, now_ms, "restored", &detail).map_err(&failed)?;
    tx.commit().map_err(failed)
}

/// Everything that is committed, in one read transaction, without a WAL of its own.
fn copy(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = failed("the database cannot be copied");
    let rows = connect::to_read_as_guest(from).map_err(&failed)?;
    let to = to.to_str().ok_or("its name is no UTF-8");
    let to = to.map_err(|why| BackupError::Failed {
        what: "the copy cannot be named".to_owned(),
        cause: why.into(),
    })?;
    rows.execute("vacuum into ?1", [to]).map_err(failed)?;
    Ok(())
}

fn mark_copy(copy: &Path, options: &Options, reason: &str) -> Result<(), BackupError> {
    let failed = failed("the copy cannot be marked");
    let mut rows = connect::to_write(copy).map_err(&failed)?;
    install(&mut rows, options, false).map_err(&failed)?;
    identity::succeed_nobody(&rows).map_err(&failed)?;
    let marked = identity::mark(&rows, options.environment.now_ms(), reason);
    marked.map_err(failed)
}

/// Checks the pages, the references and the log, and says what the file holds.
fn describe(path: &Path, taken_at: String) -> Result<Manifest, BackupError> {
    let rows = connect::to_look(path).map_err(failed("the backup cannot be opened"))?;
    let damaged = |detail: String| BackupError::Damaged {
        path: path.to_owned(),
        detail,
    };
    let unreadable = |error: rusqlite::Error| damaged(error.to_string());
    let pages: String = rows
        .query_row("pragma integrity_check(1)", [], |row| row.get(0))
        .map_err(unreadable)?;
    if pages != "ok" {
        return Err(damaged(pages));
    }
    let sql = "select count(*) from pragma_foreign_key_check";
    let dangling: u64 = rows
        .query_row(sql, [], |row| row.get(0))
        .map_err(unreadable)?;
    if dangling > 0 {
        return Err(damaged(format!(
            "{dangling} rows refer to rows that are not there"
        )));
    }
    let ends = outbox::ends(&rows).map_err(unreadable)?;
    let sql = "select count(*) from relay_outbox";
    let count: u64 = rows
        .query_row(sql, [], |row| row.get(0))
        .map_err(unreadable)?;
    if count != ends.seq + 1 - ends.first {
        return Err(damaged("its log has holes".to_owned()));
    }
    let (service, stream) = identity::names(&rows).map_err(unreadable)?;
    let (bytes, sha256) = digest(path).map_err(failed("the backup cannot be read"))?;
    Ok(Manifest {
        service,
        stream,
        database_id: ends.origin.database_id.to_string(),
        epoch: ends.origin.epoch,
        seq: ends.seq,
        event_id: ends.last.map(|id| id.to_string()),
        taken_at,
        bytes,
        sha256,
    })
}

fn digest(path: &Path) -> std::io::Result<(u64, String)> {
    let (mut file, mut hasher, mut bytes) = (File::open(path)?, Sha256::new(), 0);
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = file.read(&mut chunk)?;
        if read == 0 {
            break;
        }
        hasher.update(&chunk[..read]);
        bytes += read as u64;
    }
    let digest = hasher.finalize();
    Ok((
        bytes,
        digest.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

fn last_event(database: &Path) -> rusqlite::Result<u64> {
    head::seq(&connect::to_look(database)?)
}

/// Gives the database a second name, beside it, and its WAL another one, if one cannot be done without. The first name
/// goes over to the backup in one step, so that no process finds the place empty. Where a file can have one name only, it gets
/// the other name first.
fn put_aside(database: &Path, when: &str) -> Result<Option<PathBuf>, BackupError> {
    let failed = failed("the present file cannot be put aside");
    let aside = beside(database, format_args!(".before-restore-{when}"));
    if database.exists() {
        // A whole file takes its WAL in and deletes it. A damaged one keeps it.
        let _damaged = connect::to_write(database)
            .and_then(|rows| rows.execute_batch("pragma wal_checkpoint(truncate)"));
    }
    if beside(database, "-wal").exists() {
        fs::rename(beside(database, "-wal"), beside(&aside, "-wal")).map_err(&failed)?;
    }
    let _index = fs::remove_file(beside(database, "-shm"));
    if !database.exists() {
        return Ok(None);
    }
    fs::hard_link(database, &aside)
        .or_else(|_| fs::rename(database, &aside))
        .map_err(failed)?;
    Ok(Some(aside))
}

fn manifest_path(backup: &Path) -> PathBuf {
    beside(backup, ".manifest.json")
}

fn flush(path: &Path) -> Result<(), BackupError> {
    let flushed = File::open(path).and_then(|file| file.sync_all());
    flushed.map_err(failed("the copy cannot be flushed to the disk"))
}

fn flush_folder(of: &Path) -> Result<(), BackupError> {
    match of.parent().filter(|folder| *folder != Path::new("")) {
        Some(folder) => flush(folder),
        None => flush(Path::new(".")),
    }
}

fn failed<E: Into<Cause>>(what: &str) -> impl Fn(E) -> BackupError {
    move |cause| BackupError::Failed {
        what: what.to_owned(),
        cause: cause.into(),
    }
}

//! What the disk does to the open file, as the writer notices it: full, not taking the WAL back, or another file at the path.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, fs};

use rusqlite::{Connection, ErrorCode, ffi};
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;
use rustix::process::{Flock, FlockType, fcntl_getlk};
use tokio::sync::watch;

use super::connect::BUSY_TIMEOUT;
use super::lock::Ownership;
use super::path::with_suffix;
use super::{Gate, identity};

/// The exit code of a process that no longer knows what is on its disk (EX_IOERR of sysexits.h).
const EXIT_STORAGE: i32 = 74;
/// From here on SQLite itself tries a checkpoint at each commit, and says nothing when that fails.
const CHECKPOINTED_BYTES: u64 = 1000 * 4096;
/// A WAL that is larger than this is cut to nothing as soon as no read needs it.
const MAX_WAL_BYTES: u64 = 64 << 20;
/// A disk that was full has room again when this much can be written. A closed file keeps as much for its next start.
const ROOM_BYTES: usize = 1 << 20;
/// The index of a WAL of 256 MiB.
const INDEX_BYTES: u64 = 512 << 10;

/// The state of the disk; see [`Database::disk`](crate::Database::disk).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskHealth {
    /// A commit failed because there was no room for it, and there is none yet.
    pub full: bool,
    /// Which process keeps writes waiting, if another program holds the file's write lock.
    pub locked: Option<String>,
    /// The size of the WAL, looked at every two seconds.
    pub wal_bytes: u64,
    /// Checkpoints that failed since the start.
    pub checkpoint_failures: u64,
    /// Why the last checkpoint failed; `None` when it did not.
    pub checkpoint_failure: Option<String>,
}

impl DiskHealth {
    /// What is wrong, in words.
    pub fn trouble(&self) -> Option<String> {
        let all: Vec<_> = self.troubles().into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Why no write succeeds for now.
    pub fn refuses_writes(&self) -> Option<String> {
        let [full, locked, ..] = self.troubles();
        full.or(locked)
    }

    fn troubles(&self) -> [Option<String>; 4] {
        let full = || "the disk is full: writes fail until there is room again".to_owned();
        let locked = |held| format!("{held}: writes fail until it releases it");
        let failing = |why| format!("the WAL cannot be checkpointed: {why}");
        let wal = || {
            let mib = self.wal_bytes >> 20;
            let why = match self.checkpoint_failure {
                Some(_) => "",
                None => ", because a read is open since long ago",
            };
            format!("the WAL takes {mib} MiB{why}")
        };
        [
            self.full.then(full),
            self.locked.as_ref().map(locked),
            self.checkpoint_failure.as_ref().map(failing),
            self.has_large_wal().then(wal),
        ]
    }

    fn has_large_wal(&self) -> bool {
        self.wal_bytes > MAX_WAL_BYTES
    }
}

/// What happens when the disk fails under a commit: from then on nothing more can be known of the file until it is opened
/// again. It is given the reason. By default the process ends with exit code 74.
#[derive(Clone)]
pub struct OnDiskFailure(Arc<dyn Fn(&str) + Send + Sync>);

impl OnDiskFailure {
    /// Called once, on the writer's thread, before any of the writes in question is answered. When it returns, they are
    /// answered [`WriteError::Unknown`](crate::WriteError::Unknown), and the database is closed.
    pub fn new(hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(super) fn call(&self, why: &str) {
        (self.0)(why);
    }
}

impl Default for OnDiskFailure {
    fn default() -> Self {
        Self::new(|_| std::process::exit(EXIT_STORAGE))
    }
}

impl fmt::Debug for OnDiskFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnDiskFailure")
    }
}

/// The writer's view of the disk.
pub(super) struct Disk {
    ownership: Arc<Ownership>,
    /// See [`reserve_index`].
    index: Arc<File>,
    wal: PathBuf,
    /// Written and removed, to find out whether there is room.
    room: PathBuf,
    gate: watch::Sender<Gate>,
    health: watch::Sender<DiskHealth>,
}

impl Disk {
    pub(super) fn new(
        ownership: Arc<Ownership>,
        index: Arc<File>,
        gate: watch::Sender<Gate>,
    ) -> Self {
        let disk = Self {
            wal: with_suffix(ownership.path(), "-wal"),
            room: room(ownership.path()),
            ownership,
            index,
            gate,
            health: watch::Sender::default(),
        };
        let full = disk.has_room() == Some(false);
        disk.note(|health| health.full = full);
        disk
    }

    pub(super) fn health(&self) -> watch::Receiver<DiskHealth> {
        self.health.subscribe()
    }

    /// Why the open file is not the one at the path any more. Then no write is taken until a restart.
    pub(super) fn displaced(&self) -> Option<String> {
        let why = self.ownership.displaced()?;
        let halted = Gate::Halted(why.clone());
        if *self.gate.borrow() != halted {
            tracing::error!(reason = %why, "writing is halted");
            self.gate.send_replace(halted);
        }
        Some(why)
    }

    /// To be called before each transaction: see [`identity::renew`].
    pub(super) fn renew_nonce(&self, rows: &Connection) -> rusqlite::Result<()> {
        identity::renew(rows, &self.ownership)
    }

    /// Called for each commit that failed; answers whether the disk is full. A write that is too large for SQLite's memory
    /// meets a full disk before the commit, and then only says that its transaction has ended.
    pub(super) fn filled(&self, error: &rusqlite::Error) -> bool {
        let full = match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => true,
            Some(ErrorCode::OperationAborted) => self.has_room() == Some(false),
            _ => false,
        };
        self.note(|health| health.full |= full);
        full
    }

    /// Called for each commit that has waited in vain for the file's write lock; answers which process holds it.
    pub(super) fn locked(&self, now: jiff::Timestamp) -> String {
        let held = || {
            let holder = lock_holder(&self.index).unwrap_or_else(|| "another program".to_owned());
            format!("{holder} holds the write lock of the database file since {now:.0}")
        };
        self.note(|health| health.locked.get_or_insert_with(held).clone())
    }

    /// Checks what changes without a commit; called every two seconds, on the connection that writes.
    pub(super) fn tend(&self, rows: &Connection) {
        if self.displaced().is_some() {
            return;
        }
        self.note(|health| {
            health.full = health.full && self.has_room() != Some(true);
            health.locked = health
                .locked
                .take()
                .filter(|_| lock_holder(&self.index).is_some());
            self.tend_wal(rows, health);
        });
    }

    /// Called for each commit. Where no file can be written to try, a commit is the only sign of room.
    pub(super) fn committed(&self) {
        if self.health.borrow().refuses_writes().is_some() {
            self.note(|health| {
                health.full = health.full && self.has_room() == Some(false);
                health.locked = None;
            });
        }
    }

    /// Logs a trouble when it begins and when it ends.
    fn note<T>(&self, change: impl FnOnce(&mut DiskHealth) -> T) -> T {
        let before = self.health.borrow().clone();
        let mut now = before.clone();
        let answer = change(&mut now);
        for change in before.troubles().into_iter().zip(now.troubles()) {
            match change {
                (None, Some(trouble)) => tracing::error!("{trouble}"),
                (Some(trouble), None) => tracing::info!("resolved: {trouble}"),
                _ => {}
            }
        }
        self.health
            .send_if_modified(|health| std::mem::replace(health, now) != before);
        answer
    }

    /// A service that is not ready is asked to write nothing, so it finds out by itself. One small commit that succeeds says
    /// little: the next one may be larger. `None`: that cannot be tried here.
    fn has_room(&self) -> Option<bool> {
        let mut file = new_file(&self.room).ok()?; // on a disk without inodes, writes may succeed
        let tried = file.write_all(&vec![0; ROOM_BYTES]);
        let _none = fs::remove_file(&self.room);
        match tried.map_err(|error| error.kind()) {
            Ok(()) => Some(true),
            Err(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Some(false),
            Err(_) => None,
        }
    }

    fn tend_wal(&self, rows: &Connection, health: &mut DiskHealth) {
        health.wal_bytes = self.wal_bytes();
        if health.wal_bytes >= CHECKPOINTED_BYTES || health.checkpoint_failure.is_some() {
            let failed = checkpoint(rows, health.has_large_wal()).err();
            health.checkpoint_failures += u64::from(failed.is_some());
            health.checkpoint_failure = failed.map(|error| error.to_string());
            health.wal_bytes = self.wal_bytes();
        }
    }

    fn wal_bytes(&self) -> u64 {
        fs::metadata(&self.wal).map_or(0, |wal| wal.len())
    }
}

/// The file that keeps room on the disk.
fn room(of: &Path) -> PathBuf {
    with_suffix(of, ".room")
}

/// SQLite needs an index of the WAL even to read, so a start on a full disk could not read either. To be called when the last
/// connection has closed, and has given the index back. Where there is less room, what there is will do.
pub(super) fn keep_room(path: &Path) {
    let kept = new_file(&room(path)).and_then(|mut file| file.write_all(&vec![0; ROOM_BYTES]));
    if let Err(error) = kept {
        tracing::warn!(%error, "no room is kept on the disk for the next start");
    }
}

/// What lies there, as a link, is not written through.
fn new_file(path: &Path) -> io::Result<File> {
    let _old = fs::remove_file(path);
    let mut new = File::options();
    new.write(true).create_new(true).mode(0o600).open(path)
}

/// To be called before the first connection opens.
pub(super) fn free_room(path: &Path) {
    let _none = fs::remove_file(room(path));
}

/// Takes room on the disk for the index of the WAL, so that none lacks when the disk is full. SQLite makes only one byte of
/// each 4 KiB of it real: with smaller blocks, the rest would end the process (SIGBUS) on a full disk.
///
/// The handle must outlive every connection: closing it drops the locks that SQLite holds on the index in this process.
pub(super) fn reserve_index(path: &Path) -> io::Result<File> {
    let index = File::options()
        .read(true)
        .write(true)
        .open(with_suffix(path, "-shm"))?;
    let reserve = |bytes| fallocate(&index, FallocateFlags::empty(), 0, bytes);
    let reserved = match reserve(INDEX_BYTES) {
        Err(Errno::NOSPC | Errno::DQUOT) => reserve(index.metadata()?.len()),
        reserved => reserved,
    };
    match reserved {
        Err(Errno::NOSPC | Errno::DQUOT) => Err(ErrorKind::StorageFull.into()),
        _ => Ok(index), // some file systems cannot reserve
    }
}

/// The other process that holds the write lock: `process 4711 (sqlite3)`.
fn lock_holder(index: &File) -> Option<String> {
    /// Where SQLite takes it, in the index of the WAL.
    const WRITE_LOCK: u64 = 120;
    let mut lock = Flock::from(FlockType::WriteLock);
    (lock.start, lock.length) = (WRITE_LOCK, 1);
    let pid = fcntl_getlk(index, &lock).ok()??.pid?.as_raw_pid();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", name.trim()))
}

/// Whether no file can be made there.
pub(super) fn has_no_inodes(path: &Path) -> bool {
    let disk = path.parent().and_then(|folder| statvfs(folder).ok());
    disk.is_some_and(|disk| disk.f_files > 0 && disk.f_favail == 0)
}

/// Whether this, or what caused it, is want of room.
pub(super) fn is_full(error: &(dyn std::error::Error + 'static)) -> bool {
    let of_sqlite = |error: &rusqlite::Error| {
        let index = error.sqlite_error().map(|error| error.extended_code);
        error.sqlite_error_code() == Some(ErrorCode::DiskFull)
            || index == Some(ffi::SQLITE_IOERR_SHMSIZE)
    };
    let of_system = |error: &io::Error| {
        matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    };
    error.downcast_ref().is_some_and(of_sqlite)
        || error.downcast_ref().is_some_and(of_system)
        || error.source().is_some_and(is_full)
}

/// Moves the WAL's pages into the file, as far as no read holds them, without waiting for any. If all could be moved, a large
/// WAL is cut to nothing.
fn checkpoint(rows: &Connection, cut: bool) -> rusqlite::Result<()> {
    let sql = match cut {
        true => "pragma wal_checkpoint(truncate)",
        false => "pragma wal_checkpoint(passive)",
    };
    rows.busy_timeout(Duration::ZERO)?;
    let done = rows.query_row(sql, [], |_| Ok(()));
    rows.busy_timeout(BUSY_TIMEOUT)?;
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_wal_is_blamed_on_a_read_only_where_its_checkpoint_succeeds() {
        let mut health = DiskHealth {
            wal_bytes: 65 << 20,
            ..DiskHealth::default()
        };
        let blames_a_read = |health: &DiskHealth| health.trouble().unwrap().contains("a read");
        assert!(blames_a_read(&health));
        health.checkpoint_failure = Some("no room".to_owned());
        assert!(!blames_a_read(&health), "{:?}", health.trouble());
    }
}

//! Ownership of a database file: one process at a time, whatever name it opens the file by.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::path::with_suffix;
use crate::error::Refusal;

/// The exclusive right to a database. The kernel drops both locks with the process, however that ends.
///
/// The lock file names the process that holds it, and the nonce that the database had when it was open last. It can
/// be deleted, and it does not follow a file that is moved. The lock on the database itself does.
pub(crate) struct Ownership {
    path: PathBuf,
    lock_file: File,
    /// Opened before SQLite opens the file and closed after it: closing any handle of a file drops every lock that SQLite
    /// holds on it in this process. `None` where there is no file yet.
    database: Option<File>,
    nonces: Vec<String>,
    /// The nonce that the file does not know yet, because its disk was full when it was opened.
    unwritten: Mutex<Option<String>>,
}

const HOLDER: &str = "process ";
const NONCE: &str = "nonce ";
/// Where the header of a database says how it is written: twice 1 with a rollback journal, twice 2 with a WAL.
const WRITTEN_HOW: u64 = 18;

impl Ownership {
    /// Locks the file, which is created if it is missing.
    pub(super) fn take(path: &Path) -> Result<Self, Refusal> {
        let mut this = Self::take_path(path)?;
        if this.database.is_none() {
            this.database = lock_database(path, true)?;
        }
        Ok(this)
    }

    /// Locks the path, and the file if there is one.
    pub(crate) fn take_path(path: &Path) -> Result<Self, Refusal> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(with_suffix(path, ".lock"))?;
        let locked = file.try_lock();
        let mut this = Self {
            path: path.to_owned(),
            lock_file: file,
            database: None,
            nonces: Vec::new(),
            unwritten: Mutex::default(),
        };
        let said = this.read()?;
        let lines = |word| said.lines().filter_map(move |line| line.strip_prefix(word));
        match locked {
            Ok(()) => {
                this.database = lock_database(path, false)?;
                this.nonces = lines(NONCE).map(str::to_owned).collect();
                this.sign(&this.nonces)?;
                Ok(this)
            }
            Err(TryLockError::WouldBlock) => Err(Refusal::InUse {
                holder: lines(HOLDER)
                    .next()
                    .map_or_else(|| "unknown".to_owned(), |pid| format!("{HOLDER}{pid}")),
            }),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// To be called when no connection is left.
    pub(super) fn release(&self) {
        for file in self.database.iter().chain([&self.lock_file]) {
            if let Err(error) = file.unlock() {
                tracing::warn!(%error, "the database's lock is released with the process instead of now");
            }
        }
    }

    pub(super) fn knows_any(&self) -> bool {
        !self.nonces.is_empty()
    }

    pub(super) fn knows(&self, nonce: &str) -> bool {
        self.nonces.iter().any(|known| known == nonce)
    }

    /// From now on this nonce is valid, too, besides the one that the file has.
    pub(super) fn accept_also(&mut self, nonce: &str, of_file: Option<&str>) -> io::Result<()> {
        self.nonces.retain(|known| Some(&**known) == of_file);
        self.nonces.push(nonce.to_owned());
        *self.unwritten() = Some(nonce.to_owned());
        self.sign(&self.nonces)
    }

    /// From now on only this one is: the file knows it.
    pub(super) fn accept_only(&self, nonce: String) -> io::Result<()> {
        self.sign(&[nonce])?;
        *self.unwritten() = None;
        Ok(())
    }

    pub(super) fn unwritten(&self) -> MutexGuard<'_, Option<String>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the file at the path is not the one that is open, if it is not: what is written then is lost.
    pub(super) fn displaced(&self) -> Option<String> {
        let open = self.database.as_ref()?.metadata();
        let why = match (fs::metadata(&self.path), open) {
            (Ok(there), Ok(open)) if (there.dev(), there.ino()) == (open.dev(), open.ino()) => {
                return None;
            }
            (Ok(_), Ok(_)) => "was replaced by another file".to_owned(),
            (Err(error), _) if error.kind() == ErrorKind::NotFound => "is gone".to_owned(),
            (Err(error), _) | (_, Err(error)) => format!("cannot be looked at: {error}"),
        };
        let path = self.path.display();
        Some(format!(
            "{path} {why} while this process has it open; stop the service, put the right file there and start again"
        ))
    }

    /// Moves a WAL away that cannot belong to the file: an empty file has none, and neither has one that was written with a
    /// rollback journal, as every backup is. SQLite would take its pages into the file.
    pub(crate) fn put_stale_wal_aside(&self, when: &str) -> io::Result<()> {
        let wal = with_suffix(&self.path, "-wal");
        let found = fs::metadata(&wal).is_ok_and(|wal| wal.len() > 0);
        if !found || self.can_have_a_wal()? {
            return Ok(());
        }
        let aside = with_suffix(&self.path, format_args!("-wal.stale-{when}"));
        fs::rename(&wal, &aside)?;
        let _index = fs::remove_file(with_suffix(&self.path, "-shm"));
        tracing::warn!(
            path = %self.path.display(),
            kept = %aside.display(),
            "the WAL next to the database belongs to an earlier file; it is kept under another name"
        );
        Ok(())
    }

    fn can_have_a_wal(&self) -> io::Result<bool> {
        let Some(database) = &self.database else {
            return Ok(false);
        };
        let mut how = [0; 2];
        match database.read_exact_at(&mut how, WRITTEN_HOW) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
            read => read.map(|()| how != [1, 1]),
        }
    }

    fn read(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.lock_file.rewind()?;
        self.lock_file.read_to_string(&mut text)?;
        Ok(text)
    }

    fn sign(&self, nonces: &[String]) -> io::Result<()> {
        let mut text = format!("{HOLDER}{}\n", std::process::id());
        for nonce in nonces {
            text.push_str(&format!("{NONCE}{nonce}\n"));
        }
        let mut file = &self.lock_file;
        file.rewind()?;
        file.write_all(text.as_bytes())?;
        file.set_len(text.len() as u64)?;
        file.sync_all()
    }
}

/// Opens the database file and, on Linux, locks it. Elsewhere this lock would get in the way of SQLite's own, so there the
/// lock file holds alone.
fn lock_database(path: &Path, create: bool) -> Result<Option<File>, Refusal> {
    let opened = File::options()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == ErrorKind::NotFound && !create => return Ok(None),
        opened => opened?,
    };
    if cfg!(not(target_os = "linux")) {
        return Ok(Some(file));
    }
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            std::mem::forget(file); // its owner may be this process, and closing would drop the locks of its SQLite
            Err(Refusal::InUse {
                holder: "unknown: its lock file was deleted, or the file was moved".to_owned(),
            })
        }
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

//! What can happen to a service's database file: copied, restored from an older copy, lost, damaged; its whole disk rolled back
//! or cloned, so that no file on it shows that.
//!
//! A database is up to three files, `x.db`, `x.db-wal` and `x.db-shm`. Other files next to it are left alone.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};

use crate::damage;
use crate::part::Part;
use crate::services::Service;

/// What a disk can lose at once.
const SECTOR: u64 = 512;

impl Service {
    /// A backup: a consistent copy if the service runs, else a copy of its files.
    pub fn copy_database(&mut self, to: &Path) -> Result<()> {
        match self.is_running() {
            true => copy_live(&self.database, to),
            false => copy_files(&self.database, to)
                .with_context(|| format!("cannot copy {}", self.database.display())),
        }
    }

    /// Replaces the database by this copy of it, as a new file. The copy stays and can be used again.
    pub fn swap_database(&mut self, from: &Path) -> io::Result<()> {
        self.delete_database()?;
        copy_files(from, &self.database)
    }

    /// Deletes the database: a lost file.
    pub fn delete_database(&mut self) -> io::Result<()> {
        assert!(!self.is_running(), "stop or kill {} before", self.name());
        for file in files_of(&self.database) {
            remove_if_there(&file)?;
        }
        Ok(())
    }

    /// Takes a snapshot of the disk: the database with its WAL, and the lock file.
    pub fn copy_disk(&mut self, to: &Path) -> io::Result<()> {
        assert!(!self.is_running(), "stop or kill {} before", self.name());
        fs::create_dir_all(to)?;
        for file in disk_of(&self.database) {
            copy_if_there(&file, &to.join(file.file_name().unwrap_or_default()))?;
        }
        Ok(())
    }

    /// Rolls the disk back to that snapshot: the same files, byte for byte and inode for inode.
    pub fn roll_back_disk(&mut self, from: &Path) -> io::Result<()> {
        assert!(!self.is_running(), "stop or kill {} before", self.name());
        for file in disk_of(&self.database) {
            let then = from.join(file.file_name().unwrap_or_default());
            match then.exists() {
                true => fs::write(&file, fs::read(then)?)?, // writes into the file that is there
                false => remove_if_there(&file)?,
            }
        }
        remove_if_there(&companion(&self.database, "-shm"))
    }

    /// A second instance on a clone of this one's disk. A cloned disk has the same inodes, a plain copy has not; so the copy's
    /// stored inode is erased. Its lock file still identifies it.
    pub fn clone_machine(&mut self, database: &Path) -> Result<Service> {
        assert!(!self.is_running(), "stop or kill {} before", self.name());
        copy_files(&self.database, database)?;
        fs::copy(
            companion(&self.database, ".lock"),
            companion(database, ".lock"),
        )?;
        let rows = Connection::open(database)?;
        rows.execute("update relay_identity set file_id = null", [])?;
        Ok(self.twin(database)?)
    }

    /// Deletes the lock file, too: an empty folder.
    pub fn delete_database_and_lock(&mut self) -> io::Result<()> {
        self.delete_database()?;
        remove_if_there(&companion(&self.database, ".lock"))
    }

    /// The path of its key file.
    pub fn keys(&self) -> PathBuf {
        companion(&self.database, ".keys")
    }

    /// Damages the first sector of a page in the middle of the file that the WAL does not replace. Elsewhere in a page the bytes
    /// could be a person's name, and SQLite has no checksums. Returns the number of the page.
    pub fn damage_database(&mut self) -> Result<u64> {
        assert!(!self.is_running(), "stop or kill {} before", self.name());
        let (size, pages) = pages_of(&self.database)?;
        let wal = fs::read(companion(&self.database, "-wal")).unwrap_or_default();
        let replaced = pages_in_wal(&wal, size);
        let page = (pages / 2 + 1..=pages).find(|page| !replaced.contains(page));
        let page = page.context("the WAL replaces every page: stop the service once before")?;
        let start = (page - 1) * size;
        damage::flip(&self.database, start..start + SECTOR)?;
        Ok(page)
    }
}

/// A transaction of its own on a connection that cannot write.
fn copy_live(from: &Path, to: &Path) -> Result<()> {
    let rows = Connection::open_with_flags(from, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let rows = rows.with_context(|| format!("cannot open {}", from.display()))?;
    let to = to.to_str().context("the copy's path is no text")?;
    rows.execute("vacuum into ?1", [to])
        .with_context(|| format!("cannot copy {}", from.display()))?;
    Ok(())
}

/// The WAL belongs to its database and moves with it; SQLite recreates the `-shm` from it.
fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    copy_if_there(&companion(from, "-wal"), &companion(to, "-wal"))
}

fn disk_of(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", ".lock"].map(|suffix| companion(database, suffix))
}

fn copy_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::copy(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn files_of(database: &Path) -> [PathBuf; 3] {
    ["", "-wal", "-shm"].map(|suffix| companion(database, suffix))
}

fn companion(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove_if_there(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Size and count of its pages, from the file's header (<https://www.sqlite.org/fileformat.html>, 1.3).
fn pages_of(database: &Path) -> Result<(u64, u64)> {
    let bytes = fs::read(database)?;
    let size = bytes.get(16..18).context("it has no header")?;
    let size = match u16::from_be_bytes([size[0], size[1]]) {
        1 => 65_536,
        size => u64::from(size),
    };
    Ok((size, bytes.len() as u64 / size))
}

/// The pages that the WAL replaces: after 32 bytes, frames of 24 bytes that begin with the page's number,
/// and the page.
fn pages_in_wal(wal: &[u8], page_size: u64) -> BTreeSet<u64> {
    let frame = usize::try_from(page_size).map_or(usize::MAX, |size| size + 24);
    let frames = wal.get(32..).unwrap_or_default().chunks_exact(frame);
    let number = |frame: &[u8]| u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]);
    frames.map(|frame| u64::from(number(frame))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Port;
    use crate::services::Home;
    use std::os::unix::fs::MetadataExt;

    /// A service that never runs, on a database of three counted rows.
    fn service(folder: &Path) -> Service {
        let home = Home {
            binaries: folder.join("none"),
            databases: folder.to_owned(),
            logs: folder.to_owned(),
            broker_url: String::new(),
        };
        let port = Port::any().unwrap();
        let service = Service::without_operator("some", folder.join("none"), &home, port);
        let made = open(&service.database);
        made.execute_batch("pragma journal_mode = wal; create table t (n integer); insert into t values (1), (2), (3);")
            .unwrap();
        service
    }

    fn open(path: &Path) -> Connection {
        Connection::open(path).unwrap()
    }

    fn count(path: &Path) -> u64 {
        let count = open(path).query_row("select count(*) from t", [], |row| row.get(0));
        count.unwrap()
    }

    #[test]
    fn an_older_copy_is_restored_as_a_new_file_and_other_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let mut service = service(folder.path());
        let (copy, lock) = (
            folder.path().join("copy.db"),
            companion(&service.database, ".lock"),
        );
        fs::write(&lock, "kept").unwrap();
        service.copy_database(&copy).unwrap();
        open(&service.database)
            .execute("insert into t values (4)", [])
            .unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        // Held open, so that its number cannot be given to the new file.
        let _held = fs::File::open(&service.database).unwrap();
        let newer = inode(&service.database);

        service.swap_database(&copy).unwrap();
        assert_eq!(count(&service.database), 3);
        assert_ne!(inode(&service.database), newer);
        assert_eq!(fs::read(&lock).unwrap(), b"kept");
        service.delete_database().unwrap();
        assert!(!service.database.exists() && lock.exists() && copy.exists());
    }

    #[test]
    fn a_disk_rolled_back_has_its_old_bytes_and_the_same_inodes() {
        let folder = tempfile::tempdir().unwrap();
        let mut service = service(folder.path());
        let (then, lock) = (
            folder.path().join("then"),
            companion(&service.database, ".lock"),
        );
        fs::write(&lock, "then").unwrap();
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        let before = (
            inode(&service.database),
            fs::read(&service.database).unwrap(),
        );
        service.copy_disk(&then).unwrap();
        open(&service.database)
            .execute("insert into t values (4)", [])
            .unwrap();
        fs::write(&lock, "now").unwrap();

        service.roll_back_disk(&then).unwrap();
        let after = (
            inode(&service.database),
            fs::read(&service.database).unwrap(),
        );
        assert!(before == after && fs::read(&lock).unwrap() == b"then");
        assert_eq!(count(&service.database), 3);
    }

    #[test]
    fn rows_that_only_the_wal_holds_are_in_both_kinds_of_copy() {
        let folder = tempfile::tempdir().unwrap();
        let mut service = service(folder.path());
        let (live, killed) = (
            folder.path().join("live.db"),
            folder.path().join("killed.db"),
        );
        let writer = open(&service.database);
        writer.execute("insert into t values (4)", []).unwrap();
        copy_live(&service.database, &live).unwrap();
        // As after a kill: the database is not closed, and its WAL is there.
        service.copy_database(&killed).unwrap();
        assert!(companion(&killed, "-wal").exists());
        drop(writer);
        assert_eq!((count(&live), count(&killed)), (4, 4));
    }

    #[test]
    fn a_damaged_sector_is_found_by_a_check() {
        let folder = tempfile::tempdir().unwrap();
        let mut service = service(folder.path());
        let filled = "with recursive c(n) as (select 1 union all select n + 1 from c limit 9999) insert into t select n from c";
        open(&service.database).execute(filled, []).unwrap();
        let before = fs::read(&service.database).unwrap();
        let page = service.damage_database().unwrap();
        assert_ne!(fs::read(&service.database).unwrap(), before);
        assert!(page > 1);
        let check = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let verdict = open(&service.database).query_row("pragma quick_check(1)", [], check);
        assert_ne!(verdict.as_deref(), Ok("ok"));
    }

    #[test]
    fn the_pages_in_a_wal_are_found() {
        let frame = |page: u8| [&[0, 0, 0, page][..], &[0; 20 + 512]].concat();
        let wal = [vec![0; 32], frame(7), frame(2), frame(7)].concat();
        assert_eq!(pages_in_wal(&wal, 512), BTreeSet::from([2, 7]));
        assert!(pages_in_wal(&[], 512).is_empty());
    }
}

//! Connections to a database file. Each one is set up here.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, Error, OpenFlags, Result, ffi};
use rustix::fs::statvfs;

use super::path::with_suffix;

/// How long a statement waits for another program's lock.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The one that writes, in a group or a command. It creates the file if it is missing.
pub(crate) fn to_write(path: &Path) -> Result<Connection> {
    connect(path, OpenFlags::default())
}

/// One that reads while another one writes. Only the writer takes the WAL in: by the path this one may have found another file.
/// It reads at once, which opens the WAL: later there may be another file at the path.
pub(super) fn to_read(path: &Path) -> Result<Connection> {
    let rows = to_read_as_guest(path)?;
    rows.execute_batch("pragma query_only = on")?;
    rows.query_row("select 1 from relay_identity", [], |_| Ok(()))?;
    Ok(rows)
}

/// One that reads a file of another process. The WAL stays as it is: the owner concludes from it that the last end was unclean.
pub(crate) fn to_read_as_guest(path: &Path) -> Result<Connection> {
    let rows = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    rows.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    Ok(rows)
}

/// Without a WAL nothing but the file itself needs to be read, and SQLite is told so: it would create files of its own
/// next to one that turns out to be another program's.
pub(crate) fn to_look(path: &Path) -> Result<Connection> {
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let plain = path
        .to_str()
        .filter(|_| !with_suffix(path, "-wal").exists());
    let Some(plain) = plain else {
        return connect(path, read_only);
    };
    let escaped = plain
        .replace('%', "%25")
        .replace('?', "%3f")
        .replace('#', "%23");
    let uri = format!("file:{escaped}?immutable=1");
    connect(Path::new(&uri), read_only | OpenFlags::SQLITE_OPEN_URI)
}

/// Nothing temporary is written to a file: a service whose root file system is read-only has no folder for it.
fn connect(path: &Path, flags: OpenFlags) -> Result<Connection> {
    check_room_for_index(path)?;
    let rows = Connection::open_with_flags(path, flags)?;
    rows.execute_batch("pragma temp_store = memory")?;
    rows.busy_timeout(BUSY_TIMEOUT)?;
    rows.set_prepared_statement_cache_capacity(64);
    Ok(rows)
}

/// SQLite makes one byte of each 4 KiB of a WAL's index real. With smaller blocks the rest of a new index would end the
/// process on a full disk (SIGBUS), so there such a file is not opened.
fn check_room_for_index(path: &Path) -> Result<()> {
    const PAGE_BYTES: u64 = 4096;
    const FIRST_PART_BYTES: u64 = 32 << 10;
    let is_real = |index: Metadata| index.blocks() * 512 >= index.len().max(1);
    let has_index = || with_suffix(path, "-shm").metadata().is_ok_and(is_real);
    let disk = path.parent().and_then(|folder| statvfs(folder).ok());
    match disk {
        Some(disk)
            if disk.f_frsize < PAGE_BYTES
                && disk.f_bavail * disk.f_frsize < 2 * FIRST_PART_BYTES
                && !has_index() =>
        {
            let full = ffi::Error::new(ffi::SQLITE_FULL);
            Err(Error::SqliteFailure(full, None))
        }
        _ => Ok(()),
    }
}

//! Where a database file is: its one real path, and the paths of the files next to it.

use std::io::{ErrorKind, Result};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use crate::error::Refusal;

/// Follows every link of a path, also to a file that does not exist yet. Only its folder must exist.
///
/// # Errors
///
/// The folder does not exist or may not be entered, or the links go round in a circle.
pub fn real_path(path: &Path) -> Result<PathBuf> {
    let missing = match fs::canonicalize(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => error,
        found => return found,
    };
    let name = path.file_name().ok_or(missing)?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let folder = fs::canonicalize(folder)?;
    match fs::read_link(path) {
        Ok(target) => real_path(&folder.join(target)), // a circle ends above, as an error
        Err(_) => Ok(folder.join(name)),
    }
}

/// `users.db` and `-wal` make `users.db-wal`.
pub(crate) fn with_suffix(path: &Path, suffix: impl fmt::Display) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix.to_string());
    name.into()
}

/// Takes from other users what they may do with a database and the files next to it. SQLite makes a WAL with its database's mode.
pub(crate) fn keep_private(database: &Path) -> std::result::Result<(), Refusal> {
    for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
        let path = with_suffix(database, suffix);
        let Ok(mode) = fs::metadata(&path).map(|file| file.mode() & 0o7777) else {
            continue;
        };
        if mode & 0o077 == 0 {
            continue;
        }
        let private = fs::Permissions::from_mode(mode & 0o700);
        fs::set_permissions(&path, private).map_err(|error| {
            let why = format!("other users may open it (mode {mode:04o}): chmod 600 it ({error})");
            Refusal::unusable(why)
        })?;
        tracing::warn!(path = %path.display(), "other users could open this file (mode {mode:04o}); now they cannot");
    }
    Ok(())
}

/// What is at the path.
#[derive(PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing, or an empty file: a database is created there.
    Nothing,
    Content,
}

pub(crate) fn find(path: &Path) -> std::result::Result<Found, Refusal> {
    match fs::metadata(path) {
        Ok(file) if !file.is_file() => Err(Refusal::unusable("it is no file")),
        // SQLite keeps a WAL for each name, so two names of one file would be two databases in it.
        Ok(file) if file.nlink() > 1 => Err(Refusal::ManyNames {
            names: file.nlink(),
        }),
        Ok(file) if file.len() > 0 => Ok(Found::Content),
        Ok(_) => Ok(Found::Nothing),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) => Err(error.into()),
    }
}

/// A moment as a part of a file's name: `20261129T235235239359699Z`.
pub(crate) fn in_a_name(at: jiff::Timestamp) -> String {
    at.strftime("%Y%m%dT%H%M%S%fZ").to_string()
}

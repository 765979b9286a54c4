//! The folder in which `up` keeps its data: one system at a time, closed to other users, and only our own files are ever
//! deleted.

use std::env;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use freehold_tests::paths;
use tempfile::TempDir;

use crate::scripts::{self, quoted};

/// An open data folder. No other process can open it until it is dropped.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
    /// Set for `--ephemeral`: deleted when dropped.
    _temporary: Option<TempDir>,
}

/// What we create in it, and the scripts of services and devices. Reset deletes these and nothing else.
const OURS: [&str; 9] = [
    "databases",
    "broker",
    "broker.conf",
    "logs",
    "credentials.env",
    "commands.sh",
    "driver-1.offline",
    "driver-2.offline",
    LOCK,
];
const FOLDERS: [&str; 3] = ["databases", "broker", "logs"];
const LOCK: &str = "up.lock";
/// The names of temporary folders begin with it.
const TEMPORARY: &str = "freehold-up-";
/// Databases, streams and logs hold people's names and e-mail addresses.
const OWNER_ONLY: u32 = 0o700;

/// `.freehold` in the workspace.
pub(crate) fn default_path() -> PathBuf {
    paths::workspace().join(".freehold")
}

impl DataDir {
    /// Creates it if it is missing.
    pub(crate) fn open(path: &Path) -> Result<DataDir> {
        if path.exists() && !path.is_dir() {
            bail!(
                "{} is a file, and the data needs a folder: name another path with --data-dir",
                path.display()
            );
        }
        DataDir::create(path.to_owned(), None)
    }

    pub(crate) fn ephemeral() -> Result<DataDir> {
        let temporary =
            TempDir::with_prefix(TEMPORARY).context("cannot create a temporary folder")?;
        DataDir::create(temporary.path().to_owned(), Some(temporary))
    }

    fn create(path: PathBuf, temporary: Option<TempDir>) -> Result<DataDir> {
        create_private(&path)?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        let lock = lock(&path)?;
        if holds_only_ours(&path) {
            close_to_others(&path)?;
        }
        let data = DataDir {
            path,
            _lock: lock,
            _temporary: temporary,
        };
        for folder in FOLDERS.map(|name| data.at(name)) {
            create_private(&folder)?;
            close_to_others(&folder)?;
        }
        Ok(data)
    }

    /// The command that deletes it, to be copied.
    pub(crate) fn reset_command(&self) -> String {
        match default_path().canonicalize() {
            Ok(usual) if usual == self.path => "cargo xtask reset".to_owned(),
            _ => format!("cargo xtask reset --data-dir {}", quoted(&self.path)),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// One of the names in [`OURS`]. While `driver-1.offline` exists, that device has no network.
    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Keeps the logs of the last run under `NAME.1`, and no older ones.
    pub(crate) fn rotate_logs(&self) -> Result<()> {
        for entry in fs::read_dir(self.at("logs")).context("cannot list the logs")? {
            let path = entry.context("cannot list the logs")?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "log" || extension == "out")
            {
                fs::rename(&path, path.with_added_extension("1"))
                    .with_context(|| format!("cannot rename {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn create_private(folder: &Path) -> Result<()> {
    let created = DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(folder);
    created.with_context(|| format!("cannot create the folder {}", folder.display()))
}

/// Earlier versions created folders that every user could read.
fn close_to_others(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY))
        .with_context(|| format!("cannot close {} to other users", folder.display()))
}

/// A home folder or `/tmp` is not ours to close; the folders that we create in it are.
fn holds_only_ours(folder: &Path) -> bool {
    let ours = |entry: fs::DirEntry| is_ours(&entry);
    fs::read_dir(folder).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(ours)))
}

fn is_ours(entry: &fs::DirEntry) -> bool {
    OURS.iter().any(|name| entry.file_name() == *name) || scripts::is_ours(&entry.path())
}

/// Deletes the temporary folders of runs that were killed. A folder that cannot be deleted now is tried at the next start.
pub(crate) fn sweep_temporary() {
    let _next_time = sweep(&env::temp_dir());
}

/// Any user can create a folder or a link of that name there, so only our own user's folders count. A lock without a process
/// number belongs to a process that is just starting.
fn sweep(temp: &Path) -> io::Result<()> {
    let us = tempfile::tempfile()?.metadata()?.uid();
    for entry in fs::read_dir(temp)?.flatten() {
        let named = entry.file_name().to_string_lossy().starts_with(TEMPORARY);
        let ours = || {
            entry
                .metadata()
                .is_ok_and(|at| at.is_dir() && at.uid() == us)
        };
        let signed = || fs::metadata(entry.path().join(LOCK)).is_ok_and(|lock| lock.len() > 0);
        if named && ours() && signed() {
            let _in_use = delete(&entry.path());
        }
    }
    Ok(())
}

/// Deletes our files in a folder that no system runs on. `Ok(false)` when there are none.
pub(crate) fn delete(path: &Path) -> Result<bool> {
    if !path.join(LOCK).is_file() {
        return Ok(false);
    }
    let _unused = lock(path)?;
    let entries = fs::read_dir(path).with_context(|| format!("cannot list {}", path.display()))?;
    let mut ours: Vec<_> = entries
        .flatten()
        .filter(is_ours)
        .map(|entry| entry.path())
        .collect();
    ours.sort_by_key(|path| path.ends_with(LOCK)); // last, so that a reset that was cut off can be repeated
    for path in ours {
        remove(&path).with_context(|| format!("cannot delete {}", path.display()))?;
    }
    // It stays when it holds a file that is not ours.
    let _not_empty = fs::remove_dir(path);
    Ok(true)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    };
    removed.or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}

/// The kernel releases the lock when its holder ends, however it ends, so a stale file locks nothing.
fn lock(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let opened = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file);
    let mut lock = opened.with_context(|| format!("cannot open {}", file.display()))?;
    if lock.try_lock().is_err() {
        let mut holder = String::new();
        lock.read_to_string(&mut holder).unwrap_or_default();
        bail!(
            "`cargo xtask up` (process {}) runs on {}: stop it first (Ctrl-C), or name another folder with --data-dir",
            holder.trim(),
            path.display()
        );
    }
    sign(&mut lock).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(lock)
}

fn sign(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use freehold_tests::services::Home;
    use freehold_tests::{Port, Service};

    use super::*;

    #[test]
    fn a_second_system_on_the_same_folder_is_refused_and_reads_the_first_ones_process_number() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path()).unwrap();
        let refusal = DataDir::open(folder.path()).expect_err("taken").to_string();
        assert!(
            refusal.contains(&format!("(process {})", std::process::id())),
            "{refusal}"
        );
        assert!(
            delete(folder.path())
                .expect_err("in use")
                .to_string()
                .contains("stop it first")
        );
        drop(first);
        DataDir::open(folder.path()).expect("free again");
    }

    #[test]
    fn reset_deletes_our_files_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        drop(DataDir::open(&data).unwrap());
        fs::write(data.join("databases/user-service.db"), "x").unwrap();
        fs::write(data.join("driver-1.offline"), "").unwrap();
        let home = Home {
            binaries: "/bin".into(),
            databases: data.join("databases"),
            logs: data.join("logs"),
            broker_url: String::new(),
        };
        let port = Port::any().unwrap();
        let hosted = Service::without_operator("payments-service", "/bin/true".into(), &home, port);
        scripts::write(&hosted, &data.join("payments-service")).unwrap();
        fs::write(data.join("notes.txt"), "mine").unwrap();
        assert!(delete(&data).unwrap());
        let left: Vec<_> = fs::read_dir(&data).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read_to_string(data.join("notes.txt")).unwrap(), "mine");

        fs::remove_file(data.join("notes.txt")).unwrap();
        assert!(!delete(&data).unwrap(), "no file of ours is left");
        assert!(
            data.exists(),
            "a folder without our lock is not ours to delete"
        );
    }

    #[test]
    fn logs_of_the_last_run_are_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        fs::write(data.at("logs").join("nats-server.log"), "old").unwrap();
        data.rotate_logs().unwrap();
        data.rotate_logs().unwrap();
        assert_eq!(
            fs::read_to_string(data.at("logs").join("nats-server.log.1")).unwrap(),
            "old"
        );
        assert!(!data.at("logs").join("nats-server.log").exists());
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_folder_and_its_folders_are_closed_to_other_users_even_if_they_were_open_before() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("databases")).unwrap();
        for open in [&data, &data.join("databases")] {
            fs::set_permissions(open, Permissions::from_mode(0o755)).unwrap();
        }
        let data = DataDir::open(&data).unwrap();
        for closed in [
            data.path(),
            &data.at("databases"),
            &data.at("broker"),
            &data.at("logs"),
        ] {
            assert_eq!(mode(closed), 0o700, "{}", closed.display());
        }
    }

    #[test]
    fn a_folder_with_other_files_stays_open_and_our_folders_in_it_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        assert_eq!(mode(data.path()), 0o755);
        assert_eq!(mode(&data.at("databases")), 0o700);
    }

    #[test]
    fn a_file_in_its_place_is_refused_and_the_message_says_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let refusal = DataDir::open(file.path()).expect_err("a file").to_string();
        assert!(
            refusal.contains("is a file") && refusal.contains("--data-dir"),
            "{refusal}"
        );
    }

    #[test]
    fn the_command_that_deletes_another_folder_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("it's")).unwrap();
        assert!(
            data.reset_command()
                .starts_with("cargo xtask reset --data-dir '/")
                && data.reset_command().ends_with(r"/it'\''s'"),
            "{}",
            data.reset_command()
        );
    }

    #[test]
    fn temporary_folders_of_killed_runs_are_deleted_and_no_others() {
        let temp = tempfile::tempdir().unwrap();
        let at = |name: &str| temp.path().join(name);
        drop(DataDir::open(&at("freehold-up-killed")).unwrap());
        drop(DataDir::open(&at("other")).unwrap());
        std::os::unix::fs::symlink(at("other"), at("freehold-up-link")).unwrap();
        fs::create_dir(at("freehold-up-starting")).unwrap();
        fs::write(at("freehold-up-starting").join(LOCK), "").unwrap();
        let _running = DataDir::open(&at("freehold-up-running")).unwrap();

        sweep(temp.path()).unwrap();
        assert!(!at("freehold-up-killed").exists());
        for kept in [
            "other/databases",
            "freehold-up-starting",
            "freehold-up-running/logs",
        ] {
            assert!(at(kept).exists(), "{kept}");
        }
    }
}

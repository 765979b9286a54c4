//! The folder `up` keeps its data in: one system at a time, nobody else's eyes, and nothing deleted that is not ours.

use std::env;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use freehold_tests::paths;
use tempfile::TempDir;

/// An open data folder; as long as it lives, nobody else can open it.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: File,
    /// Set for `--ephemeral`: deleted when dropped.
    _temporary: Option<TempDir>,
}

/// Everything we make in it. Reset deletes these and no others.
const OURS: [&str; 11] = [
    "databases",
    "broker",
    "logs",
    "credentials.env",
    "user-service",
    "orders-service",
    "driver-1",
    "driver-2",
    "driver-1.offline",
    "driver-2.offline",
    LOCK,
];
const LOCK: &str = "up.lock";
/// The names of temporary folders begin with it.
const TEMPORARY: &str = "freehold-up-";
/// Databases, streams and logs hold people's names and e-mail addresses.
const OWNER_ONLY: u32 = 0o700;

/// `.freehold` in the workspace unless said otherwise.
pub(crate) fn default_path() -> PathBuf {
    paths::workspace().join(".freehold")
}

impl DataDir {
    /// Makes it if need be.
    pub(crate) fn open(path: &Path) -> Result<DataDir> {
        if path.exists() && !path.is_dir() {
            bail!(
                "{} is a file, and the data needs a folder: name another path with --data-dir",
                path.display()
            );
        }
        DataDir::make(path.to_owned(), None)
    }

    pub(crate) fn ephemeral() -> Result<DataDir> {
        let temporary =
            TempDir::with_prefix(TEMPORARY).context("cannot make a temporary folder")?;
        DataDir::make(temporary.path().to_owned(), Some(temporary))
    }

    fn make(path: PathBuf, temporary: Option<TempDir>) -> Result<DataDir> {
        make_private(&path)?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        let lock = lock(&path)?;
        if holds_only_ours(&path) {
            tighten(&path)?;
        }
        let data = DataDir {
            path,
            _lock: lock,
            _temporary: temporary,
        };
        for folder in [data.databases(), data.broker(), data.logs()] {
            make_private(&folder)?;
            tighten(&folder)?;
        }
        Ok(data)
    }

    /// The command that deletes it, to be copied.
    pub(crate) fn reset_command(&self) -> String {
        let usual = default_path().canonicalize();
        if usual.is_ok_and(|usual| usual == self.path) {
            return "cargo xtask reset".to_owned();
        }
        format!("cargo xtask reset --data-dir {}", quoted(&self.path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn databases(&self) -> PathBuf {
        self.path.join("databases")
    }

    pub(crate) fn broker(&self) -> PathBuf {
        self.path.join("broker")
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(crate) fn credentials(&self) -> PathBuf {
        self.path.join("credentials.env")
    }

    /// While it lies there, this device has no network.
    pub(crate) fn offline_file(&self, device: &str) -> PathBuf {
        self.path.join(format!("{device}.offline"))
    }

    /// The logs of the run before are kept once more, under `NAME.1`, so that they do not grow for ever.
    pub(crate) fn rotate_logs(&self) -> Result<()> {
        for entry in fs::read_dir(self.logs()).context("cannot list the logs")? {
            let path = entry.context("cannot list the logs")?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "log" || extension == "out")
            {
                let mut older = path.clone().into_os_string();
                older.push(".1");
                fs::rename(&path, &older)
                    .with_context(|| format!("cannot rename {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn make_private(folder: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(OWNER_ONLY)
        .create(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))
}

/// Folders of before this rule were open to everybody.
fn tighten(folder: &Path) -> Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(OWNER_ONLY))
        .with_context(|| format!("cannot close {} to others", folder.display()))
}

/// Somebody may name their home or `/tmp`: those are not ours to close, the folders we make in them are.
fn holds_only_ours(folder: &Path) -> bool {
    let ours = |entry: fs::DirEntry| OURS.iter().any(|name| entry.file_name() == *name);
    fs::read_dir(folder).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok_and(ours)))
}

/// As a shell reads it.
pub(crate) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_alphanumeric() || "/._-+@".contains(c);
    if text.chars().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// Deletes the temporary folders of runs that were killed before they could. What cannot be deleted waits for the next start.
pub(crate) fn sweep_temporary() {
    let _next_time = sweep(&env::temp_dir());
}

/// Anybody can make a folder or a link of that name there, so only our user's folders count. An unsigned lock belongs
/// to somebody who is about to take it.
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

/// Deletes what is ours in a folder nobody runs on. `Ok(false)` when there is nothing of ours.
pub(crate) fn delete(path: &Path) -> Result<bool> {
    if !path.join(LOCK).is_file() {
        return Ok(false);
    }
    let _nobody_else = lock(path)?;
    for name in OURS {
        remove(&path.join(name))
            .with_context(|| format!("cannot delete {}", path.join(name).display()))?;
    }
    // Something of yours lies in it too: then it stays.
    let _not_empty = fs::remove_dir(path);
    Ok(true)
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            Ok(())
        } else {
            Err(error)
        }
    })
}

/// The kernel gives the lock back however its holder ended, so a stale file never keeps anybody out.
fn lock(path: &Path) -> Result<File> {
    let file = path.join(LOCK);
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file)
        .with_context(|| format!("cannot open {}", file.display()))?;
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
    use super::*;

    #[test]
    fn a_second_system_on_the_same_folder_is_refused_with_the_first_ones_number() {
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
    fn reset_deletes_what_is_ours_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        drop(DataDir::open(&data).unwrap());
        fs::write(data.join("databases/user-service.db"), "x").unwrap();
        for ours in [
            "driver-1",
            "driver-2",
            "driver-1.offline",
            "driver-2.offline",
        ] {
            fs::write(data.join(ours), "").unwrap();
        }
        fs::write(data.join("notes.txt"), "mine").unwrap();
        assert!(delete(&data).unwrap());
        let left: Vec<_> = fs::read_dir(&data).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(fs::read_to_string(data.join("notes.txt")).unwrap(), "mine");

        fs::remove_file(data.join("notes.txt")).unwrap();
        assert!(!delete(&data).unwrap(), "nothing of ours is left");
        assert!(
            data.exists(),
            "a folder without our lock is not ours to delete"
        );
    }

    #[test]
    fn logs_of_the_run_before_are_kept_once() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        fs::write(data.logs().join("nats-server.log"), "old").unwrap();
        data.rotate_logs().unwrap();
        data.rotate_logs().unwrap();
        assert_eq!(
            fs::read_to_string(data.logs().join("nats-server.log.1")).unwrap(),
            "old"
        );
        assert!(!data.logs().join("nats-server.log").exists());
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_folder_and_all_in_it_are_closed_to_others_even_when_they_were_open_before() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("databases")).unwrap();
        for open in [&data, &data.join("databases")] {
            fs::set_permissions(open, Permissions::from_mode(0o755)).unwrap();
        }
        let data = DataDir::open(&data).unwrap();
        for closed in [data.path(), &data.databases(), &data.broker(), &data.logs()] {
            assert_eq!(mode(closed), 0o700, "{}", closed.display());
        }
    }

    #[test]
    fn a_folder_with_other_things_in_it_stays_open_and_ours_in_it_are_closed() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        assert_eq!(mode(data.path()), 0o755);
        assert_eq!(mode(&data.databases()), 0o700);
    }

    #[test]
    fn a_file_in_its_place_is_refused_with_the_cure() {
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
    fn temporary_folders_of_the_killed_are_swept_and_no_others() {
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

//! The folder `up` keeps its data in: one system at a time, and nothing deleted that is not ours.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
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
const OURS: [&str; 5] = ["databases", "broker", "logs", "credentials.env", LOCK];
const LOCK: &str = "up.lock";

/// `.freehold` in the workspace unless said otherwise.
pub(crate) fn default_path() -> PathBuf {
    paths::workspace().join(".freehold")
}

impl DataDir {
    /// Makes it if need be.
    pub(crate) fn open(path: &Path) -> Result<DataDir> {
        DataDir::make(path.to_owned(), None)
    }

    pub(crate) fn ephemeral() -> Result<DataDir> {
        let temporary =
            TempDir::with_prefix("freehold-up-").context("cannot make a temporary folder")?;
        DataDir::make(temporary.path().to_owned(), Some(temporary))
    }

    fn make(path: PathBuf, temporary: Option<TempDir>) -> Result<DataDir> {
        fs::create_dir_all(&path)
            .with_context(|| format!("cannot make the folder {}", path.display()))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        let lock = lock(&path)?;
        let data = DataDir {
            path,
            _lock: lock,
            _temporary: temporary,
        };
        for folder in [data.databases(), data.broker(), data.logs()] {
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        Ok(data)
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
        fs::write(data.join("notes.txt"), "mine").unwrap();
        assert!(delete(&data).unwrap());
        assert_eq!(fs::read_to_string(data.join("notes.txt")).unwrap(), "mine");
        assert!(!data.join("databases").exists());

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
}

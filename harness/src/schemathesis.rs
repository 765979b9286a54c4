//! Schemathesis, which generates requests of all kinds from an OpenAPI document. `cargo xtask test` installs it below `target/`;
//! without it the tests that need it are skipped.

use std::fs;
use std::future::ready;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binaries::own_folder;
use crate::broker::Say;
use crate::eventually::{seconds, within};
use crate::process::{Launch, Process};
use crate::tool::Found;

/// One run against one document.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The program that `find_or_install` found.
    pub program: &'a Path,
    /// Where the API answers; its document is `/openapi.json` below it.
    pub url: &'a str,
    /// Sent with every request.
    pub headers: Vec<String>,
    /// More arguments of its command line.
    pub arguments: Vec<String>,
    /// Where its output and its cache go.
    pub folder: &'a Path,
    /// How long it may take.
    pub limit: Duration,
}

/// `required`: a missing schemathesis is a failure, not a skip.
pub const FUZZ_TESTS: &str = "FREEHOLD_FUZZ_TESTS";
const SETTINGS: &str = include_str!("../schemathesis.toml");
const REQUIREMENTS: &str = include_str!("../schemathesis.requirements.txt");
const INSTALL_LIMIT: Duration = seconds(240);

/// Looks where it would have been installed. Never installs anything.
pub fn find() -> Result<Found<PathBuf>> {
    let program = program();
    if program.is_file() {
        return Ok(Found::Here(program));
    }
    let reason = format!(
        "there is no schemathesis in {}; `cargo xtask test` installs it there, with pip",
        home().display()
    );
    Found::Missing(reason).unless_required(FUZZ_TESTS)
}

/// Installs it where it is missing. A failed installation is a reason to skip, not a failure.
pub async fn find_or_install(say: Say<'_>) -> Result<Found<PathBuf>> {
    let found = find()?;
    if matches!(found, Found::Here(_)) {
        return Ok(found);
    }
    say(&format!(
        "installing schemathesis {} into {} (27 Python packages, about 20 MB, once)",
        version(),
        home().display()
    ));
    match install(&home()).await {
        Ok(()) => find(),
        Err(failure) => Ok(Found::Missing(format!(
            "schemathesis cannot be installed: {failure}. It needs python3 with venv, pip, and the network"
        ))),
    }
}

impl Run<'_> {
    /// Runs it to its end. Returns whether every check passed, and its whole output.
    pub async fn go(&self) -> Result<(bool, String)> {
        let mut launch = Launch::of("schemathesis", self.program, self.folder)
            .env("NO_COLOR", "1")
            .env("PYTHONIOENCODING", "utf-8")
            .env("HOME", &self.folder.to_string_lossy());
        fs::create_dir_all(self.folder)?; // it keeps a cache in the folder it runs in
        launch.folder = Some(self.folder.to_owned());
        let settings = self.folder.join("schemathesis.toml");
        fs::write(&settings, SETTINGS)?;
        launch = launch.arg("--config-file").arg(settings);
        launch = launch.arg("run").arg(format!("{}/openapi.json", self.url));
        for header in &self.headers {
            launch = launch.arg("--header").arg(header);
        }
        launch.args.extend(self.arguments.iter().map(Into::into));
        let mut child = Process::spawn(launch)?;
        let ended = within(self.limit, || ready(child.exit_status().ok_or("it runs"))).await;
        let said = child.logs().stdout() + &child.logs().stderr();
        let status = ended.map_err(|_| {
            anyhow::anyhow!("it did not end within {:?}; it said:\n{said}", self.limit)
        })?;
        Ok((status.success(), said))
    }
}

/// A virtual environment of its own. The last step renames its list of packages, so half an installation is never used.
async fn install(home: &Path) -> Result<()> {
    fs::create_dir_all(home.parent().context("it is in a target folder")?)?;
    // Scripts of an environment contain its path, so it is created in place and its list is renamed last.
    let done = home.join("installed.txt");
    let list = home.join("requirements.txt");
    let python = home.join("bin").join("python");
    let _unfinished = fs::remove_dir_all(home);
    let home = home.as_os_str().to_owned();
    run("python3", &["-m".into(), "venv".into(), home]).await?;
    fs::write(&list, REQUIREMENTS)?;
    let words = "-m pip install --quiet --no-input --disable-pip-version-check --no-deps --only-binary :all: -r";
    let mut words: Vec<_> = words.split(' ').map(Into::into).collect();
    words.push(list.clone().into_os_string());
    run(&python.to_string_lossy(), &words).await?;
    Ok(fs::rename(list, done)?)
}

async fn run(program: &str, words: &[std::ffi::OsString]) -> Result<()> {
    let mut command = tokio::process::Command::new(program);
    command.args(words).kill_on_drop(true);
    let output = tokio::time::timeout(INSTALL_LIMIT, command.output()).await;
    let output = output.with_context(|| format!("{program} took longer than {INSTALL_LIMIT:?}"))?;
    let output = output.with_context(|| format!("{program} does not run"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty());
        bail!(
            "{program}: {}",
            last.unwrap_or("it failed and does not say why")
        );
    }
    Ok(())
}

/// Installed once the list of its packages exists.
fn program() -> PathBuf {
    let home = home();
    match home.join("installed.txt").is_file() {
        true => home.join("bin").join("schemathesis"),
        false => home.join("not-installed"),
    }
}

/// Below the target folder that cargo put us in.
fn home() -> PathBuf {
    let profile = own_folder().unwrap_or_else(|_| "target/debug".into());
    profile.with_file_name(format!("schemathesis-{}", version()))
}

fn version() -> &'static str {
    let lines = REQUIREMENTS.lines();
    let mut versions = lines.filter_map(|line| line.strip_prefix("schemathesis=="));
    versions.next().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned() {
        assert!(version().starts_with(|first: char| first.is_ascii_digit()));
        let packages = REQUIREMENTS.lines().filter(|line| !line.starts_with('#'));
        for package in packages {
            assert!(package.contains("=="), "{package}");
        }
    }

    #[tokio::test]
    async fn a_missing_installer_is_named() {
        let refusal = run("/nowhere/python3", &[]).await.expect_err("not there");
        assert_eq!(refusal.to_string(), "/nowhere/python3 does not run");
    }
}

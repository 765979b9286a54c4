//! `cargo xtask package` and `cargo xtask semver`: are the crates of this workspace fit to be published, and does a change break
//! programs that use them?

use std::fs;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use freehold_tests::cargo::cargo;
use freehold_tests::paths::workspace;
use serde_json::Value;

use crate::{say, tool};

/// Nothing is published. Without a network: CARGO_NET_OFFLINE=true.
#[derive(Debug, Args)]
pub(crate) struct Package {}

#[derive(Debug, Args)]
pub(crate) struct Semver {
    /// The revision to compare with [default: the last tag]
    #[arg(value_name = "REVISION")]
    baseline: Option<String>,
}

/// Changes with the compiler: each release reads the JSON of some versions of rustdoc.
const SEMVER_CHECKS: &str = "0.51.0";

impl Package {
    /// Each crate is packed, then built from its package alone, beside the packages of the others.
    pub(crate) fn run(self) -> Result<ExitCode> {
        let crates = publishable()?;
        let packed = pack(&crates)?;
        let documented = document(&crates)?;
        Ok(verdict(packed && documented))
    }
}

impl Semver {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let baseline = self.baseline.map_or_else(last_tag, Ok)?;
        let program = tool::find_or_install("cargo-semver-checks", SEMVER_CHECKS)?;
        say(&format!("comparing with {baseline}"));
        let mut checks = Command::new(program);
        let checks = checks
            .current_dir(workspace())
            .args(["semver-checks", "--baseline-rev", &baseline])
            .args(publishable()?);
        Ok(verdict(passes(checks)?))
    }
}

/// `-p NAME` for each crate that may be published, as the manifests say.
fn publishable() -> Result<Vec<String>> {
    let asked = ["metadata", "--format-version=1", "--no-deps"];
    let output = cargo().args(asked).output().context("cannot run cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {said}");
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    Ok(packages
        .filter(|package| package["publish"].is_null())
        .filter_map(|package| Some(format!("-p{}", package["name"].as_str()?)))
        .collect())
}

/// In a folder of its own for each run, which takes minutes: cargo unpacks and builds a package once for each version and folder, so
/// in the same folder a crate would be built beside the others as they were at the first run.
fn pack(crates: &[String]) -> Result<bool> {
    let folder = workspace().join(format!("target/package-{}", std::process::id()));
    let mut package = cargo();
    let package = package.args(["package", "--allow-dirty", "--target-dir"]);
    let packed = passes(package.arg(&folder).args(crates));
    let _none_was_made = fs::remove_dir_all(&folder);
    packed
}

/// A warning of rustdoc (a link that leads nowhere) is an error.
fn document(crates: &[String]) -> Result<bool> {
    let doc = ["doc", "--no-deps", "--all-features"];
    passes(
        cargo()
            .env("RUSTDOCFLAGS", "-D warnings")
            .args(doc)
            .args(crates),
    )
}

fn last_tag() -> Result<String> {
    let mut git = Command::new("git");
    let git = git
        .current_dir(workspace())
        .args(["describe", "--tags", "--abbrev=0"]);
    let output = git.output().context("cannot run git")?;
    ensure!(
        output.status.success(),
        "no release has a tag yet: name the revision to compare with, for example `cargo xtask semver main`"
    );
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn passes(command: &mut Command) -> Result<bool> {
    let status = command.status();
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    Ok(status.success())
}

fn verdict(passed: bool) -> ExitCode {
    if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_published_and_programs_of_this_system_are_not() {
        let crates = publishable().unwrap();
        let is = |name: &str| crates.contains(&format!("-p{name}"));
        assert!(is("freehold-relay") && is("freehold-event"), "{crates:?}");
        assert!(!is("user-service") && !is("xtask"), "{crates:?}");
    }
}

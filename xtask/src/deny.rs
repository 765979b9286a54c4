//! `cargo xtask deny`: what is in the tree, compared by cargo-deny with `deny.toml`: licences, duplicates, sources, and the
//! RustSec advisories where their database can be had.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use clap::Args;
use freehold_tests::cargo::cargo;
use freehold_tests::paths::workspace;

use crate::console::Console;

#[derive(Debug, Args)]
pub(crate) struct Deny {}

/// Changes with `deny.toml`: a newer one may read it differently.
const VERSION: &str = "0.20.2";
/// Neither a yes nor a no: the advisories could not be looked up.
const NOT_ALL_CHECKED: u8 = 3;

impl Deny {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let console = Console::on_stdout();
        let program = find_or_install(&console)?;
        let tree = passes(&program, &["check", "licenses", "bans", "sources"])?;
        let known = passes(&program, &["fetch", "db"])?;
        let safe = known.then(|| passes(&program, &["check", "--disable-fetch", "advisories"]));
        let safe = safe.transpose()?;
        if safe.is_none() {
            console.line("advisories: NOT CHECKED: their database, a git repository, cannot be fetched from here. Run this again where it can.");
        }
        Ok(verdict(tree, safe))
    }
}

/// What is wrong counts more than what is not known.
fn verdict(tree: bool, safe: Option<bool>) -> ExitCode {
    match (tree, safe) {
        (true, Some(true)) => ExitCode::SUCCESS,
        (true, None) => ExitCode::from(NOT_ALL_CHECKED),
        _ => ExitCode::FAILURE,
    }
}

fn passes(program: &PathBuf, words: &[&str]) -> Result<bool> {
    let mut deny = Command::new(program);
    let deny = deny.current_dir(workspace()).args(words);
    let status = deny.status().context("cannot run cargo-deny")?;
    Ok(status.success())
}

/// Below `target/`, so that nothing of the machine's changes and `cargo clean` takes it away.
fn find_or_install(console: &Console) -> Result<PathBuf> {
    let home = workspace()
        .join("target/tools")
        .join(format!("cargo-deny-{VERSION}"));
    let program = home.join("bin/cargo-deny");
    if !program.is_file() {
        console.line(&format!(
            "installing cargo-deny {VERSION} into {} (some minutes, once)",
            home.display()
        ));
        let mut install = cargo();
        let install = install.args([
            "install",
            "cargo-deny",
            "--locked",
            "--version",
            VERSION,
            "--root",
        ]);
        let status = install.arg(&home).status().context("cannot run cargo")?;
        ensure!(
            status.success(),
            "cargo-deny {VERSION} cannot be installed: it needs the registry of crates. Nothing was checked"
        );
    }
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_checked_is_neither_a_yes_nor_a_no() {
        let code = |tree, safe| format!("{:?}", verdict(tree, safe));
        let is = |code: ExitCode| format!("{code:?}");
        assert_eq!(code(true, Some(true)), is(ExitCode::SUCCESS));
        assert_eq!(code(true, None), is(ExitCode::from(3)));
        for (tree, safe) in [(true, Some(false)), (false, None), (false, Some(true))] {
            assert_eq!(code(tree, safe), is(ExitCode::FAILURE));
        }
    }
}

//! `cargo xtask deny`: cargo-deny checks the dependencies against `deny.toml`: licences, duplicates, sources, and the RustSec
//! advisories if their database can be fetched.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use freehold_tests::paths::workspace;

use crate::{say, tool};

#[derive(Debug, Args)]
pub(crate) struct Deny {}

/// Changes with `deny.toml`: a newer one may read it differently.
const VERSION: &str = "0.20.2";
/// Unknown: the advisories could not be fetched.
const NOT_ALL_CHECKED: u8 = 3;

impl Deny {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let program = tool::find_or_install("cargo-deny", VERSION)?;
        let tree = passes(&program, &["check", "licenses", "bans", "sources"])?;
        let known = passes(&program, &["fetch", "db"])?;
        let safe = known.then(|| passes(&program, &["check", "--disable-fetch", "advisories"]));
        let safe = safe.transpose()?;
        if safe.is_none() {
            say(
                "advisories: NOT CHECKED: their database, a git repository, cannot be fetched here. Run this again on a machine that can fetch it.",
            );
        }
        Ok(verdict(tree, safe))
    }
}

/// A known fault outweighs an unknown result.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unchecked_advisory_database_is_neither_success_nor_failure() {
        let code = |tree, safe| format!("{:?}", verdict(tree, safe));
        let is = |code: ExitCode| format!("{code:?}");
        assert_eq!(code(true, Some(true)), is(ExitCode::SUCCESS));
        assert_eq!(code(true, None), is(ExitCode::from(3)));
        for (tree, safe) in [(true, Some(false)), (false, None), (false, Some(true))] {
            assert_eq!(code(tree, safe), is(ExitCode::FAILURE));
        }
    }
}

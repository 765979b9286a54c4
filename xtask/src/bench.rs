//! `cargo xtask bench`: the measurements, in a release build.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use freehold_tests::cargo::cargo;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// Handed to the bench program as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let status = cargo()
            .args(["run", "--release", "--package", "bench", "--"])
            .args(self.args)
            .status()
            .context("cargo does not run")?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

//! `cargo xtask bench`: the measurements, in a release build.

use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;
use freehold_tests::cargo::cargo;

#[derive(Debug, Args)]
pub(crate) struct Bench {
    /// What to measure [default: everything]
    #[arg(value_parser = ["writes", "pipeline", "catch-up", "latency"])]
    parts: Vec<String>,
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let status = cargo()
            .args(["run", "--release", "--package", "bench", "--"])
            .args(self.parts)
            .status()
            .context("cargo does not run")?;
        Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

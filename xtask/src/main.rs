//! `cargo xtask …`: run the whole system, reset it, test it, measure it. Plain Rust, nothing to install.

mod bench;
mod console;
mod data_dir;
mod reset;
mod test;
mod up;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Freehold's own tasks.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run broker and services with sample traffic until Ctrl-C; data stays for the next time
    Up(up::Up),
    /// Delete what `up` keeps: databases, broker store, logs, passwords
    Reset(reset::Reset),
    /// Check everything: formatting, lints, every test, with one summary at the end
    Test,
    /// Measure, with optimisations
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Up(up) => up.run(),
        Task::Reset(reset) => reset.run(),
        Task::Test => test::run(),
        Task::Bench(bench) => bench.run(),
    }
}

//! `cargo xtask …`: run the whole system, reset it, test it, measure it. Plain Rust, nothing to install.

mod bench;
mod deny;
mod new_service;
mod package;
mod sbom;
mod test;
mod tool;

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use freehold_tests::Manifest;
use freehold_tests::broker::accounts_file;

/// Freehold's own tasks.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    version,
    max_term_width = 100
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run broker and services with sample traffic until Ctrl-C; data stays for the next time
    Up(demo::Up),
    /// Delete what `up` keeps: databases, broker store, logs, passwords
    Reset(demo::Reset),
    /// Make a service of your own from the template: two crates that compile, pass their test and run beside the others
    NewService(new_service::NewService),
    /// Check everything: formatting, lints, every test, with one summary at the end
    Test,
    /// Measure, with optimisations
    Bench(bench::Bench),
    /// Check licences, duplicates, sources and advisories of all dependencies with cargo-deny
    Deny(deny::Deny),
    /// Write the list of all components as CycloneDX
    Sbom(sbom::Sbom),
    /// Write accounts.conf, the accounts of the broker, from freehold.toml
    Accounts,
    /// Pack every crate that may be published, build it from its package, and check its documentation
    Package(package::Package),
    /// Find changes that break programs which use these crates, with cargo-semver-checks
    Semver(package::Semver),
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            let _gone = writeln!(std::io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Up(up) => up.run(),
        Task::Reset(reset) => reset.run(),
        Task::NewService(new) => new.run(),
        Task::Test => test::run(),
        Task::Bench(bench) => bench.run(),
        Task::Deny(deny) => deny.run(),
        Task::Sbom(sbom) => sbom.run(),
        Task::Accounts => accounts(),
        Task::Package(package) => package.run(),
        Task::Semver(semver) => semver.run(),
    }
}

fn accounts() -> Result<ExitCode> {
    let manifest = Manifest::nearest()?;
    let file = manifest.folder().join("accounts.conf");
    std::fs::write(&file, accounts_file(manifest.services()))
        .with_context(|| format!("cannot write {}", file.display()))?;
    say(&format!("{} is written", file.display()));
    Ok(ExitCode::SUCCESS)
}

/// Prints a line. A closed stdout is no reason to stop.
fn say(line: &str) {
    let _closed = writeln!(std::io::stdout(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn help(task: &str) -> String {
        let mut cli = Cli::command();
        let task = cli.find_subcommand_mut(task).expect("a task");
        task.render_long_help().to_string()
    }

    #[test]
    fn the_command_line_is_sound_and_has_a_version() {
        Cli::command().debug_assert();
        assert!(
            Cli::command()
                .render_version()
                .starts_with("cargo xtask 0.")
        );
    }

    #[test]
    fn help_lists_variables_and_choices() {
        for word in ["FREEHOLD_NATS_SERVER", "XDG_CACHE_HOME", "FREEHOLD_BIN_DIR"] {
            assert!(help("up").contains(word), "{word} is missing");
        }
        assert!(help("bench").contains("[possible values: writes, pipeline, catch-up, latency]"));
    }
}

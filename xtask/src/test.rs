//! `cargo xtask test`: formatting, lints, every test, and one summary whose last line a script can read.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use freehold_tests::cargo::cargo;
use freehold_tests::{broker, browser, schemathesis, services};

use crate::console::{Console, human};

/// Every step runs even when one before it failed: one look should show all there is to mend.
pub(crate) fn run() -> Result<ExitCode> {
    let console = Console::on_stdout();
    let mut steps = Vec::new();
    let mut counts = Counts::default();
    let mut extras = Extras::default();
    steps.push(step(
        &console,
        "broker",
        "find or fetch nats-server",
        || find_broker(&console),
    ));
    steps.push(step(
        &console,
        "browser",
        "find or install Chromium",
        || find_browser(&console, &mut extras.pages),
    ));
    steps.push(step(
        &console,
        "fuzz",
        "find or install schemathesis",
        || find_schemathesis(&console, &mut extras.fuzz),
    ));
    steps.push(step(&console, "format", "cargo fmt --all --check", || {
        quiet(&["fmt", "--all", "--check"])
    }));
    steps.push(step(
        &console,
        "lints",
        "cargo clippy, warnings are errors",
        lints,
    ));
    steps.push(step(
        &console,
        "services",
        "build what the end-to-end tests start",
        || services::binaries().map(|_| true),
    ));
    steps.push(step(&console, "tests", "cargo test --workspace", || {
        tests(&console, &extras, &mut counts)
    }));
    summary(&console, &steps, &extras, &counts);
    console.flush();
    let all_good = steps.iter().all(|step| step.passed);
    Ok(if all_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What a step was called, how it ended, how long it took.
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
}

fn step(
    console: &Console,
    name: &'static str,
    what: &str,
    work: impl FnOnce() -> Result<bool>,
) -> Step {
    console.line(&format!("── {name}: {what}"));
    console.flush(); // cargo writes to the same terminal
    let start = Instant::now();
    let passed = work().unwrap_or_else(|error| {
        console.line(&format!("error: {error:#}"));
        false
    });
    let took = start.elapsed();
    console.line(&format!(
        "── {name}: {} after {}\n",
        verdict(passed),
        human(took)
    ));
    Step { name, passed, took }
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn find_broker(console: &Console) -> Result<bool> {
    let server = broker::nats_server(&|line| console.line(line))?;
    console.line(&format!(
        "nats-server {} at {}",
        server.version,
        server.program.display()
    ));
    Ok(true)
}

/// A machine without a browser passes; the summary says what was not tested there.
fn find_browser(console: &Console, pages: &mut Extra) -> Result<bool> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let say = |line: &str| console.line(line);
    let found = runtime.block_on(browser::find_or_install(&say));
    *pages = Extra::of(match &found {
        Ok(browser::Found::Here(_)) => Ok(()),
        Ok(browser::Found::Missing(reason)) => Err(reason.clone()),
        Err(error) => Err(format!("{error:#}")),
    });
    match found? {
        browser::Found::Here(programs) => console.line(&format!(
            "{} at {}",
            programs.version,
            programs.chromium.display()
        )),
        browser::Found::Missing(_) => console.line(&format!("browser tests: {pages}")),
    }
    Ok(true)
}

/// The same holds for a machine without Python or the registry of its packages.
fn find_schemathesis(console: &Console, fuzz: &mut Extra) -> Result<bool> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let say = |line: &str| console.line(line);
    let found = runtime.block_on(schemathesis::find_or_install(&say));
    *fuzz = Extra::of(match &found {
        Ok(schemathesis::Found::Here(_)) => Ok(()),
        Ok(schemathesis::Found::Missing(reason)) => Err(reason.clone()),
        Err(error) => Err(format!("{error:#}")),
    });
    match found? {
        schemathesis::Found::Here(program) => {
            console.line(&format!("schemathesis at {}", program.display()));
        }
        schemathesis::Found::Missing(_) => console.line(&format!("fuzz tests: {fuzz}")),
    }
    Ok(true)
}

/// Whether tests run that need more than a compiler and a broker, and if not, why.
#[derive(Debug, Default)]
struct Extras {
    pages: Extra,
    fuzz: Extra,
}

#[derive(Debug, PartialEq, Eq)]
enum Extra {
    Run,
    Skipped(String),
}

impl Extra {
    fn of(found: Result<(), String>) -> Extra {
        found.map_or_else(Extra::Skipped, |()| Extra::Run)
    }
}

impl Default for Extra {
    fn default() -> Extra {
        Extra::Skipped("nobody has looked for what they need".to_owned())
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Extra::Run => write!(f, "run"),
            Extra::Skipped(reason) => write!(f, "SKIPPED ({reason})"),
        }
    }
}

fn lints() -> Result<bool> {
    quiet(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])
}

/// cargo shows its own progress on stderr.
fn quiet(args: &[&str]) -> Result<bool> {
    let status = cargo().args(args).status().context("cargo does not run")?;
    Ok(status.success())
}

/// Passes every line on as it comes and counts on the way. Where the summary will say "run", a test that skips fails.
fn tests(console: &Console, extras: &Extras, counts: &mut Counts) -> Result<bool> {
    let mut command = cargo();
    if extras.pages == Extra::Run {
        command.env(browser::BROWSER_TESTS, "required");
    }
    if extras.fuzz == Extra::Run {
        command.env(schemathesis::FUZZ_TESTS, "required");
    }
    let mut child = command
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo does not run")?;
    let output = child
        .stdout
        .take()
        .context("its output is a pipe of ours")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read what the tests say")?;
        let line = String::from_utf8_lossy(&line);
        console.line(&line);
        console.flush();
        counts.add(&line);
    }
    let passed = child.wait().context("cargo is gone")?.success();
    counts.settle(passed);
    Ok(passed)
}

/// Summed over the test binaries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// `test result: ok. 5 passed; 0 failed; 1 ignored; …`; any other line counts nothing.
    fn add(&mut self, line: &str) {
        let Some((_, numbers)) = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for part in numbers.split("; ") {
            match part
                .split_once(' ')
                .map(|(number, word)| (number.parse::<u64>(), word))
            {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }

    /// A binary that does not build, or dies half way, prints no result; it must not look like success.
    fn settle(&mut self, passed: bool) {
        if !passed {
            self.failed = self.failed.max(1);
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

fn summary(console: &Console, steps: &[Step], extras: &Extras, counts: &Counts) {
    console.line("── summary");
    for step in steps {
        console.line(&format!(
            "   {:<10} {:<8} {:>12}",
            step.name,
            verdict(step.passed),
            human(step.took)
        ));
    }
    console.line(&format!("   browser tests: {}", extras.pages));
    console.line(&format!("   fuzz tests: {}", extras.fuzz));
    if counts.ignored > 0 {
        console.line(&format!("   ignored tests: {}", counts.ignored));
    }
    console.line(&counts.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_summed_over_the_binaries() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.20s",
            "test says_that_7_passed ... ok",
        ] {
            counts.add(line);
        }
        assert_eq!(
            counts,
            Counts {
                passed: 7,
                failed: 3,
                ignored: 1
            }
        );
        assert_eq!(counts.to_string(), "7 passed, 3 failed");
    }

    #[test]
    fn the_summary_says_whether_more_was_tested_and_if_not_why() {
        let missing = Extra::of(Err("there is no Chromium on the PATH".to_owned()));
        assert_eq!(
            missing.to_string(),
            "SKIPPED (there is no Chromium on the PATH)"
        );
        assert_eq!(Extra::of(Ok(())).to_string(), "run");
        assert!(Extra::default().to_string().starts_with("SKIPPED"));
    }

    #[test]
    fn a_build_that_fails_is_one_failure_though_no_test_ran() {
        let mut counts = Counts::default();
        counts.settle(false);
        assert_eq!(counts.to_string(), "0 passed, 1 failed");
    }
}

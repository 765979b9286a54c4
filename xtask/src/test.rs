//! `cargo xtask test`: formatting, lints, every test, and one summary whose last line a script can read.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use freehold_tests::cargo::cargo;
use freehold_tests::tool::Found;
use freehold_tests::{broker, browser, schemathesis, services};

use crate::say;

/// Every step runs even when an earlier one failed: one run should show everything that needs mending.
pub(crate) fn run() -> Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let (mut pages, mut fuzz) = (Extra::default(), Extra::default());
    let mut counts = Counts::default();
    let steps = [
        step("broker", "find or fetch nats-server", find_broker),
        step("browser", "find or install Chromium", || {
            let found = runtime.block_on(browser::find_or_install(&say));
            pages.look(found, |it| {
                format!("{} at {}", it.version, it.chromium.display())
            })
        }),
        step("fuzz", "find or install schemathesis", || {
            let found = runtime.block_on(schemathesis::find_or_install(&say));
            fuzz.look(found, |program| {
                format!("schemathesis at {}", program.display())
            })
        }),
        step("format", "cargo fmt --all --check", || {
            passes("fmt --all --check")
        }),
        step("lints", "cargo clippy, warnings are errors", || {
            passes("clippy --workspace --all-targets -- -D warnings")
        }),
        step("services", "build what the end-to-end tests start", || {
            services::binaries().map(|_| true)
        }),
        step("tests", "cargo test --workspace", || {
            tests(&pages, &fuzz, &mut counts)
        }),
    ];
    summary(&steps, &pages, &fuzz, &counts);
    let passed = steps.iter().all(|step| step.passed);
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// End-to-end tests mostly wait for processes, so there are two for each core, unless the caller sets another number.
const TEST_THREADS: &str = "RUST_TEST_THREADS";

/// A step's name, how it ended, and how long it took.
struct Step {
    name: &'static str,
    passed: bool,
    took: Duration,
}

fn step(name: &'static str, what: &str, work: impl FnOnce() -> Result<bool>) -> Step {
    say(&format!("── {name}: {what}"));
    let start = Instant::now();
    let passed = work().unwrap_or_else(|error| {
        say(&format!("error: {error:#}"));
        false
    });
    let took = start.elapsed();
    say(&format!(
        "── {name}: {} after {took:.1?}\n",
        verdict(passed)
    ));
    Step { name, passed, took }
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn find_broker() -> Result<bool> {
    let server = broker::nats_server(&say)?;
    say(&format!(
        "nats-server {} at {}",
        server.version,
        server.program.display()
    ));
    Ok(true)
}

/// Tests that need more than a compiler and a broker: why they are skipped, if they are. A machine without the tool passes.
#[derive(Debug)]
struct Extra(Option<String>);

impl Default for Extra {
    fn default() -> Extra {
        Extra(Some("the tool was not looked for".to_owned()))
    }
}

impl Extra {
    fn look<T>(&mut self, found: Result<Found<T>>, name: impl Fn(&T) -> String) -> Result<bool> {
        *self = Extra(match &found {
            Ok(Found::Here(_)) => None,
            Ok(Found::Missing(reason)) => Some(reason.clone()),
            Err(error) => Some(format!("{error:#}")),
        });
        match found? {
            Found::Here(tool) => say(&name(&tool)),
            Found::Missing(_) => say(&self.to_string()),
        }
        Ok(true)
    }
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            None => write!(f, "run"),
            Some(reason) => write!(f, "SKIPPED ({reason})"),
        }
    }
}

/// cargo shows its own progress on stderr.
fn passes(words: &str) -> Result<bool> {
    let status = cargo().args(words.split(' ')).status();
    Ok(status.context("cannot run cargo")?.success())
}

/// Prints every line as it comes and counts results on the way. Where the summary says "run", a test that skips fails.
fn tests(pages: &Extra, fuzz: &Extra, counts: &mut Counts) -> Result<bool> {
    let mut command = cargo();
    for (extra, variable) in [
        (pages, browser::BROWSER_TESTS),
        (fuzz, schemathesis::FUZZ_TESTS),
    ] {
        if extra.0.is_none() {
            command.env(variable, "required");
        }
    }
    if std::env::var_os(TEST_THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        command.env(TEST_THREADS, (2 * cores).to_string());
    }
    let mut child = command
        .args(["test", "--workspace", "--no-fail-fast"])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run cargo")?;
    let output = child.stdout.take().context("its output is a pipe")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("cannot read the output of the tests")?;
        let line = String::from_utf8_lossy(&line);
        say(&line);
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
        let numbers = line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "));
        for part in numbers.map_or("", |(_, numbers)| numbers).split("; ") {
            let Some((number, word)) = part.split_once(' ') else {
                continue;
            };
            let number = number.parse().unwrap_or(0);
            match word {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
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

fn summary(steps: &[Step], pages: &Extra, fuzz: &Extra, counts: &Counts) {
    say("── summary");
    for Step { name, passed, took } in steps {
        say(&format!(
            "   {name:<10} {:<8} {:>12}",
            verdict(*passed),
            format!("{took:.1?}")
        ));
    }
    say(&format!("   browser tests: {pages}\n   fuzz tests: {fuzz}"));
    if counts.ignored > 0 {
        say(&format!("   ignored tests: {}", counts.ignored));
    }
    say(&counts.to_string());
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
    fn the_summary_says_why_tests_are_skipped() {
        let mut extra = Extra::default();
        assert!(extra.to_string().starts_with("SKIPPED"));
        let reason = "there is no Chromium on the PATH";
        let missing: Found<()> = Found::Missing(reason.to_owned());
        extra.look(Ok(missing), |()| String::new()).unwrap();
        assert_eq!(extra.to_string(), format!("SKIPPED ({reason})"));
        extra.look(Ok(Found::Here(())), |()| String::new()).unwrap();
        assert_eq!(extra.to_string(), "run");
    }

    #[test]
    fn a_build_that_fails_is_one_failure_though_no_test_ran() {
        let mut counts = Counts::default();
        counts.settle(false);
        assert_eq!(counts.to_string(), "0 passed, 1 failed");
    }
}

//! How a program ends, serving or as a command:
//!
//! | Exit code | What it says |
//! | --- | --- |
//! | 0 | done; equal; healthy; a service stopped on request |
//! | 1 | refused or failed; one line on stderr says why |
//! | 2 | the command line is not valid |
//! | 3 | it differs; it is not healthy; events still wait for an operator |
//! | 4 | unknown: a dependency did not respond |
//! | 74 | the disk failed during a commit: a restart reads what it holds |

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use relay::database::OnDiskFailure;
use tokio::runtime::Runtime;

use service_kit::process::machine::raise_descriptors;
use service_kit::process::output::{flush_stderr, note};

/// The result of work that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It is done, equal or healthy.
    Done,
    /// A dependency did not respond.
    Unknown,
    /// Something differs, or is not healthy.
    Differs,
}

/// Runs a program's work and prints its error.
pub fn run(work: impl Future<Output = anyhow::Result<Outcome>>) -> ExitCode {
    exit(raise_descriptors().and_then(|()| Runtime::new()?.block_on(work)))
}

/// The exit code; for an error, after one line with all its sources.
fn exit(result: anyhow::Result<Outcome>) -> ExitCode {
    let code = match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Differs) => ExitCode::from(3),
        Ok(Outcome::Unknown) => ExitCode::from(4),
        Err(error) => {
            note(format_args!("error: {}", line(&error)));
            ExitCode::FAILURE
        }
    };
    flush_stderr();
    code
}

/// When the disk fails during a commit the program ends, as is relay's default, but first writes the log lines that say why.
pub fn on_disk_failure() -> OnDiskFailure {
    OnDiskFailure::new(|_| {
        flush_stderr();
        std::process::exit(74)
    })
}

/// What clap has parsed. Otherwise ends the process, after clap's help (code 0, if stdout takes it) or error (code 2).
pub fn or_end<T>(read: Result<T, clap::Error>) -> T {
    read.unwrap_or_else(|end| {
        let printed = end.print().and_then(|()| std::io::stdout().flush());
        let code = match printed {
            Err(error) if !end.use_stderr() && error.kind() != ErrorKind::BrokenPipe => {
                note(format_args!("error: cannot write to stdout: {error}"));
                1
            }
            _ => end.exit_code(),
        };
        flush_stderr();
        std::process::exit(code)
    })
}

/// Each source once: some errors already end with the text of their source.
fn line(error: &anyhow::Error) -> String {
    relay::error::chain(error.as_ref()).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_each_cause_once() {
        let refused = anyhow!("refused").context("cannot connect: refused");
        assert_eq!(
            line(&refused.context("no\nbroker")),
            "no broker: cannot connect: refused"
        );
    }
}

//! How a program ends, serving or as a command:
//!
//! | Exit code | What it says |
//! | --- | --- |
//! | 0 | done; equal; healthy; a service stopped because it was asked to |
//! | 1 | refused or failed; one line on stderr says why |
//! | 2 | the command line makes no sense |
//! | 3 | it differs; it is not healthy; events still wait for a person |
//! | 4 | it could not be said: what would have to answer does not |
//! | 74 | the disk failed under a commit: what is on it is known after a restart |

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use relay::OnDiskFailure;
use tokio::runtime::Runtime;

use crate::process::machine::raise_descriptors;
use crate::process::output::{flush_stderr, note};

/// How something ended that was neither refused nor failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    Done,
    /// Nobody could say.
    Unknown,
    /// It differs, or is not as it should be.
    Differs,
}

/// Runs a program's work to its end.
pub fn run(work: impl Future<Output = anyhow::Result<Outcome>>) -> ExitCode {
    exit(raise_descriptors().and_then(|()| Runtime::new()?.block_on(work)))
}

/// The exit code, after one line with all the causes if it is an error.
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

/// What a program does when the disk fails under a commit: it ends as relay's own default does, once the lines that say
/// why are written.
pub fn on_disk_failure() -> OnDiskFailure {
    OnDiskFailure::new(|_| {
        flush_stderr();
        std::process::exit(74)
    })
}

/// What clap has read; or the end of the process, after clap's help (code 0, if stdout takes it) or refusal (code 2).
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

/// Every cause once: some errors already end with what their source says.
fn line(error: &anyhow::Error) -> String {
    relay::chain(error.as_ref()).replace('\n', " ")
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

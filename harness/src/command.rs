//! An operator's commands, run with a service's own program and settings, and their output.

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;
use tokio::time::timeout;

use crate::eventually::seconds;
use crate::part::Part;
use crate::services::Service;

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Said {
    /// `None`: a signal killed it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

/// Longer than any command's own deadlines.
const DEADLINE: Duration = seconds(120);

impl Service {
    /// Runs `user-service … restore copy.db` for `["restore", "copy.db"]`, whether the service runs or not. Its output is
    /// also kept with the logs.
    pub async fn command(&self, words: &[&str]) -> Said {
        let mut command = Command::new(self.program());
        command
            .arg("--database")
            .arg(&self.database)
            .args(["--broker", &self.broker_url])
            .args(&self.args)
            .args(words)
            .kill_on_drop(true);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FREEHOLD_")) {
            command.env_remove(name);
        }
        command.envs(self.env.iter().cloned());
        let ended = timeout(DEADLINE, command.output()).await;
        let ended = ended.unwrap_or_else(|_| panic!("{words:?} did not end in {DEADLINE:?}"));
        let ended = ended.unwrap_or_else(|error| panic!("{words:?} was not started: {error}"));
        let said = Said {
            code: ended.status.code(),
            stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
        };
        self.keep(words, &said).expect("a file with the logs");
        said
    }

    fn keep(&self, words: &[&str], said: &Said) -> io::Result<()> {
        let path = self.launch().logs.join(format!("{}.commands", self.name()));
        let mut file = File::options().append(true).create(true).open(path)?;
        let Said {
            code,
            stdout,
            stderr,
        } = said;
        writeln!(file, "{words:?} ended with {code:?}\n{stdout}{stderr}")
    }
}

impl Said {
    /// Panics with its whole output if it ended with another code.
    #[track_caller]
    #[must_use]
    pub fn expect_code(self, code: i32) -> Said {
        assert_eq!(
            self.code,
            Some(code),
            "it said:\n{}{}",
            self.stdout,
            self.stderr
        );
        self
    }

    /// The output of a command with `--json`.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("no JSON ({error}):\n{}{}", self.stdout, self.stderr))
    }
}

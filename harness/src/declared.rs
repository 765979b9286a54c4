//! What a service declares of itself, and what follows from it: its names, and its account at the broker.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

/// A service: the package and program of this name, the port it prefers, the one stream it owns and those it follows.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Declared {
    /// `payments-service`.
    pub name: String,
    /// Its port without `--listen`.
    pub port: u16,
    /// `PAYMENTS`.
    pub stream: String,
    /// The streams that it reads.
    #[serde(default)]
    pub follows: Vec<String>,
}

/// The account of a stream's owner at the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The stream that it owns.
    pub stream: String,
    /// The owner's user name.
    pub user: String,
    /// What nats.conf includes.
    pub text: String,
}

/// A program that prints a line about itself needs no longer, on any machine.
const DEADLINE: Duration = Duration::from_secs(30);
/// The last lines of a program that failed.
const SHOWN: usize = 5;
/// The cure when a program does not answer.
const ITS_KIND: &str = "Is it a service that service-program runs?";

impl Declared {
    /// As the program itself says: `PROGRAM describe`.
    pub async fn by(program: &Path) -> Result<Declared> {
        let said = ask(program, "describe").await?;
        serde_json::from_str(&said).with_context(|| {
            format!(
                "{} describe prints no description of a service, but {said:?}. {ITS_KIND}",
                program.display()
            )
        })
    }

    /// What the program says of itself, if it is this service. It may follow other streams than declared here.
    pub async fn confirmed_by(&self, program: &Path) -> Result<Declared> {
        let said = Declared::by(program).await?;
        ensure!(
            (&said.name, &said.stream) == (&self.name, &self.stream),
            "freehold.toml says that {} is {} with stream {}, the program says {} with stream {}: correct freehold.toml",
            program.display(),
            self.name,
            self.stream,
            said.name,
            said.stream
        );
        Ok(said)
    }

    /// The account that follows from the declaration.
    pub fn account(&self) -> Account {
        let follows: BTreeSet<_> = self.follows.iter().map(String::as_str).collect();
        let room = relay::nats::DEFAULT_STREAM_BYTES;
        let text = relay::nats::account_file(&self.name, &self.stream, &follows, room);
        self.has(text)
    }

    /// The account that the program itself prints: `PROGRAM broker-config`.
    pub async fn account_by(&self, program: &Path) -> Result<Account> {
        Ok(self.has(ask(program, "broker-config").await?))
    }

    fn has(&self, text: String) -> Account {
        Account {
            stream: self.stream.clone(),
            user: self.name.clone(),
            text,
        }
    }
}

/// `FREEHOLD_PAYMENTS_PASSWORD`: the environment variable about a stream and its owner.
pub fn variable(stream: &str, what: &str) -> String {
    format!("FREEHOLD_{stream}_{what}")
}

/// The prefix of the only reply subjects that the owner may subscribe to: `_INBOX_payments`.
pub fn inbox(stream: &str) -> String {
    format!("_INBOX_{}", stream.to_lowercase())
}

async fn ask(program: &Path, word: &str) -> Result<String> {
    let shown = program.display();
    ensure!(
        program.is_file(),
        "there is no {shown}: build the program, or correct the path"
    );
    let mut command = Command::new(program);
    command.arg(word).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FREEHOLD_") {
            command.env_remove(name);
        }
    }
    let output = timeout(DEADLINE, command.output()).await;
    let output = output
        .with_context(|| format!("{shown} {word} did not end in {DEADLINE:?}. {ITS_KIND}"))?
        .with_context(|| {
            format!("{shown} cannot be run. It must be an executable file, built for this machine")
        })?;
    printed(output).with_context(|| format!("{shown} {word} fails. {ITS_KIND}"))
}

fn printed(output: Output) -> Result<String> {
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<_> = said.lines().collect();
        match &lines[lines.len().saturating_sub(SHOWN)..] {
            [] => bail!("{}; it says nothing", output.status),
            last => bail!("{}; its last lines:\n{}", output.status, last.join("\n")),
        }
    }
    String::from_utf8(output.stdout).context("it prints no text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    async fn of(script: &str) -> Result<Declared> {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("payments-service");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Declared::by(&program).await
    }

    #[tokio::test]
    async fn a_program_describes_itself_and_may_say_more_than_is_known_here() {
        let line = r#"{"name":"payments-service","port":7105,"stream":"PAYMENTS","follows":["ORDERS"],"version":"1"}"#;
        let payments = of(&format!("echo '{line}'")).await.expect("a description");
        assert_eq!((payments.port, &*payments.stream), (7105, "PAYMENTS"));
        let account = payments.account();
        assert_eq!(account.user, "payments-service");
        assert!(account.text.contains("live.orders.>"), "{}", account.text);
    }

    #[tokio::test]
    async fn a_program_that_is_no_service_is_refused_with_the_cure() {
        for (script, said) in [
            ("echo hello", ITS_KIND),
            ("exit 2", ITS_KIND),
            ("echo no such command >&2; exit 2", "no such command"),
        ] {
            let refusal = format!("{:#}", of(script).await.expect_err("refused"));
            assert!(refusal.contains(said), "{refusal}");
        }
        let refusal = Declared::by(Path::new("/nowhere/x"))
            .await
            .expect_err("gone");
        assert!(
            refusal.to_string().contains("build the program"),
            "{refusal}"
        );
    }
}

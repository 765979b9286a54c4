//! `--with NAME=PROGRAM`: a service whose program is elsewhere. What it needs it says itself, by `describe` and `broker-config`.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::timeout;

/// As it was typed. The path is absolute, because a service may be started from another folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct With {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
}

/// What a program prints for `describe`.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Description {
    pub(crate) name: String,
    pub(crate) port: u16,
    pub(crate) stream: String,
    pub(crate) follows: Vec<String>,
}

/// Both commands only print what the program declares.
const DEADLINE: Duration = Duration::from_secs(10);
/// How much of what a program wrote a refusal shows.
const LINES: usize = 5;

impl FromStr for With {
    type Err = String;

    fn from_str(text: &str) -> Result<With, String> {
        let shape = || "it is NAME=PROGRAM, such as payments-service=target/debug/payments-service";
        let parts = text.split_once('=');
        let parts = parts.filter(|(name, program)| !name.is_empty() && !program.is_empty());
        let (name, program) = parts.ok_or_else(shape)?;
        let program = std::path::absolute(program).map_err(|error| error.to_string())?;
        Ok(With {
            name: name.to_owned(),
            program,
        })
    }
}

impl With {
    /// The program's own words, if it is there and is the service that was named.
    pub(crate) async fn describe(&self) -> Result<Description> {
        let printed = self.ask("describe").await?;
        let described: Description = serde_json::from_str(&printed).map_err(|error| {
            anyhow!("{self} describes itself by no line of JSON that is understood here ({error}). Is it a service on service-program, built lately?")
        })?;
        ensure!(
            described.name == self.name,
            "{self} calls itself {0}: write --with {0}={1}",
            described.name,
            self.program.display()
        );
        Ok(described)
    }

    /// Its account at the broker.
    pub(crate) async fn account(&self) -> Result<String> {
        self.ask("broker-config").await
    }

    async fn ask(&self, command: &str) -> Result<String> {
        ensure!(
            self.program.is_file(),
            "{self}: there is no such program. Build it first, or correct the path"
        );
        let output = timeout(DEADLINE, output(&self.program, command)).await;
        let output = output
            .map_err(|_| anyhow!("{self} was asked to `{command}` and did not end within {DEADLINE:?}. Is it a service on service-program?"))?
            .with_context(|| format!("{self} cannot be run. It must be an executable file, built for this machine"))?;
        if !output.status.success() {
            bail!(
                "{self} was asked to `{command}` and failed ({}). Is it a service on service-program? Its last lines:{}",
                output.status,
                last_lines(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

impl std::fmt::Display for With {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "--with {}={}", self.name, self.program.display())
    }
}

/// Without our settings, as a service is started.
async fn output(program: &Path, command: &str) -> std::io::Result<Output> {
    let mut asked = Command::new(program);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FREEHOLD_")) {
        asked.env_remove(name);
    }
    asked
        .arg(command)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
}

fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LINES)..];
    last.iter().map(|line| format!("\n  | {line}")).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use tempfile::TempDir;

    use super::*;

    /// A program that runs these lines of shell, and the option that names it.
    fn program(lines: &str) -> (With, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("payments");
        fs::write(&path, format!("#!/bin/sh\n{lines}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        let with = format!("payments-service={}", path.display());
        (with.parse().unwrap(), folder)
    }

    async fn refusal(with: &With) -> String {
        let refused = with.describe().await.expect_err("refused");
        let text = format!("{refused:#}");
        let option = format!("--with payments-service={}", with.program.display());
        text.strip_prefix(&option)
            .unwrap_or_else(|| panic!("{text}"))
            .to_owned()
    }

    #[tokio::test]
    async fn a_program_describes_itself_and_prints_its_account() {
        let (with, _folder) = program(
            r#"case $1 in
  describe) echo '{"name":"payments-service","port":7105,"stream":"PAYMENTS","follows":["ORDERS"],"version":"0.1.0"}' ;;
  broker-config) echo 'PAYMENTS { }' ;;
esac"#,
        );
        let described = with.describe().await.unwrap();
        assert_eq!(
            (described.port, described.stream.as_str()),
            (7105, "PAYMENTS")
        );
        assert_eq!(described.follows, ["ORDERS"]);
        assert_eq!(with.account().await.unwrap(), "PAYMENTS { }\n");
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_or_cannot_be_run_is_refused_with_the_cure() {
        let (with, _folder) = program("");
        fs::set_permissions(&with.program, Permissions::from_mode(0o600)).unwrap();
        let refused = refusal(&with).await;
        assert!(
            refused.starts_with(" cannot be run. It must be an executable file"),
            "{refused}"
        );
        fs::remove_file(&with.program).unwrap();
        let refused = refusal(&with).await;
        assert_eq!(
            refused,
            ": there is no such program. Build it first, or correct the path"
        );
    }

    #[tokio::test]
    async fn a_program_that_fails_shows_its_last_lines() {
        let (with, _folder) =
            program("for line in 1 2 3 4 5 6; do echo line $line >&2; done; exit 3");
        let refused = refusal(&with).await;
        assert!(refused.contains("failed (exit status: 3)"), "{refused}");
        assert!(
            !refused.contains("line 1\n") && refused.ends_with("\n  | line 5\n  | line 6"),
            "{refused}"
        );
    }

    #[tokio::test]
    async fn another_name_and_no_description_at_all_are_refused() {
        let (other, _folder) =
            program(r#"echo '{"name":"refunds","port":1,"stream":"REFUNDS","follows":[]}'"#);
        let refused = refusal(&other).await;
        assert!(
            refused.starts_with(" calls itself refunds: write --with refunds=/"),
            "{refused}"
        );
        let (silent, _folder) = program("echo hello");
        let refused = refusal(&silent).await;
        assert!(
            refused.starts_with(" describes itself by no line of JSON"),
            "{refused}"
        );
    }

    #[test]
    fn an_option_that_names_no_program_is_refused_with_an_example() {
        for text in ["payments", "=payments", "payments="] {
            let refused = text.parse::<With>().unwrap_err();
            assert!(refused.contains("NAME=PROGRAM, such as"), "{refused}");
        }
        let with: With = "a=target/b".parse().unwrap();
        assert!(with.program.is_absolute());
    }
}

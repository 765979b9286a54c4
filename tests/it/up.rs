//! `cargo xtask up` as a newcomer meets it: what the first screen shows, and that its lines to copy do what they say.

use std::path::{Path, PathBuf};
use std::process::Command;

use freehold_tests::binaries::BINARIES_VARIABLE;
use freehold_tests::broker::nats_server;
use freehold_tests::cargo::cargo;
use freehold_tests::process::{Launch, Process};
use freehold_tests::{eventually, paths, seconds, services};
use serde_json::Value;
use tempfile::TempDir;

/// A running `up`; its own output and its data are in the folder.
struct Up {
    process: Process,
    folder: TempDir,
}

/// A small terminal.
const ROWS: usize = 24;
const COLUMNS: usize = 100;
/// The last line of the first screen.
const LAST: &str = "Ctrl-C stops everything.";
/// Longer than a row, and a shell must see it quoted.
const LONG_NAME: &str = "Ada's own folder for everything that she wants to keep, so that its name does not fit a row of a terminal";

impl Up {
    async fn start(arguments: &[&str]) -> Up {
        let folder = tempfile::tempdir().expect("a folder");
        let (xtask, binaries, broker) = tokio::task::spawn_blocking(programs)
            .await
            .expect("it does not panic");
        let launch = Launch::of("xtask", xtask, folder.path())
            .arg("up")
            .arg("--data-dir")
            .arg(folder.path().join(LONG_NAME))
            .env(BINARIES_VARIABLE, &binaries.to_string_lossy())
            .env("FREEHOLD_NATS_SERVER", &broker.to_string_lossy());
        let launch = arguments.iter().fold(launch, Launch::arg);
        let process = Process::spawn(launch).expect("it starts");
        Up { process, folder }
    }

    /// All that it prints until the first screen is complete.
    async fn first_screen(&mut self) -> String {
        let process = &mut self.process;
        eventually("the first screen", seconds(120), async || {
            let shown = process.logs().stdout();
            match shown.split_once(LAST) {
                Some((before, _)) => Ok(format!("{before}{LAST}")),
                None => Err(format!("{shown}{}", process.logs().stderr())),
            }
        })
        .await
    }
}

#[tokio::test]
async fn the_first_screen_fits_a_small_terminal_and_its_lines_to_copy_work() {
    let mut up = Up::start(&[]).await;
    let screen = up.first_screen().await;
    println!("{screen}");
    // On a terminal the status line holds this, and is gone afterwards.
    let shown = screen.lines().filter(|line| !line.ends_with(" s so far"));
    let rows: usize = shown
        .map(|line| line.chars().count().div_ceil(COLUMNS).max(1))
        .sum();
    let (cargo, status) = (1, 1); // the last line of cargo's progress, and the status line
    assert!(rows + cargo + status <= ROWS, "{rows} rows");

    let lines: Vec<&str> = screen
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let answers = shell(&lines.join("\n"));
    let order: Value =
        serde_json::from_str(answers.lines().last().expect("an answer")).expect(&answers);
    assert_eq!(
        (&order["user"]["name"], &order["amount_minor"]),
        (&"Ada".into(), &1250.into())
    );
    assert!(up.process.stop().await.expect("it stops").success());
    assert!(
        up.folder
            .path()
            .join(LONG_NAME)
            .join("commands.sh")
            .is_file()
    );
}

/// In a fresh shell, as a person would: nothing is set but the path.
fn shell(lines: &str) -> String {
    let output = Command::new("sh")
        .args(["-c", lines])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(paths::workspace())
        .output()
        .expect("sh runs");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    String::from_utf8(output.stdout).expect("text")
}

/// xtask, the folder of the services, and the broker.
fn programs() -> (PathBuf, PathBuf, PathBuf) {
    let build = cargo().args(["build", "--package", "xtask"]).status();
    assert!(build.expect("cargo runs").success());
    let us = std::env::current_exe().expect("this test is a file");
    let folder = us
        .ancestors()
        .nth(2)
        .map(Path::to_owned)
        .expect("a profile's folder");
    let broker = nats_server(&|line| println!("{line}")).expect("a broker");
    (
        folder.join("xtask"),
        services::binaries().expect("they build"),
        broker.program,
    )
}

//! `cargo xtask up` as a newcomer meets it: the first screen, its lines to copy, and a service from elsewhere.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use freehold_tests::binaries::BINARIES_VARIABLE;
use freehold_tests::broker::nats_server;
use freehold_tests::cargo::cargo;
use freehold_tests::http::Api;
use freehold_tests::process::{Launch, Process};
use freehold_tests::{Password, chance, eventually, outbox, paths, seconds, services, within};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A running `up`; its own output and its data are in the folder.
struct Up {
    process: Process,
    folder: TempDir,
}

/// What it runs.
struct Programs {
    xtask: PathBuf,
    /// The service of `tests/examples/dues_service.rs`.
    dues: PathBuf,
    services: PathBuf,
    broker: PathBuf,
}

/// A small terminal.
const ROWS: usize = 24;
const COLUMNS: usize = 100;
/// The last line of the first screen.
const LAST: &str = "Ctrl-C stops everything.";
/// Longer than a row, and a shell must see it quoted.
const LONG_NAME: &str = "Ada's own folder for everything that she wants to keep, so that its name does not fit a row of a terminal";

impl Programs {
    async fn find() -> Programs {
        let found = tokio::task::spawn_blocking(Programs::build).await;
        found.expect("it does not panic")
    }

    fn build() -> Programs {
        let ours = ["--bin", "xtask", "--example", "dues_service"];
        let build = cargo().args(["build", "--workspace"]).args(ours).status();
        assert!(build.expect("cargo runs").success());
        let us = std::env::current_exe().expect("this test is a file");
        let folder = us.ancestors().nth(2).expect("a profile's folder");
        let broker = nats_server(&|line| println!("{line}")).expect("a broker");
        Programs {
            xtask: folder.join("xtask"),
            dues: folder.join("examples/dues_service"),
            services: services::binaries().expect("they build"),
            broker: broker.program,
        }
    }
}

impl Up {
    fn start(programs: &Programs, arguments: &[&str]) -> Up {
        let folder = tempfile::tempdir().expect("a folder");
        let launch = Launch::of("xtask", &programs.xtask, folder.path())
            .arg("up")
            .arg("--data-dir")
            .arg(folder.path().join(LONG_NAME))
            .env(BINARIES_VARIABLE, &programs.services.to_string_lossy())
            .env("FREEHOLD_NATS_SERVER", &programs.broker.to_string_lossy());
        let launch = arguments.iter().fold(launch, Launch::arg);
        let process = Process::spawn(launch).expect("it starts");
        Up { process, folder }
    }

    /// Its stdout up to and including this text.
    async fn shown(&self, end: &str) -> String {
        let logs = self.process.logs();
        eventually("its output", seconds(120), async || {
            let shown = logs.stdout();
            match shown.split_once(end) {
                Some((before, _)) => Ok(format!("{before}{end}")),
                None => Err(format!("{shown}{}", logs.stderr())),
            }
        })
        .await
    }

    /// What it says when it refuses to start.
    async fn refusal(mut self) -> String {
        let process = &mut self.process;
        let ended = || std::future::ready(process.exit_status().ok_or("it runs"));
        let status = within(seconds(120), ended).await.expect("it ends");
        assert_eq!(status.code(), Some(1));
        self.process.logs().stderr()
    }
}

#[tokio::test]
async fn the_first_screen_fits_a_small_terminal_and_its_lines_to_copy_work() {
    let mut up = Up::start(&Programs::find().await, &[]);
    let screen = up.shown(LAST).await;
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

#[tokio::test]
async fn a_service_whose_program_is_elsewhere_is_hosted_like_any_other() {
    let programs = Programs::find().await;
    let with = format!("dues-service={}", programs.dues.display());
    let mut up = Up::start(
        &programs,
        &["--json", "--no-traffic", "--no-drivers", "--with", &with],
    );
    let system: Value = serde_json::from_str(&up.shown("\n").await).expect("JSON");
    let dues = &system["services"]["dues-service"];
    let due = PathBuf::from(dues["database"].as_str().expect("a path"));

    place_an_order(&system).await;
    until_noted(&due, 1).await;
    let pid = dues["pid"].to_string();
    assert!(
        Command::new("kill")
            .args(["-9", &pid])
            .status()
            .expect("kill runs")
            .success()
    );
    place_an_order(&system).await;
    until_noted(&due, 2).await;
    // The service applies events a moment before `up` finds it ready.
    let logs = up.process.logs();
    eventually("`up` says that it runs again", seconds(60), async || {
        let said = logs.stderr();
        let is_back = |line: &str| line.contains("dues-service") && line.contains("runs again");
        said.lines().any(is_back).then_some(()).ok_or(said)
    })
    .await;

    let data = up.folder.path().join(LONG_NAME);
    let status = Command::new(data.join("dues-service"))
        .arg("status")
        .output()
        .expect("it runs");
    assert!(status.status.success(), "{status:?}");
    assert!(up.process.stop().await.expect("it stops").success());
    let mut reset = Command::new(&programs.xtask);
    assert!(
        reset
            .args(["reset", "--data-dir"])
            .arg(&data)
            .status()
            .expect("it runs")
            .success()
    );
    assert!(!data.exists(), "its files are deleted, too");
}

#[tokio::test]
async fn a_hosted_program_that_ends_at_once_or_is_another_service_is_refused_with_the_cure() {
    let programs = Programs::find().await;
    let other = format!("refunds-service={}", programs.dues.display());
    let refused = Up::start(&programs, &["--with", &other]).refusal().await;
    let cure = format!(
        "error: --with {other}: the program calls itself dues-service: write --with dues-service="
    );
    assert!(refused.contains(&cure), "{refused}");

    let (with, _folder) = pretender(&programs, "echo no road >&2; exit 7");
    let refused = Up::start(&programs, &["--with", &with]).refusal().await;
    let parts = [
        "dues-service ended at its start (exit status: 7)",
        "  | no road\n",
        "--without dues-service",
    ];
    for part in parts {
        assert!(refused.contains(part), "{part}: {refused}");
    }
}

#[tokio::test]
async fn a_hosted_program_that_never_listens_is_refused_after_a_minute() {
    let programs = Programs::find().await;
    let (with, _folder) = pretender(&programs, "exec sleep 600");
    let refused = Up::start(&programs, &["--with", &with]).refusal().await;
    let said = "dues-service was not ready within 60s: it does not listen yet";
    assert!(
        refused.contains(said) && refused.contains("--without dues-service"),
        "{refused}"
    );
}

/// A program that declares what dues-service declares, and does this instead of serving; with the folder that it is in.
fn pretender(programs: &Programs, instead: &str) -> (String, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("pretender");
    let real = programs.dues.display();
    let text = format!(
        "#!/bin/sh\ncase $1 in describe|broker-config) exec '{real}' $1 ;; esac\n{instead}\n"
    );
    fs::write(&program, text)
        .and_then(|()| fs::set_permissions(&program, Permissions::from_mode(0o700)))
        .expect("a script");
    (format!("dues-service={}", program.display()), folder)
}

/// For a new user.
async fn place_an_order(system: &Value) {
    let token = system["operator"]["token"].as_str().expect("a token");
    let api = |name: &str| {
        let url = system["services"][name]["url"].as_str().expect("a URL");
        Api::new(url, Some(Password::known(token)))
    };
    let email = format!("ada{:x}@example.org", chance::number());
    let user = json!({"name": "Ada", "email": email});
    let user = api("user-service")
        .send(Method::POST, "/users", &user)
        .await
        .expect_status(201);
    let order = json!({"user_id": user.id(), "amount_minor": 1250, "currency": "EUR"});
    let placed = api("orders-service")
        .send(Method::POST, "/orders", &order)
        .await;
    placed.expect_status(201);
}

async fn until_noted(database: &Path, orders: usize) {
    eventually("dues-service notes the order", seconds(60), async || {
        let due = outbox::rows(database, "select amount_minor from due")
            .map_err(|error| error.to_string())?;
        (due.len() == orders)
            .then_some(())
            .ok_or_else(|| format!("{due:?}"))
    })
    .await;
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

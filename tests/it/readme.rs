//! relay's README shows the smallest service and the smallest consumer of `examples/`, and they run: the event arrives.

use std::path::{Path, PathBuf};

use freehold_tests::cargo::cargo;
use freehold_tests::paths::workspace;
use freehold_tests::process::{Launch, Process};
use freehold_tests::{World, eventually, seconds};
use rusqlite::{Connection, OpenFlags};

use crate::house::read;

const ACCOUNTS: &str = include_str!("../../examples/accounts.conf");

#[tokio::test]
async fn the_smallest_service_publishes_an_event_and_the_smallest_consumer_applies_it() {
    let programs = tokio::task::spawn_blocking(built).await;
    let [service, consumer] = programs.expect("it does not panic");
    let world = World::builder().with_account(ACCOUNTS).start().await;
    let start = |name: &str, program: &Path| {
        let launch = Launch::of(name, "/usr/bin/env", world.logs())
            .arg("-C")
            .arg(world.folder())
            .arg(program)
            .env("NATS_URL", &world.broker.url());
        Process::spawn(launch).expect("it starts")
    };
    let _service = start("visits", &service);
    let _consumer = start("reports", &consumer);
    let file = world.folder().join("reports.db");
    eventually(
        "the visit is counted",
        seconds(30),
        async || match popular(&file) {
            Ok(found) if found == ("/welcome".to_owned(), 1) => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
}

#[test]
fn the_readme_shows_the_examples_as_they_are_and_they_are_as_small_as_it_claims() {
    let readme = read(&workspace().join("relay/README.md"));
    let shown = readme.split("```rust,ignore\n").skip(1);
    let shown: Vec<&str> = shown.filter_map(|rest| rest.split("```").next()).collect();
    let files = ["visits", "producer", "consumer"].map(program);
    assert_eq!(shown, files);
    let [visits, producer, consumer] = files.map(|text| lines(&text));
    assert!(visits + producer <= 25, "{visits} + {producer}");
    assert!(consumer <= 12, "{consumer}");
}

/// An example without its first sentence and the command that runs it.
fn program(name: &str) -> String {
    let text = read(&workspace().join(format!("examples/{name}.rs")));
    let (_, program) = text
        .split_once("\n\n")
        .expect("a program after its first sentence");
    program.to_owned()
}

/// Lines of code, without blanks and comments.
fn lines(program: &str) -> usize {
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    program.lines().filter(is_code).count()
}

fn built() -> [PathBuf; 2] {
    let names = ["producer", "consumer"];
    let programs = names.map(|name| ["--bin", name]).concat();
    let build = cargo()
        .args(["build", "--workspace"])
        .args(programs)
        .status();
    assert!(build.expect("cargo runs").success());
    let folder = std::env::current_exe().expect("this test is a file");
    let folder = folder.ancestors().nth(2).expect("a profile's folder");
    names.map(|name| folder.join(name))
}

fn popular(file: &Path) -> rusqlite::Result<(String, u64)> {
    let rows = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    rows.query_row("select page, count from popular", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

//! The smallest service and the smallest consumer of relay's README run as they stand there: the event arrives.

use std::path::{Path, PathBuf};

use freehold_tests::cargo::cargo;
use freehold_tests::process::{Launch, Process};
use freehold_tests::{World, eventually, seconds};
use rusqlite::{Connection, OpenFlags};

const ACCOUNTS: &str = include_str!("readme/accounts.conf");

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
fn the_programs_are_as_small_as_the_readme_claims() {
    let [visits, service, consumer] = ["visits", "service", "consumer"].map(lines);
    assert!(visits + service <= 25, "{visits} + {service}");
    assert!(consumer <= 12, "{consumer}");
}

/// Lines of code in a block of the README, without blanks and comments.
fn lines(program: &str) -> usize {
    let code = match program {
        "visits" => include_str!(concat!(env!("OUT_DIR"), "/visits.rs")),
        "service" => include_str!(concat!(env!("OUT_DIR"), "/service.rs")),
        _ => include_str!(concat!(env!("OUT_DIR"), "/consumer.rs")),
    };
    let is_code = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    code.lines().filter(is_code).count()
}

/// Where cargo puts the examples that `build.rs` takes out of the README.
fn built() -> [PathBuf; 2] {
    let names = ["smallest_service", "smallest_consumer"];
    let examples = names.map(|name| ["--example", name]).concat();
    let build = cargo()
        .args(["build", "--workspace"])
        .args(examples)
        .status();
    assert!(build.expect("cargo runs").success());
    let folder = std::env::current_exe().expect("this test is a file");
    let folder = folder
        .ancestors()
        .nth(2)
        .expect("a profile's folder")
        .join("examples");
    names.map(|name| folder.join(name))
}

fn popular(file: &Path) -> rusqlite::Result<(String, u64)> {
    let rows = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    rows.query_row("select page, count from popular", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

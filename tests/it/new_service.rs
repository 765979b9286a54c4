//! `cargo xtask new-service` outside of this workspace: what it makes compiles, its own tests pass, and one new service has the data
//! of another.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use event_schema::OrderEvent;
use freehold_harness::cargo::cargo;
use freehold_harness::{Manifest, World};
use freehold_tests::http::Reply;
use freehold_tests::{binaries, eventually, paths, seconds};
use serde_json::json;
use tokio::task::spawn_blocking;

/// Always the same folder, so that what cargo has built for it serves the next run.
fn shop() -> PathBuf {
    paths::workspace().join("target/tmp/new-service/shop")
}

fn new_service(arguments: &[&str]) -> Output {
    let programs = binaries::built(paths::workspace(), &["xtask"]).expect("xtask builds");
    let mut xtask = Command::new(programs.join("xtask"));
    let xtask = xtask
        .arg("new-service")
        .args(arguments)
        .arg("--into")
        .arg(shop());
    xtask.output().expect("it runs")
}

#[track_caller]
fn succeeds(output: Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stdout).expect("a text")
}

#[track_caller]
fn refused(output: Output) -> String {
    assert!(!output.status.success(), "it is not refused");
    let said = String::from_utf8(output.stderr).expect("a text");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// Builds both programs, and runs the tests of all four crates. Offline, so with the versions of this workspace.
fn test_all(folder: &Path) -> Output {
    let mut test = cargo(folder);
    let test = test.args([
        "test",
        "--quiet",
        "--offline",
        "--workspace",
        "--target-dir",
    ]);
    test.arg(target()).output().expect("cargo runs")
}

fn target() -> PathBuf {
    paths::workspace().join("target")
}

/// Every file with its bytes, to see that nothing has changed.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).expect("a file");
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

fn make() {
    let _none_before = fs::remove_dir_all(shop());
    fs::create_dir_all(target().join("tmp/new-service")).expect("a folder");
    let said = succeeds(new_service(&["payments"]));
    assert!(said.lines().count() <= 10, "{said}");
    assert!(said.contains(", follows ORDERS"), "{said}");
    succeeds(new_service(&["receipts", "--follows", "payments"]));
    let manifest = Manifest::read(&shop().join("freehold.toml")).expect("it is sound");
    let receipts_port = manifest.services()[1].declared.port.to_string();

    let before = files(&shop());
    for (arguments, cure) in [
        (
            &["payments"][..],
            "payments-service already: choose another name",
        ),
        (
            &["invoices", "--port", &receipts_port],
            "that of receipts-service: choose another one with --port",
        ),
        (
            &["invoices", "--follows", "invoices"],
            "name another one with --follows",
        ),
    ] {
        let said = refused(new_service(arguments));
        assert!(said.contains(cure), "{said}");
    }
    assert!(files(&shop()) == before, "a refusal has changed something");
    succeeds(test_all(&shop()));
}

#[tokio::test]
async fn two_new_services_pass_their_tests_and_one_has_the_data_of_the_other() {
    spawn_blocking(make).await.expect("both are made");
    let program = |name: &str| target().join("debug").join(name);
    let world = World::builder().plays::<OrderEvent>();
    let world = world
        .service(program("payments-service"))
        .service(program("receipts-service"));
    let mut world = world.start().await;
    let (payments, receipts) = (world.api("payments-service"), world.api("receipts-service"));

    let new = json!({"order_id": "01985b3e-90aa-7c31-b0aa-11d05e7fc0de", "reason": "by hand"});
    let payment = payments
        .send("POST".parse().expect("a method"), "/payments", &new)
        .await;
    let of_payment = format!("/receipts?payment_id={}", payment.expect_status(201).id());
    let receipt = eventually("a receipt", seconds(20), async || {
        first(receipts.get(&of_payment).await)
    });
    assert_eq!(receipt.await["payment"]["reason"], "by hand");
    world.check().await;
}

fn first(found: Reply) -> Result<serde_json::Value, String> {
    let receipt = found.body.get(0).cloned();
    receipt.ok_or_else(|| format!("{} {}", found.status, found.body))
}

//! What `cargo xtask new-service` makes in a workspace elsewhere, and what it refuses. `own_service.rs` has those inside this one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use freehold_harness::cargo::cargo;
use freehold_tests::broker::nats_server;
use freehold_tests::{Manifest, binaries, paths};

use crate::own_service::target;

fn new_service(arguments: &[&str], into: &Path) -> Output {
    let programs = binaries::built(paths::workspace(), &["xtask"]).expect("xtask builds");
    let mut xtask = Command::new(programs.join("xtask"));
    let xtask = xtask
        .arg("new-service")
        .args(arguments)
        .arg("--into")
        .arg(into);
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

/// Builds the workspace, and runs the tests of both crates. Offline, so with the versions of this workspace and what is compiled of them.
fn test_all(workspace: &Path) -> Output {
    let broker = nats_server(&|line| println!("{line}")).expect("a broker");
    let mut test = cargo(workspace);
    test.args(["test", "--quiet", "--offline", "--workspace"])
        .env("FREEHOLD_NATS_SERVER", broker.program)
        .env("CARGO_BUILD_BUILD_DIR", target())
        .env("CARGO_INCREMENTAL", "0")
        .env_remove("CARGO_TARGET_DIR");
    test.output().expect("cargo runs")
}

/// As docs/your-own-service.md does it without this repository. Two folders with crates of one name share what cargo builds, and may
/// get the other's, so no other test uses this name, and the folder is always the same.
#[test]
fn a_service_elsewhere_compiles_and_its_own_tests_pass() {
    let shop = target().join("tmp/elsewhere/shop");
    let _none_before = fs::remove_dir_all(&shop);
    succeeds(new_service(&["shipments"], &shop));
    let said = succeeds(test_all(&shop));
    for (passed, of) in [("1 passed", "contract.rs"), ("2 passed", "e2e.rs")] {
        assert!(said.contains(passed), "{of} has run no test: {said}");
    }
}

#[test]
fn a_service_that_cannot_be_made_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = folder.path().join("shop");
    let said = succeeds(new_service(&["payments"], &shop));
    assert!(said.lines().count() <= 10, "{said}");
    assert!(
        said.contains("payments-service") && said.contains("follows ORDERS"),
        "{said}"
    );
    succeeds(new_service(&["receipts", "--follows", "payments"], &shop));
    let made = Manifest::read(&shop.join("freehold.toml")).expect("it is sound");
    let receipts = made.services().last().expect("receipts-service");
    let port_of_receipts = receipts.declared.port.to_string();

    let before = files(folder.path());
    for (arguments, cure) in [
        (
            &["payments"][..],
            "payments-service already: choose another name",
        ),
        (
            &["invoices", "--port", &port_of_receipts],
            "that of receipts-service: choose another one with --port",
        ),
        (
            &["invoices", "--follows", "invoices"],
            "name another one with --follows",
        ),
        (
            &["invoices", "--follows", "receipt"],
            "takes one of orders-service, payments-service, receipts-service",
        ),
        (&["Invoices"], "small letters"),
    ] {
        let said = refused(new_service(arguments, &shop));
        assert!(said.contains(cure), "{said}");
    }
    let said = refused(new_service(
        &["payments"],
        &folder.path().join("shop/payments-events"),
    ));
    assert!(said.contains("choose another folder"), "{said}");
    assert!(
        files(folder.path()) == before,
        "a refusal has changed something"
    );
}

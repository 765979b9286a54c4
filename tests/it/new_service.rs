//! What `cargo xtask new-service` refuses. tests/it/own_service.rs builds and runs what it makes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use freehold_tests::{binaries, paths};

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

#[test]
fn a_service_that_cannot_be_made_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = folder.path().join("shop");
    let said = succeeds(new_service(&["payments"], &shop));
    assert!(said.lines().count() <= 10, "{said}");
    assert!(
        said.contains("payments-service  port 7105, follows ORDERS"),
        "{said}"
    );
    succeeds(new_service(&["receipts", "--follows", "payments"], &shop));

    let before = files(folder.path());
    for (arguments, cure) in [
        (
            &["payments"][..],
            "payments-service already: choose another name",
        ),
        (
            &["invoices", "--port", "7106"],
            "that of receipts-service: choose another one with --port",
        ),
        (
            &["invoices", "--follows", "invoices"],
            "name another one with --follows",
        ),
        (
            &["invoices", "--follows", "receipt"],
            "takes one of payments-service, receipts-service, user-service",
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

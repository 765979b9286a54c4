//! The program itself: what only a whole process shows.

use std::path::Path;
use std::process::Command;

use service_kit::testing::{assert_private, start_and_kill};

#[test]
fn its_files_are_its_users_own() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("orders.db");
    let said = start_and_kill(program(&database).args(["--broker", "nats://127.0.0.1:1"]));
    assert!(said.ready.starts_with("listening on"), "{}", said.log);
    assert!(database.exists());
    assert_private(folder.path());
}

#[test]
fn a_secret_in_the_address_of_the_users_is_refused_and_not_repeated() {
    let refused = program(Path::new("/nowhere/x"))
        .args(["--users-url", "http://a:s3cret@h"])
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("error: --users-url is not valid: "),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
}

fn program(database: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_orders-service"));
    program
        .env_clear()
        .env("FREEHOLD_ORDERS_PASSWORD", "x")
        .env("FREEHOLD_LISTEN", "127.0.0.1:0")
        .env("FREEHOLD_DATABASE", database);
    program
}

//! The program itself: what only a whole process shows.

use std::path::Path;
use std::process::Command;

use service_kit::testing::{assert_private, start_and_kill};

#[test]
fn its_files_are_its_users_own_and_its_log_knows_no_build_machine() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("users.db");
    let said = start_and_kill(program(&database).args(["--broker", "nats://127.0.0.1:1"]));
    assert!(said.ready.starts_with("listening on"), "{}", said.log);
    assert!(database.exists());
    assert_private(folder.path());
    assert!(said.log.contains("started"), "{}", said.log);
    assert!(!said.log.contains("rusqlite_migration"), "{}", said.log);
}

#[test]
fn a_broker_that_cannot_be_is_refused_at_once_and_not_repeated() {
    let folder = tempfile::tempdir().unwrap();
    for broker in ["nats://a:s3cret@h", "nats://:::::"] {
        let database = folder.path().join("users.db");
        let refused = program(&database).args(["--broker", broker]).output();
        let refused = refused.unwrap();
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.starts_with("error: --broker is not valid: "), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains(broker) && !said.contains("s3cret"), "{said}");
        assert!(!database.exists());
    }
    let help = program(Path::new("x"))
        .arg("--help")
        .env("FREEHOLD_BROKER", "nats://a:s3cret@h")
        .output();
    let help = String::from_utf8(help.unwrap().stdout).unwrap();
    assert!(help.contains("FREEHOLD_BROKER") && !help.contains("s3cret"));
}

fn program(database: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_user-service"));
    program
        .env_clear()
        .env("FREEHOLD_USERS_PASSWORD", "x")
        .env("FREEHOLD_LISTEN", "127.0.0.1:0")
        .env("FREEHOLD_DATABASE", database);
    program
}

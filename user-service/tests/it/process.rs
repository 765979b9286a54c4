//! The program itself: what only a whole process shows.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn its_files_are_its_users_own_and_its_log_knows_no_build_machine() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("users.db");
    let mut service = program(&database)
        .args(["--broker", "nats://127.0.0.1:1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let stdout = service.stdout.as_mut().unwrap();
    BufReader::new(stdout).read_line(&mut said).unwrap();
    service.kill().unwrap();
    let mut log = String::new();
    let mut stderr = service.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    service.wait().unwrap();

    assert!(said.starts_with("listening on"), "{said}{log}");
    for entry in folder.path().read_dir().unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{entry:?} is {mode:o}");
    }
    assert!(database.exists());
    assert!(log.contains("started"), "{log}");
    assert!(!log.contains("rusqlite_migration"), "{log}");
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

//! The program as a process of its own.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use relay::database::Gate;
use relay::{Database, Keys, Options};
use serde_json::{Value, json};
use service_kit::testing::{Ended, assert_private, rows, run, start, start_and_kill};

use crate::world::{World, database};
use user_service::MIGRATIONS;

#[test]
fn its_files_are_private_and_its_log_names_no_build_machine() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("users.db");
    let service = start(program(&database).args(["--broker", "nats://127.0.0.1:1"]));
    assert!(
        service.ready.starts_with("listening on"),
        "{}",
        service.ready
    );
    assert!(database.exists());
    assert_private(folder.path());
    let log = service.stop().err; // a kill could come before its last lines
    assert!(log.contains("started"), "{log}");
    assert!(!log.contains("rusqlite_migration"), "{log}");
}

#[test]
fn an_impossible_broker_address_is_refused_at_once_and_not_quoted() {
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

#[test]
fn the_key_file_is_next_to_the_database_or_where_the_setting_says() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("users.db");
    let said = start_and_kill(&mut program(&database));
    let beside = folder.path().join("users.db.keys");
    let keys = std::fs::read(&beside).unwrap();
    assert!(!said.log.contains("key file"), "{}", said.log);

    // Nothing is sealed yet, so another file will do.
    let elsewhere = folder.path().join("safe.keys");
    start_and_kill(program(&database).arg("--keys").arg(&elsewhere));
    assert_ne!(std::fs::read(&elsewhere).unwrap(), keys);

    let said = start_and_kill(program(&database).env("FREEHOLD_USERS_KEYS", beside));
    assert!(!said.log.contains("key file"), "{}", said.log);
    assert_private(folder.path());
}

#[tokio::test]
async fn an_operator_can_open_an_older_copy_without_its_stream_and_the_audit_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    database(folder.path()).await.close().await;
    let lock = folder.path().join("users.db.lock");
    let path = folder.path().join("users.db");
    let flag = "FREEHOLD_OPEN_WITHOUT_STREAM";
    for (open, action) in [("false", "marked"), ("true", "mark cleared")] {
        std::fs::remove_file(&lock).unwrap();
        start_and_kill(program(&path).env(flag, open));
        let db = database(folder.path()).await;
        assert_eq!(db.gate() == Gate::Open, open == "true");
        let audit = rows(&db, "select action from relay_audit").await;
        assert_eq!(audit.last().unwrap(), &[action.to_owned().into()]);
        db.close().await;
    }
    let refused = program(&path).env(flag, "perhaps").output().unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
}

#[test]
fn the_log_line_of_a_request_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let started = start(&mut program(&folder.path().join("users.db")));
    let address = started.ready.trim().strip_prefix("listening on http://");
    let mut client = TcpStream::connect(address.unwrap()).unwrap();
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let ask = format!(
        "GET /problems HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nx-request-id: r-1\r\ntraceparent: 00-{trace_id}-00f067aa0ba902b7-01\r\n\r\n"
    );
    client.write_all(ask.as_bytes()).unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let log = started.stop().err;
    let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
    let mut answered = lines.filter(|line: &Value| line["message"] == "answered");
    let line = answered.next().unwrap();
    assert_eq!(line["span"]["request_id"], "r-1", "{line}");
    assert_eq!(line["span"]["trace_id"], trace_id, "{line}");
}

/// As the previous version left it: its addresses differ in more than ASCII case, and a name has an invisible character.
#[tokio::test]
async fn an_older_file_with_two_users_of_one_mailbox_is_opened_and_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("users.db");
    let keys = Keys::open_or_create(&folder.path().join("users.db.keys")).unwrap();
    let older = Options::new("user-service", "USERS", &MIGRATIONS[..2]).keys(keys);
    let older = Database::open(&path, older).await.unwrap();
    let users = "insert into users (id, name, email, version) values
        ('0191d1a0-0000-7000-8000-000000000001', 'Be\u{200b}a', 'bea@münchen.example', 1),
        ('0191d1a0-0000-7000-8000-000000000002', 'Bea', 'bea@MÜNCHEN.example', 1),
        ('0191d1a0-0000-7000-8000-000000000003', 'Ada', 'ada@example.org', 1)";
    let write = older.write(move |tx| tx.execute(users, []));
    write.await.unwrap();
    older.close().await;

    for _ in 0..2 {
        let log = start_and_kill(&mut program(&path)).log;
        let warnings: Vec<&str> = log
            .lines()
            .filter(|line| line.contains("share a mailbox"))
            .collect();
        let [warning] = warnings[..] else {
            panic!("{log}")
        };
        assert!(
            warning.contains("8000-000000000001") && warning.contains("8000-000000000002"),
            "{warning}"
        );
        assert!(
            !warning.contains("8000-000000000003") && !log.contains("bea@"),
            "{log}"
        );
    }
    let world = World::of(folder).await;
    let refused = world.register("Bea", "bea@xn--mnchen-3ya.example").await;
    assert_eq!(refused.problem(), "409 email_taken");
    let [first, second] = [1, 2].map(|n| format!("/users/0191d1a0-0000-7000-8000-00000000000{n}"));
    assert_eq!(world.api.get(&first).await.json()["name"], "Be\u{200b}a");
    let renamed = world
        .api
        .json("PATCH", &second, json!({"name": "Beatrix"}))
        .await;
    assert_eq!(renamed.status, 200, "{renamed:?}");
    let moved = world
        .api
        .json(
            "PATCH",
            &second,
            json!({"email": "beatrix@münchen.example"}),
        )
        .await;
    assert_eq!(moved.status, 200, "{moved:?}");
    world.db.close().await;
    let log = start_and_kill(&mut program(&world.folder.path().join("users.db"))).log;
    assert!(!log.contains("share a mailbox"), "{log}");
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

#[test]
fn a_token_is_created_and_revoked_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("users.db");
    let running = start(program(&database).args(["--broker", "nats://127.0.0.1:1"]));
    let address = running
        .ready
        .trim()
        .trim_start_matches("listening on http://");
    assert_eq!(status(address, ""), 401);

    let made = token(
        &database,
        &["new", "operator", "ada", "--expires-days", "30"],
    );
    assert_eq!(made.code, Some(0), "{made:?}");
    assert!(made.err.contains("shown this once"), "{made:?}");
    let secret = made.out.trim().to_owned();
    assert!(secret.starts_with("fho_") && secret.len() == 36, "{made:?}");
    until_status(address, &secret, 200);
    assert_private(folder.path());
    let kept = std::fs::read_to_string(folder.path().join("users.db.access")).unwrap();
    assert!(kept.starts_with("operator ada sha256:") && !kept.contains(&secret));

    let second = token(&database, &["new", "operator", "ada"]);
    assert_eq!(second.code, Some(1), "{second:?}");
    assert!(second.err.contains("has a token already"), "{second:?}");
    let service = token(&database, &["new", "service", "ada", "--json"]);
    let secret_of_service = service.json()["token"].as_str().unwrap().to_owned();
    until_status(address, &secret_of_service, 200);
    let listed = token(&database, &["list", "--json"]).json();
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
    assert!(!listed.to_string().contains("sha256"), "{listed}");

    let planned = token(&database, &["revoke", "operator", "ada", "--dry-run"]);
    assert!(planned.out.contains("would revoke"), "{planned:?}");
    let revoked = token(&database, &["revoke", "operator", "ada"]);
    assert_eq!(revoked.code, Some(0), "{revoked:?}");
    until_status(address, &secret, 401);
    assert_eq!(status(address, &secret_of_service), 200);
    let again = token(&database, &["revoke", "operator", "ada"]);
    assert_eq!(again.code, Some(1), "{again:?}");
    assert!(again.err.contains("has no token"), "{again:?}");
}

#[test]
fn a_damaged_access_file_is_refused_before_the_database_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("users.db");
    let access = folder.path().join("elsewhere");
    std::fs::write(&access, "# people\noperator ada secret\n").unwrap();
    let refused = run(program(&database).arg("--access").arg(&access));
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused
            .err
            .contains("elsewhere is damaged: line 2: expected `sha256:`"),
        "{refused:?}"
    );
    assert!(!database.exists());
}

fn token(database: &Path, words: &[&str]) -> Ended {
    run(program(database).arg("token").args(words))
}

/// The status of `GET /users` with this token.
fn status(address: &str, token: &str) -> u16 {
    let mut socket = TcpStream::connect(address).unwrap();
    let authorization = match token {
        "" => String::new(),
        token => format!("authorization: Bearer {token}\r\n"),
    };
    let head = format!(
        "GET /users HTTP/1.1\r\nhost: localhost\r\n{authorization}connection: close\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn until_status(address: &str, token: &str, wanted: u16) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while status(address, token) != wanted {
        assert!(Instant::now() < deadline, "{wanted} does not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

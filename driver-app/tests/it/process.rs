//! The program as a process of its own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use driver_app::sync::Step;
use serde_json::json;
use service_kit::testing::{assert_private, start, start_and_kill};

use crate::world::World;

#[test]
fn its_files_are_private_and_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("device.db");
    for _ in 0..2 {
        let said = start_and_kill(&mut program(&database, "http://127.0.0.1:1"));
        assert!(said.ready.starts_with("listening on"), "{}", said.log);
    }
    assert!(database.exists());
    assert_private(folder.path());
}

#[test]
fn it_stops_cleanly_although_no_owner_replies() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("device.db");
    let started = start(&mut program(&database, "http://127.0.0.1:1"));
    assert_eq!(started.stop().code, Some(0));
    assert!(!folder.path().join("device.db-wal").exists());
}

#[test]
fn it_stops_although_the_owner_holds_an_enrolment() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let started = start(&mut program(&folder.path().join("device.db"), &url));
    let address = started.ready.trim().strip_prefix("listening on http://");
    let mut page = TcpStream::connect(address.unwrap()).unwrap();
    let body = r#"{"code":"ABCD-EFGH-JKMN"}"#;
    let ask = format!(
        "POST /api/enrol HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    page.write_all(ask.as_bytes()).unwrap();
    let (_asked, _) = silent.accept().unwrap();
    let began = Instant::now();
    assert_eq!(started.stop().code, Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    let mut answer = String::new();
    page.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("shutting_down"), "{answer}");
}

#[test]
fn only_this_device_can_reach_it_and_secrets_are_not_quoted() {
    let mut open = program(Path::new("/nowhere/x"), "http://127.0.0.1:1");
    let refused = open.args(["--listen", "0.0.0.0:7103"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let refused = program(Path::new("/nowhere/x"), "http://a:s3cret@h")
        .output()
        .unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("error: --orders-url is not valid: "),
        "{said}"
    );
    assert!(!said.contains("s3cret"), "{said}");
}

/// Runs the program, and kills it.
#[tokio::test(flavor = "multi_thread")]
async fn a_kill_right_after_the_owner_decided_does_nothing_twice() {
    let (mut world, [order]) = World::with_deliveries().await;
    let intent = world.picks_up(order).await;
    world.owner.fail(crate::owner::Fault::Drop);
    assert!(matches!(world.up().await, Step::Wait(_)));
    world.close().await;
    let (database, url) = (world.path.clone(), world.url.clone());
    let (owner, id) = (world.owner.clone(), intent.parse().unwrap());
    let started = tokio::task::spawn_blocking(move || start(&mut program(&database, &url)))
        .await
        .unwrap();
    let sent = async {
        while !owner.truth().judged.contains_key(&id) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), sent)
        .await
        .unwrap();
    drop(started); // a kill, before or after the verdict is recorded
    world.open().await;
    world.sync().await;
    assert_eq!(world.effects(&intent), 1);
    assert_eq!(world.delivery(order).await["pending"], json!([]));
}

fn program(database: &Path, orders_url: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_driver-app"));
    program
        .env_clear()
        .env("FREEHOLD_LISTEN", "127.0.0.1:0")
        .env("FREEHOLD_DATABASE", database)
        .env("FREEHOLD_ORDERS_URL", orders_url);
    program
}

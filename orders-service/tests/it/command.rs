//! The commands of an operator, as the program it is, without a broker and beside a user-service made up for it.

use std::path::Path;
use std::process::Command;

use axum::Router;
use axum::http::{HeaderMap, StatusCode, header};
use axum::routing::get;
use event_schema::UserId;
use orders_service::service;
use relay::Database;
use relay::environment::System;
use relay::event::EventId;
use relay::log::Position;
use serde_json::json;
use service_kit::testing::{Ended, rows, run, start};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::spawn_blocking;

use crate::world::database;

const CONSUMER: &str = "orders-user-cache";
const TOKEN: &str = "what-user-service-wants";
const ADA: &str = "01985b3e-7c00-7a10-9d52-3f0c5a1be001";
const BOB: &str = "01985b3e-7c00-7a10-9d52-3f0c5a1be002";

#[tokio::test]
async fn dead_letters_are_listed_retried_and_dropped_while_no_service_runs() {
    let home = Home::with_letters().await;
    see(&home).await;
    let would = home
        .run(&[
            "dead-letter",
            "retry",
            ADA,
            "--consumer",
            CONSUMER,
            "--dry-run",
        ])
        .await;
    assert_eq!(would.code, Some(0), "{would:?}");
    assert!(
        would.out.contains("would try  1 event, in this order\n"),
        "{would:?}"
    );
    see(&home).await;
    decide(&home).await;
    assert_eq!(home.cached().await, [ADA]);
}

#[tokio::test]
async fn dead_letters_are_seen_let_back_in_and_given_up_while_the_service_runs() {
    let home = Home::with_letters().await;
    let mut program = home.program();
    let service = spawn_blocking(move || start(&mut program)).await.unwrap();
    see(&home).await;
    decide(&home).await;
    assert_eq!(
        spawn_blocking(|| service.stop()).await.unwrap().code,
        Some(0)
    );
    assert_eq!(home.cached().await, [ADA]);
}

#[tokio::test]
async fn broker_config_prints_the_account_file_that_nats_conf_includes() {
    let home = Home {
        folder: tempfile::tempdir().unwrap(),
        users_url: "http://127.0.0.1:1".to_owned(),
    };
    let printed = home.run(&["broker-config"]).await;
    assert_eq!(printed.code, Some(0), "{printed:?}");
    assert_eq!(printed.out, include_str!("../../nats-account.conf"));
}

/// A good event of Ada, a dead one of Bob and a parked one behind it.
async fn see(home: &Home) {
    let listed = home
        .run(&["dead-letter", "list", "--consumer", CONSUMER])
        .await;
    assert_eq!(listed.code, Some(0), "{listed:?}");
    for start in ["1  dead  20", "2  dead  20", "3  parked  20"] {
        assert!(
            listed.out.lines().any(|line| line.starts_with(start)),
            "{start} {listed:?}"
        );
    }
    let listed = home
        .run(&[
            "dead-letter",
            "list",
            "--consumer",
            CONSUMER,
            "--limit",
            "2",
            "--json",
        ])
        .await
        .json();
    assert_eq!(listed["letters"].as_array().unwrap().len(), 2);
    let shown = home
        .run(&["dead-letter", "show", "1", "--consumer", CONSUMER])
        .await;
    assert!(
        shown.out.contains("envelope  {\"specversion\":\"1.0\""),
        "{shown:?}"
    );
    assert!(shown.out.contains("key       01985b3e-"), "{shown:?}");
    let status = home.run(&["status", "--json"]).await;
    assert_eq!(
        (status.code, &status.json()["dead_letters"]),
        (Some(3), &json!(3))
    );
}

async fn decide(home: &Home) {
    for (command, why) in [
        (
            &["dead-letter", "show", "9", "--consumer", CONSUMER][..],
            "has no dead or parked event 9",
        ),
        (
            &["dead-letter", "retry", "unknown", "--consumer", CONSUMER],
            "has no dead or parked event of unknown",
        ),
        (
            &[
                "dead-letter",
                "discard",
                "3",
                "--note",
                "n",
                "--consumer",
                CONSUMER,
            ],
            "is parked behind a dead event of",
        ),
        (
            &["dead-letter", "retry", ADA],
            "say which one with --consumer: orders-user-cache, orders-of-deleted-users",
        ),
        (
            &["dead-letter", "list", "--consumer", "x"],
            "has no consumer x; it has orders-user-cache",
        ),
    ] {
        let refused = home.run(command).await;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains(why), "{refused:?}");
    }
    let back = home
        .run(&["dead-letter", "retry", ADA, "--consumer", CONSUMER])
        .await;
    assert_eq!(
        (back.code, &*back.out),
        (Some(0), "applied  1 event\n"),
        "{back:?}"
    );
    let again = home
        .run(&["dead-letter", "retry", BOB, "--consumer", CONSUMER])
        .await;
    assert_eq!(again.code, Some(3), "{again:?}");
    assert!(again.out.contains("stopped at  event 2: "), "{again:?}");
    let given_up = home
        .run(&[
            "dead-letter",
            "discard",
            "2",
            "--consumer",
            CONSUMER,
            "--note",
            "it is nonsense",
        ])
        .await;
    assert_eq!(
        given_up.code,
        Some(3),
        "the next of Bob is nonsense, too: {given_up:?}"
    );
    assert!(
        given_up
            .out
            .contains("discarded   event 2; its bytes are in the audit table\n"),
        "{given_up:?}"
    );
    let given_up = home
        .run(&[
            "dead-letter",
            "discard",
            "3",
            "--consumer",
            CONSUMER,
            "--note",
            "as well",
            "--json",
        ])
        .await;
    assert_eq!(given_up.json(), json!({"applied": 0, "stopped_at": null}));
    let listed = home
        .run(&["dead-letter", "list", "--consumer", CONSUMER])
        .await;
    assert_eq!(listed.out, "orders-user-cache  no dead or parked events\n");
}

#[tokio::test]
async fn a_cache_is_rebuilt_while_no_service_runs_and_then_equals_its_producer() {
    let home = Home::with_letters().await;
    let would = home.run(&["rebuild", CONSUMER, "--dry-run"]).await;
    assert_eq!(would.code, Some(0), "{would:?}");
    assert!(would.out.contains("it is at    nothing\n"), "{would:?}");
    assert!(home.cached().await.is_empty());

    let loaded = home.run(&["rebuild", CONSUMER]).await;
    assert_eq!(loaded.code, Some(0), "{loaded:?}");
    assert!(
        loaded.out.contains("it is at  7\nrows      2\n"),
        "{loaded:?}"
    );
    assert_eq!(home.cached().await, [ADA, BOB]);
    let verified = home.run(&["verify"]).await;
    assert_eq!(verified.code, Some(4), "{verified:?}");
    assert!(
        verified
            .out
            .contains("cache orders-user-cache  equal, 2 rows compared\n"),
        "{verified:?}"
    );
    let why = "a reaction keeps no copy that could differ";
    assert!(
        !verified.out.contains("deleted-users"),
        "{why}: {verified:?}"
    );

    home.rename_in_cache().await;
    let differs = home.run(&["verify"]).await;
    assert_eq!(differs.code, Some(3), "{differs:?}");
    assert!(
        differs.out.contains("cache orders-user-cache  differs: "),
        "{differs:?}"
    );
}

#[tokio::test]
async fn a_running_service_rebuilds_a_cache() {
    let home = Home::with_letters().await;
    let mut program = home.program();
    let service = spawn_blocking(move || start(&mut program)).await.unwrap();
    let loaded = home.run(&["rebuild", CONSUMER, "--json"]).await;
    let said = json!({"done": true, "consumer": CONSUMER, "offset": 7});
    assert_eq!((loaded.code, loaded.json()), (Some(0), said));
    assert_eq!(
        spawn_blocking(|| service.stop()).await.unwrap().code,
        Some(0)
    );
    assert_eq!(home.cached().await, [ADA, BOB]);
}

#[tokio::test]
async fn a_producer_that_cannot_be_asked_is_named_with_the_cure() {
    let home = Home::with_letters().await;
    for (token, why) in [
        ("", "set the producer's address and read token"),
        (
            "another-secret-altogether",
            "give both the same FREEHOLD_USERS_READ_TOKEN",
        ),
    ] {
        let mut program = home.program();
        program
            .env("FREEHOLD_USERS_READ_TOKEN", token)
            .args(["rebuild", CONSUMER]);
        let refused = spawn_blocking(move || run(&mut program)).await.unwrap();
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.err.contains(why), "{refused:?}");
    }
    let mut program = home.program();
    program
        .env("FREEHOLD_USERS_URL", "http://127.0.0.1:1")
        .args(["rebuild", CONSUMER]);
    let refused = spawn_blocking(move || run(&mut program)).await.unwrap();
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("does not answer"), "{refused:?}");
    assert!(home.cached().await.is_empty());
}

#[tokio::test]
async fn a_fresh_key_joins_the_one_that_sealed_the_devices_tokens() {
    let home = Home::with_letters().await;
    let looked = home.run(&["rotate-key", "--dry-run", "--json"]).await;
    let rotated = home.run(&["rotate-key", "--json"]).await.json();
    assert_eq!(looked.json()["keys"].as_array().unwrap().len(), 1);
    assert_eq!(rotated["keys"].as_array().unwrap().len(), 2);
    assert_eq!(rotated["keys"][0], looked.json()["keys"][0]);
}

struct Home {
    folder: TempDir,
    users_url: String,
}

impl Home {
    async fn with_letters() -> Self {
        let home = Self {
            folder: tempfile::tempdir().unwrap(),
            users_url: user_service().await,
        };
        let db = home.database().await;
        let write = db.write(|tx| {
            for (seq, key, state) in [(1, ADA, "dead"), (2, BOB, "dead"), (3, BOB, "parked")] {
                let envelope = envelope(seq, key);
                tx.execute(
                    "insert into relay_dead_letter
                       (consumer, seq, event_id, key, event_type, state, reason, attempts, since_ms, envelope)
                     values (?1, ?2, ?3, ?4, 'users.created.v1', ?5, 'planted', 1, 1700000000000, ?6)",
                    (CONSUMER, seq, EventId::draw(&System), key, state, envelope),
                )?;
            }
            Ok::<_, relay::rusqlite::Error>(())
        });
        write.await.unwrap();
        db.close().await;
        home
    }

    async fn database(&self) -> Database {
        database(self.folder.path(), service().options()).await
    }

    async fn cached(&self) -> Vec<String> {
        let db = self.database().await;
        let found = rows(&db, "select id from user_cache order by id").await;
        db.close().await;
        let text = |row: &Vec<relay::rusqlite::types::Value>| match &row[0] {
            relay::rusqlite::types::Value::Text(id) => id.clone(),
            other => panic!("{other:?}"),
        };
        found.iter().map(text).collect()
    }

    async fn rename_in_cache(&self) {
        let db = self.database().await;
        let write =
            db.write(|tx| tx.execute("update user_cache set name = 'X' where id = ?1", [ADA]));
        write.await.unwrap();
        db.close().await;
    }

    fn program(&self) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_orders-service"));
        program
            .env_clear()
            .env("FREEHOLD_ORDERS_PASSWORD", "x")
            .env("FREEHOLD_BROKER", "nats://127.0.0.1:1")
            .env("FREEHOLD_LISTEN", "127.0.0.1:0")
            .env("FREEHOLD_USERS_URL", &self.users_url)
            .env("FREEHOLD_USERS_READ_TOKEN", TOKEN)
            .env("FREEHOLD_DATABASE", self.folder.path().join("orders.db"));
        program
    }

    /// On another thread: the made-up user-service must be able to answer meanwhile.
    async fn run(&self, command: &[&str]) -> Ended {
        let mut program = self.program();
        program.args(command);
        spawn_blocking(move || run(&mut program)).await.unwrap()
    }
}

/// Ada's can be read; Bob's lack a name.
fn envelope(seq: u64, key: &str) -> Vec<u8> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../event-schema/fixtures");
    let recorded = std::fs::read_to_string(fixtures.join("users.created.v1.json")).unwrap();
    let recorded = recorded.replace("00000000000000000001", &format!("{seq:020}"));
    let recorded = recorded.replace(ADA, key);
    match key {
        ADA => recorded.into(),
        _ => recorded.replace("\"name\"", "\"nickname\"").into(),
    }
}

/// Shares Ada and Bob as of event 7, with callers that have the token.
async fn user_service() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let at = Position {
        seq: 7,
        id: EventId::draw(&System),
    };
    let answer = move |headers: HeaderMap| async move {
        let sent = headers
            .get(header::AUTHORIZATION)
            .and_then(|sent| sent.to_str().ok());
        if sent != Some(&format!("Bearer {TOKEN}")) {
            return (StatusCode::UNAUTHORIZED, String::new());
        }
        let row = |id: &str, name: &str| {
            let user_id: UserId = id.parse().unwrap();
            // Field by field, in the order of the contract.
            format!("{{\"row\":{{\"user_id\":\"{user_id}\",\"name\":\"{name}\",\"version\":1}}}}")
        };
        let lines = [
            json!({"position": {"stream": "USERS", "epoch": 1, "at": at, "holds": null}})
                .to_string(),
            row(ADA, "Ada"),
            row(BOB, "Bob"),
            json!({"end": {"rows": 2}}).to_string(),
        ];
        (StatusCode::OK, lines.map(|line| line + "\n").concat())
    };
    let routes = Router::new().route("/snapshot", get(answer));
    tokio::spawn(async { axum::serve(listener, routes).await });
    url
}

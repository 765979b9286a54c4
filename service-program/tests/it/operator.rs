//! What a running service does for its operator, through the admin socket next to its database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use relay::publish::Answers;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Options, Received, Relay};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_program::Parts;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use crate::serve::{Running, read_to_end, within_a_minute};
use crate::{database, kit};

#[tokio::test]
async fn the_socket_is_its_users_own_and_is_removed_with_the_service() {
    let (db, folder) = database().await;
    let running = Running::start(Parts::new(&db), kit(Router::new())).await;
    let admin = Admin(folder.path().join("kit.db.admin"));
    let state = admin.ask("GET", "state", "").await;
    assert!(state.contains("\"refuses_writes\":null"), "{state}");
    let mode = fs::metadata(&admin.0).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut client = running.connect().await;
    let asks = b"GET /state HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    client.write_all(asks).await.unwrap();
    let refused = read_to_end(&mut client).await;
    assert!(refused.starts_with("HTTP/1.1 40"), "{refused}");
    running.stop.cancel();
    running.ended().await;
    assert!(!admin.0.exists());
}

#[tokio::test]
async fn a_dead_letter_is_retried_or_discarded_by_the_running_service() {
    let world = World::start().await;
    world.emit(&["a", "b", "a"]).await;
    world.until("\"offset\":3").await;

    let unknown = world
        .admin
        .ask("POST", "consumers/x/retry", r#"{"key":"a"}"#)
        .await;
    assert!(unknown.starts_with("HTTP/1.1 404 ") && unknown.contains("consumer_not_found"));
    let again = world
        .admin
        .ask("POST", "consumers/kit-words/retry", r#"{"key":"a"}"#)
        .await;
    assert!(
        again.ends_with(r#"{"applied":0,"stopped_at":[1,"it will not"]}"#),
        "{again}"
    );
    let other = world
        .admin
        .ask(
            "POST",
            "consumers/kit-words/discard",
            r#"{"seq":3,"note":"n"}"#,
        )
        .await;
    assert!(
        other.starts_with("HTTP/1.1 404 ") && other.contains("letter_not_found"),
        "{other}"
    );

    let given_up = world
        .admin
        .ask(
            "POST",
            "consumers/kit-words/discard",
            r#"{"seq":2,"note":"n"}"#,
        )
        .await;
    assert!(
        given_up.ends_with(r#"{"applied":0,"stopped_at":null}"#),
        "{given_up}"
    );
    world.refuses.store(false, Ordering::Relaxed);
    let cured = world
        .admin
        .ask("POST", "consumers/kit-words/retry", r#"{"key":"a"}"#)
        .await;
    assert!(
        cured.ends_with(r#"{"applied":2,"stopped_at":null}"#),
        "{cured}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_cache_is_reloaded_by_the_running_service() {
    let world = World::start().await;
    world.refuses.store(false, Ordering::Relaxed);
    world.emit(&["a", "b"]).await;
    world.until("\"offset\":2").await;
    let before = world
        .admin
        .ask("POST", "consumers/kit-words/rebuild", "{}")
        .await;
    assert!(before.contains("\"rebuilt\":0"), "{before}");
    world.until("\"rebuilt\":1").await;
    let mut client = world.running.connect().await;
    let asks = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    client.write_all(asks).await.unwrap();
    let metrics = read_to_end(&mut client).await;
    for line in [
        "freehold_consumer_rebuilt_total{consumer=\"kit-words\"} 1",
        "freehold_consumer_snapshot_rows{consumer=\"kit-words\"} 0",
        "freehold_set_aside 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    world.stop().await;
}

/// A client of the socket.
struct Admin(PathBuf);

impl Admin {
    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let length = body.len();
        let request = format!(
            "{method} /{path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let connected = async {
            loop {
                if let Ok(client) = UnixStream::connect(&self.0).await {
                    return client;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let mut client = within_a_minute(connected).await;
        client.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut client).await
    }
}

/// A producer, its stream in memory, and a service that applies it.
struct World {
    producer: Database,
    running: Running,
    admin: Admin,
    /// Whether the consumer refuses what comes.
    refuses: Arc<AtomicBool>,
    publishing: tokio::task::JoinHandle<Result<(), relay::error::Fatal>>,
    stop: relay::Stop,
    _folders: [tempfile::TempDir; 2],
}

impl World {
    async fn start() -> Self {
        let (producer, folder) = database().await;
        let (broker, stop) = (MemoryBroker::new(1), relay::Stop::new());
        let publishing = tokio::spawn(Relay::new(&producer, broker.clone()).run(stop.clone()));
        let refuses = Arc::new(AtomicBool::new(true));
        let consumer =
            consumer(refuses.clone()).asks(Arc::new(Answers::new(&producer, |_, _| Ok(()))));
        let home = tempfile::tempdir().unwrap();
        let path: PathBuf = home.path().join("reader.db");
        let db = Database::open(&path, Options::new("reader", "READER", &[]))
            .await
            .unwrap();
        let service = Parts::new(&db).apply(consumer, broker);
        let running = Running::start(service, kit(Router::new())).await;
        Self {
            producer,
            running,
            admin: Admin(home.path().join("reader.db.admin")),
            refuses,
            publishing,
            stop,
            _folders: [folder, home],
        }
    }

    /// One event of each key, in one transaction.
    async fn emit(&self, keys: &'static [&'static str]) {
        let write = self.producer.write(move |tx| {
            for key in keys {
                let key = (*key).to_owned();
                tx.emit(&KitEvent::Said(Said { key }))?;
            }
            Ok::<_, relay::EmitError>(())
        });
        write.await.unwrap();
    }

    async fn until(&self, state: &str) {
        let reached = async {
            while !self.admin.ask("GET", "state", "").await.contains(state) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        within_a_minute(reached).await;
    }

    async fn stop(self) {
        self.running.stop.cancel();
        self.running.ended().await;
        self.stop.cancel();
        self.publishing.await.unwrap().unwrap();
    }
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Said {
    key: String,
}

relay::events! {
    enum KitEvent on "KIT" { "kit.said.v1" => Said(Said) about key }
}

fn consumer(refuses: Arc<AtomicBool>) -> Consumer {
    let consumer =
        Consumer::projection("kit-words", move |_, _: &Received<KitEvent>| match refuses
            .load(Ordering::Relaxed)
        {
            true => Err(ApplyError::Rejected("it will not".to_owned())),
            false => Ok(()),
        });
    consumer.loads::<Value>(&[], |_, _| Ok(()), |_, _| Ok(()))
}

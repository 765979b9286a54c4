//! What a running service does for its operator, through the door beside its database.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use relay::memory::MemoryBroker;
use relay::{Answers, ApplyError, Consumer, Database, NewEvent, Options, Relay};
use serde_json::{Value, json};
use service_kit::Service;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::serve::{Running, read_to_end, within_a_minute};
use crate::{database, kit};

#[tokio::test]
async fn the_door_lets_in_who_can_read_its_file_and_closes_with_the_service() {
    let (db, folder) = database().await;
    let running = Running::start(Service::new(&db), kit(Router::new())).await;
    let file = folder.path().join("kit.db.door");
    let door = Door::read(&file).await;
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(door.url, format!("http://{}", running.address));

    let state = door.ask("GET", "state", "").await;
    assert!(state.contains("\"refuses_writes\":null"), "{state}");
    let stranger = Door {
        token: "0".repeat(32),
        ..door
    };
    for (method, path) in [
        ("GET", "state"),
        ("POST", "consumers/a/rebuild"),
        ("POST", "consumers/a/retry"),
    ] {
        let refused = stranger.ask(method, path, "{}").await;
        assert!(refused.starts_with("HTTP/1.1 401 "), "{path} {refused}");
    }
    running.stop.cancel();
    running.ended().await;
    assert!(!file.exists());
}

#[tokio::test]
async fn a_dead_letter_is_let_back_in_or_given_up_by_the_running_service() {
    let world = World::start().await;
    world.emit(&["a", "b", "a"]).await;
    world.until("\"offset\":3").await;

    let nobody = world
        .door
        .ask("POST", "consumers/x/retry", r#"{"key":"a"}"#)
        .await;
    assert!(nobody.starts_with("HTTP/1.1 404 ") && nobody.contains("consumer_not_found"));
    let again = world
        .door
        .ask("POST", "consumers/kit-words/retry", r#"{"key":"a"}"#)
        .await;
    assert!(
        again.ends_with(r#"{"applied":0,"stopped_at":[1,"it will not"]}"#),
        "{again}"
    );
    let other = world
        .door
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
        .door
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
        .door
        .ask("POST", "consumers/kit-words/retry", r#"{"key":"a"}"#)
        .await;
    assert!(
        cured.ends_with(r#"{"applied":2,"stopped_at":null}"#),
        "{cured}"
    );
    world.stop().await;
}

#[tokio::test]
async fn a_cache_is_loaded_anew_by_the_running_service() {
    let world = World::start().await;
    world.refuses.store(false, Ordering::Relaxed);
    world.emit(&["a", "b"]).await;
    world.until("\"offset\":2").await;
    let before = world
        .door
        .ask("POST", "consumers/kit-words/rebuild", "{}")
        .await;
    assert!(before.contains("\"rebuilt\":0"), "{before}");
    world.until("\"rebuilt\":1").await;
    let metrics = world.door.ask("GET", "../metrics", "").await;
    for line in [
        "freehold_consumer_rebuilt_total{consumer=\"kit-words\"} 1",
        "freehold_consumer_snapshot_rows{consumer=\"kit-words\"} 0",
        "freehold_set_aside 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    world.stop().await;
}

/// The file, read.
struct Door {
    url: String,
    token: String,
}

impl Door {
    async fn read(file: &Path) -> Self {
        let written = async {
            loop {
                if let Ok(text) = fs::read(file) {
                    return serde_json::from_slice::<Value>(&text).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let door = within_a_minute(written).await;
        let text = |name: &str| door[name].as_str().unwrap().to_owned();
        Self {
            url: text("url"),
            token: text("token"),
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let (token, length) = (&self.token, body.len());
        let path = match path.strip_prefix("../") {
            Some(path) => format!("/{path}"),
            None => format!("/operator/{path}"),
        };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        let address = self.url.strip_prefix("http://").unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut client).await
    }
}

/// A producer, its stream in memory, and a service that applies it.
struct World {
    producer: Database,
    running: Running,
    door: Door,
    /// Whether the consumer refuses what comes.
    refuses: Arc<AtomicBool>,
    publishing: tokio::task::JoinHandle<Result<(), relay::Fatal>>,
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
        let service = Service::new(&db).apply(consumer, broker);
        let running = Running::start(service, kit(Router::new())).await;
        Self {
            producer,
            running,
            door: Door::read(&home.path().join("reader.db.door")).await,
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
                tx.emit(NewEvent {
                    event_type: "kit.said.v1",
                    aggregate: (*key).to_owned(),
                    data: &json!({}),
                    sealed: None,
                    decode: |_, data| serde_json::from_slice(data).map(Some),
                })?;
            }
            Ok::<_, relay::EmitError>(())
        });
        write.await.unwrap();
    }

    async fn until(&self, state: &str) {
        let reached = async {
            while !self.door.ask("GET", "state", "").await.contains(state) {
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

fn consumer(refuses: Arc<AtomicBool>) -> Consumer {
    let decode = |_: &str, data: &[u8]| serde_json::from_slice::<Value>(data).map(Some);
    let consumer = Consumer::projection("kit-words", "KIT", decode, move |_, _| {
        match refuses.load(Ordering::Relaxed) {
            true => Err(ApplyError::Rejected("it will not".to_owned())),
            false => Ok(()),
        }
    });
    consumer.loads::<Value>(&[], |_, _| Ok(()), |_, _| Ok(()))
}

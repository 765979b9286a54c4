//! user-service on a real file.

use std::path::Path;
use std::time::Duration;

use event_schema::{Event, UserEvent};
use relay::event::Envelope;
use relay::log::{Log, Record};
use relay::{Database, Keys, rusqlite};
use serde_json::{Value, json};
use service_kit::Monitor;
use service_kit::testing::{Answer, TestApi};
use user_service::{http, service};

pub struct World {
    pub api: TestApi,
    pub db: Database,
    pub folder: tempfile::TempDir,
}

/// The database of a folder, with the keys beside it.
pub async fn database(folder: &Path) -> Database {
    let keys = Keys::open_or_create(&folder.join("users.db.keys")).unwrap();
    let path = folder.join("users.db");
    Database::open(path, service().options().keys(keys))
        .await
        .unwrap()
}

impl World {
    pub async fn start() -> Self {
        Self::of(tempfile::tempdir().unwrap()).await
    }

    /// The same file, opened again.
    pub async fn reopened(self) -> Self {
        self.db.close().await;
        Self::of(self.folder).await
    }

    pub async fn of(folder: tempfile::TempDir) -> Self {
        let db = database(folder.path()).await;
        let routes = http::routes(db.clone());
        Self {
            api: TestApi::of(routes, Monitor::new(&db)),
            db,
            folder,
        }
    }

    pub async fn register(&self, name: &str, email: &str) -> Answer {
        self.api
            .post("/users", &json!({"name": name, "email": email}))
            .await
    }

    /// Registers a user, and returns its path.
    pub async fn registered(&self, name: &str, email: &str) -> String {
        let answer = self.register(name, email).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Rows, and events.
    pub async fn state(&self) -> (u64, u64) {
        (self.rows().await, self.db.outbox().committed())
    }

    pub async fn rows(&self) -> u64 {
        let count = |rows: &rusqlite::Connection| {
            rows.query_row("select count(*) from users", [], |row| row.get(0))
        };
        self.db.read(count).await.unwrap()
    }

    /// Type and version of every event, as other services will read them.
    pub async fn events(&self) -> Vec<(String, u64)> {
        let read = |envelope: &Value| {
            let event_type = envelope["type"].as_str().unwrap();
            let data = envelope["data"].to_string();
            let event = UserEvent::decode(event_type, data.as_bytes())
                .unwrap()
                .unwrap();
            assert_eq!(envelope["subject"], event.aggregate());
            (event_type.to_owned(), event.version().get())
        };
        self.envelopes().await.iter().map(read).collect()
    }

    /// The log as the relay publishes it, byte for byte.
    pub async fn records(&self) -> Vec<Record> {
        let mut outbox = self.db.outbox();
        outbox.read_after(0, 1000, Duration::ZERO).await.unwrap()
    }

    pub async fn envelopes(&self) -> Vec<Value> {
        let records = self.records().await;
        assert!(
            records
                .iter()
                .all(|record| Envelope::parse(&record.bytes).is_ok())
        );
        records
            .iter()
            .map(|record| serde_json::from_slice(&record.bytes).unwrap())
            .collect()
    }
}

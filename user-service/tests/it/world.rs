//! user-service on a real file.

use std::time::Duration;

use event_schema::UserEvent;
use relay::{Database, Envelope, Log, rusqlite};
use serde_json::{Value, json};
use service_kit::Monitor;
use service_kit::testing::{Answer, TestApi};
use user_service::{config, http};

pub struct World {
    pub api: TestApi,
    pub db: Database,
    _folder: tempfile::TempDir,
}

impl World {
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users.db");
        let db = Database::open(path, config::database()).await.unwrap();
        let routes = http::routes(db.clone());
        Self {
            api: TestApi::new(service_kit::api(routes, Monitor::new(&db))),
            db,
            _folder: folder,
        }
    }

    pub async fn register(&self, name: &str, email: &str) -> Answer {
        self.api
            .post("/users", &json!({"name": name, "email": email}))
            .await
    }

    /// Registers, and answers the user's path.
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

    /// Type and version of every event, as everybody else will read them.
    pub async fn events(&self) -> Vec<(String, u64)> {
        let read = |envelope: &Value| {
            let event_type = envelope["type"].as_str().unwrap();
            let data = envelope["data"].to_string();
            let event = UserEvent::decode(event_type, data.as_bytes())
                .unwrap()
                .unwrap();
            assert_eq!(envelope["subject"], event.aggregate().to_string());
            (event_type.to_owned(), event.version().get())
        };
        self.envelopes().await.iter().map(read).collect()
    }

    pub async fn envelopes(&self) -> Vec<Value> {
        let records = self
            .db
            .outbox()
            .read_after(0, 1000, Duration::ZERO)
            .await
            .unwrap();
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

//! orders-service on a real file, beside a user-service that does as it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use event_schema::{UserCreated, UserDeleted, UserEvent, UserId, Version};
use orders_service::cache::users;
use orders_service::user_api::UserApi;
use orders_service::{config, http};
use relay::{ApplyError, Database, EventId, Log, Received, System, rusqlite};
use serde_json::{Value, json};
use service_kit::Monitor;
use service_kit::testing::{Answer, TestApi};
use tokio::net::TcpListener;

pub struct World {
    pub api: TestApi,
    pub db: Database,
    asked: Arc<AtomicUsize>,
    _folder: tempfile::TempDir,
}

/// What user-service wants of this service.
const TOKEN: &str = "a-token-of-this-test";

/// What user-service does when it is asked.
#[derive(Clone, Copy, Debug)]
pub enum FakeUsers {
    Answer(u16),
    /// 200, with this body.
    Show(&'static str),
    /// Takes the question and says nothing.
    Hang,
    /// Nobody listens.
    Gone,
}

impl World {
    pub async fn start(users: FakeUsers) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(folder.path().join("orders.db"), config::database())
            .await
            .unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let url = users.start(asked.clone()).await;
        let user_api = UserApi::new(url.parse().unwrap(), Some(TOKEN.parse().unwrap())).unwrap();
        let routes = http::routes(db.clone(), user_api);
        Self {
            api: TestApi::of(routes, Monitor::new(&db)),
            db,
            asked,
            _folder: folder,
        }
    }

    pub async fn place(&self, user: UserId, amount_minor: i64, currency: &str) -> Answer {
        let body = json!({"user_id": user, "amount_minor": amount_minor, "currency": currency});
        self.api.post("/orders", &body).await
    }

    /// How often user-service was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// A user whose registration has arrived here.
    pub async fn cached_user(&self, name: &str) -> UserId {
        let user = UserId::new();
        self.register(user, name).await;
        user
    }

    pub async fn register(&self, user_id: UserId, name: &str) {
        let (name, version) = (name.to_owned(), Version::FIRST);
        let created = UserCreated {
            user_id,
            name,
            version,
        };
        self.apply(UserEvent::Created(created)).await.unwrap();
    }

    pub async fn delete(&self, user_id: UserId, version: u64) {
        let version = std::num::NonZeroU64::new(version).unwrap().into();
        let deleted = UserDeleted { user_id, version };
        self.apply(UserEvent::Deleted(deleted)).await.unwrap();
    }

    /// Applies an event as the consumer does.
    pub async fn apply(&self, event: UserEvent) -> Result<(), String> {
        let received = Received {
            seq: 1,
            id: EventId::draw(&System),
            aggregate: event.aggregate().to_string(),
            time: "2025-01-01T00:00:00Z".to_owned(),
            event,
            sealed: None,
        };
        let write = self.db.write(move |tx| users::apply(tx.rows(), &received));
        write
            .await
            .map_err(|error: relay::WriteError<ApplyError>| error.to_string())
    }

    pub async fn cached(&self, id: UserId) -> Option<(String, u64)> {
        let found = self
            .db
            .read(move |rows| users::find(rows, id))
            .await
            .unwrap();
        found.map(|user| (user.name, user.version.get()))
    }

    pub async fn cached_users(&self) -> u64 {
        self.count("user_cache").await
    }

    /// Orders, and events.
    pub async fn state(&self) -> (u64, u64) {
        (self.count("orders").await, self.db.outbox().committed())
    }

    /// Type and data of every event.
    pub async fn events(&self) -> Vec<(String, Value)> {
        let records = self
            .db
            .outbox()
            .read_after(0, 1000, Duration::ZERO)
            .await
            .unwrap();
        let envelopes = records
            .iter()
            .map(|record| serde_json::from_slice::<Value>(&record.bytes).unwrap());
        envelopes
            .map(|envelope| {
                (
                    envelope["type"].as_str().unwrap().to_owned(),
                    envelope["data"].clone(),
                )
            })
            .collect()
    }

    /// The amounts of a whole list, page by page.
    pub async fn amounts(&self, list: &str) -> Vec<i64> {
        let (mut amounts, mut path) = (Vec::new(), list.to_owned());
        loop {
            let page = self.api.get(&path).await.json();
            let items = page["items"].as_array().unwrap();
            amounts.extend(
                items
                    .iter()
                    .map(|order| order["amount_minor"].as_i64().unwrap()),
            );
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{list}&cursor={cursor}"),
                None => return amounts,
            }
        }
    }

    async fn count(&self, table: &'static str) -> u64 {
        let sql = format!("select count(*) from {table}");
        let count = move |rows: &rusqlite::Connection| rows.query_row(&sql, [], |row| row.get(0));
        self.db.read(count).await.unwrap()
    }
}

impl FakeUsers {
    /// Answers its address.
    async fn start(self, asked: Arc<AtomicUsize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let answer = move |headers: HeaderMap| {
            asked.fetch_add(1, Ordering::Relaxed);
            self.answer_to(headers)
        };
        let routes = Router::new().route("/users/{id}", axum::routing::get(answer));
        match self {
            Self::Gone => drop(listener),
            _ => drop(tokio::spawn(async { axum::serve(listener, routes).await })),
        }
        url
    }

    /// It knows this service by its token.
    async fn answer_to(self, headers: HeaderMap) -> (StatusCode, &'static str) {
        let sent = headers.get("authorization").map(HeaderValue::as_bytes);
        if sent != Some(format!("Bearer {TOKEN}").as_bytes()) {
            return (StatusCode::UNAUTHORIZED, "");
        }
        match self {
            Self::Answer(status) => (StatusCode::from_u16(status).unwrap(), ""),
            Self::Show(body) => (StatusCode::OK, body),
            Self::Hang | Self::Gone => std::future::pending().await,
        }
    }
}

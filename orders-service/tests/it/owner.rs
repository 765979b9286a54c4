//! A fake user-service that follows the test's script and records the calls.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::extract::{Query, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use event_schema::UserId;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// What user-service does when it is asked.
#[derive(Clone, Copy, Debug)]
pub enum FakeUsers {
    /// Answers like user-service about the users that it was given.
    Know,
    Answer(u16),
    /// 200, with this body, in which `ID` is the user's.
    Show(&'static str),
    /// This status, with this body.
    Refuse(u16, &'static str),
    /// This status, with this `Retry-After`.
    NotNow(u16, &'static str),
    /// Takes the question and says nothing.
    Hang,
    /// 200 with this body, after `answer_now`.
    Wait(&'static str),
    /// Nothing listens at its address.
    Gone,
}

/// Clones are the same user-service.
#[derive(Clone)]
pub struct Owner(Arc<Mutex<Inner>>, Arc<Notify>);

struct Inner {
    usually: FakeUsers,
    /// What it does before that, once each.
    first: VecDeque<FakeUsers>,
    users: HashMap<UserId, &'static str>,
    asked: Vec<Asked>,
}

/// One call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The number of users.
    pub batch: usize,
    pub authorization: Option<String>,
    pub request_id: Option<String>,
    pub traceparent: Option<String>,
}

impl Owner {
    /// Answers its address too.
    pub async fn start(usually: FakeUsers) -> (Self, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let owner = Self(
            Arc::new(Mutex::new(Inner {
                usually,
                first: VecDeque::new(),
                users: HashMap::new(),
                asked: Vec::new(),
            })),
            Arc::default(),
        );
        let routes = Router::new()
            .route("/users", get(many))
            .with_state(owner.clone());
        match usually {
            FakeUsers::Gone => drop(listener),
            _ => drop(tokio::spawn(async { axum::serve(listener, routes).await })),
        }
        (owner, url)
    }

    pub fn usually(&self, does: FakeUsers) {
        self.lock().usually = does;
    }

    /// What it does next, once each, before it does the usual.
    pub fn first(&self, does: impl IntoIterator<Item = FakeUsers>) {
        self.lock().first.extend(does);
    }

    /// A user whom only the owner knows.
    pub fn knows(&self, name: &'static str) -> UserId {
        let id = UserId::new();
        self.lock().users.insert(id, name);
        id
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.lock().asked.clone()
    }

    /// Until it has been asked so often.
    pub async fn until_asked(&self, times: usize) {
        while self.lock().asked.len() < times {
            tokio::task::yield_now().await;
        }
    }

    /// Lets one question go on that waits.
    pub fn answer_now(&self) {
        self.1.notify_one();
    }

    /// How many users each call asked for at once.
    pub fn batches(&self) -> Vec<usize> {
        let asked = self.asked();
        asked.into_iter().map(|asked| asked.batch).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// Records the call and returns what to do.
    fn hear(&self, batch: usize, headers: &HeaderMap) -> FakeUsers {
        let sent = |name: &str| {
            let sent = headers.get(name);
            sent.map(|sent| sent.to_str().unwrap().to_owned())
        };
        let mut inner = self.lock();
        inner.asked.push(Asked {
            batch,
            authorization: sent("authorization"),
            request_id: sent("x-request-id"),
            traceparent: sent("traceparent"),
        });
        inner.first.pop_front().unwrap_or(inner.usually)
    }

    fn view(&self, id: UserId) -> Option<Value> {
        let name = *self.lock().users.get(&id)?;
        Some(json!({"id": id, "name": name, "version": 1}))
    }
}

async fn many(
    State(owner): State<Owner>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    let ids: Vec<UserId> = query["ids"]
        .split(',')
        .map(|id| id.parse().unwrap())
        .collect();
    match owner.hear(ids.len(), &headers) {
        FakeUsers::Know => {
            let items: Vec<Value> = ids.iter().filter_map(|id| owner.view(*id)).collect();
            let missing = ids.iter().filter(|id| owner.view(**id).is_none());
            let missing: Vec<&UserId> = missing.collect();
            Json(json!({"items": items, "missing": missing})).into_response()
        }
        other => other.answer(ids[0], &owner.1).await,
    }
}

impl FakeUsers {
    async fn answer(self, id: UserId, let_go: &Notify) -> Response {
        let with_id = |body: &str| body.replace("ID", &id.to_string()).into_response();
        match self {
            Self::Answer(status) => StatusCode::from_u16(status).unwrap().into_response(),
            Self::Show(body) => with_id(body),
            Self::Refuse(status, body) => {
                (StatusCode::from_u16(status).unwrap(), body).into_response()
            }
            Self::NotNow(status, when) => {
                let when = [(RETRY_AFTER, HeaderValue::from_static(when))];
                (StatusCode::from_u16(status).unwrap(), when).into_response()
            }
            Self::Wait(body) => {
                let_go.notified().await;
                with_id(body)
            }
            Self::Know | Self::Hang | Self::Gone => std::future::pending().await,
        }
    }
}

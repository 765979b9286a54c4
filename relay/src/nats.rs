//! The broker: the only module that speaks NATS.
//!
//! A session is one connection. It is never repaired: the client's own reconnect would send commands that were queued
//! before the cut, behind the relay's back. So a cut ends the session, and its user opens the next.

mod account;
mod direct;
mod import;
mod link;
mod publish;
mod reader;
mod stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{ContextBuilder, RequestErrorKind},
    response::Response,
    stream::Info,
};
use async_nats::{Auth, AuthError, ConnectErrorKind, ConnectOptions, Event};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::error::LogError;
use crate::log::{Head, Origin};
use link::{Link, Refusal};

pub use account::account_file;
pub use import::Import;
pub use reader::{NatsReader, ReaderSession};
pub use stream::{DEFAULT_STREAM_BYTES, NatsStream, StreamSession};

/// Atomic batches came with 2.12.0, which stops publishing for good after a batch that was cut off; 2.12.2 does not.
const OLDEST_SERVER: [u64; 3] = [2, 12, 2];
/// How long the broker may take to respond, to any request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The client's own limit on messages that wait in one subscription.
const MAX_WAITING: usize = 65_536;
/// What a stream stores is published again under its own subject behind this: `live.users.created`.
const LIVE: &str = "live.";

// The stream's metadata about its log.
const DATABASE_ID: &str = "freehold.database_id";
const EPOCH: &str = "freehold.epoch";
const INCARNATION: &str = "freehold.incarnation";
const CLOSED_BY: &str = "freehold.closed_by";

/// How to reach the broker, and as whom.
#[derive(Clone)]
pub struct Nats {
    url: String,
    user: String,
    password: String,
    inbox: String,
}

impl Nats {
    /// `inbox` is the prefix of the only reply subjects this user may listen on, such as `_INBOX_users`.
    pub fn new(url: &str, user: &str, password: &str, inbox: &str) -> Self {
        Self {
            url: url.to_owned(),
            user: user.to_owned(),
            password: password.to_owned(),
            inbox: inbox.to_owned(),
        }
    }

    /// How a stream's one writer connects to it.
    pub fn stream(&self, stream: &str) -> NatsStream {
        NatsStream {
            nats: self.clone(),
            stream: stream.to_owned(),
            max_bytes: DEFAULT_STREAM_BYTES,
        }
    }

    /// How a reader connects to another service's stream.
    pub fn reader(&self, stream: &str) -> NatsReader {
        NatsReader {
            nats: self.clone(),
            stream: stream.to_owned(),
            told_silent: Arc::default(),
        }
    }

    /// A new connection that lives until its first cut. Each of its subscriptions buffers up to `max_waiting` messages.
    async fn open(&self, max_waiting: usize) -> Result<Link, LogError> {
        let (refusals, refused) = watch::channel(Vec::new());
        let client = self
            .one_login()
            .name(&self.user)
            .custom_inbox_prefix(&self.inbox)
            .max_reconnects(1)
            .connection_timeout(TIMEOUT)
            .request_timeout(Some(TIMEOUT))
            .ping_interval(Duration::from_secs(10))
            .subscription_capacity(max_waiting)
            .event_callback(move |event| {
                report(&event, &refusals);
                std::future::ready(())
            })
            .connect(&self.url)
            .await
            .map_err(|error| self.not_connected(error))?;
        check_version(&client.server_info().version)?;
        let nats = Arc::new(self.clone());
        Ok(Link {
            client,
            nats,
            refused,
        })
    }

    /// Logs in once and never again. With a single reconnect permitted and its login failing, the client gives up
    /// at the first cut and drops what is queued; the crate has no switch for that (0 means for ever).
    fn one_login(&self) -> ConnectOptions {
        let (user, password) = (self.user.clone(), self.password.clone());
        let used = AtomicBool::new(false);
        ConnectOptions::with_auth_callback(move |_nonce| {
            let mut auth = Auth::new();
            auth.username = Some(user.clone());
            auth.password = Some(password.clone());
            std::future::ready(match used.swap(true, Ordering::Relaxed) {
                false => Ok(auth),
                true => Err(AuthError::new("a session is not repaired")),
            })
        })
    }

    fn not_connected(&self, error: async_nats::ConnectError) -> LogError {
        let Self { url, user, .. } = self;
        match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                LogError::Misconfigured(format!(
                    "the broker at {url} refuses the login of {user}: check this service's broker password"
                ))
            }
            ConnectErrorKind::ServerParse => LogError::Misconfigured(format!(
                "{url} is no broker address: write nats://host:port"
            )),
            _ => LogError::disconnected_by(format!("no connection to the broker at {url}"), error),
        }
    }
}

/// What the server sends unasked: it reports refused permissions only here.
fn report(event: &Event, refusals: &watch::Sender<Vec<Refusal>>) {
    match event {
        Event::ServerError(error) => {
            tracing::warn!(%error, "the broker refused something");
            refusals.send_modify(|all| all.extend(Refusal::read(error)));
        }
        // One for each message. None is lost: a reader reads them from the stream, an owner asks again.
        Event::SlowConsumer(_) => tracing::debug!("messages were dropped on the way in"),
        other => tracing::debug!(event = %other, "broker connection"),
    }
}

fn check_version(version: &str) -> Result<(), LogError> {
    let mut parts = version.split(|c: char| !c.is_ascii_digit());
    let found = [(); 3].map(|()| parts.next().and_then(|part| part.parse().ok()).unwrap_or(0));
    if found >= OLDEST_SERVER {
        return Ok(());
    }
    let [major, minor, patch] = OLDEST_SERVER;
    Err(LogError::Misconfigured(format!(
        "the broker is nats-server {version}, but {major}.{minor}.{patch} or newer is needed (atomic batches): install a newer nats-server"
    )))
}

/// The JetStream API of one stream, as this connection calls it.
struct Api {
    link: Link,
    js: jetstream::Context,
    prefix: String,
    stream: String,
    /// What is wrong when nothing responds.
    unanswered: String,
}

impl Api {
    fn new(link: Link, prefix: &str, stream: &str, unanswered: String) -> Self {
        let js = ContextBuilder::new()
            .timeout(TIMEOUT)
            .api_prefix(prefix)
            .build(link.client.clone());
        Self {
            link,
            js,
            prefix: prefix.to_owned(),
            stream: stream.to_owned(),
            unanswered,
        }
    }

    /// `None`: there is no such stream.
    async fn info(&self) -> Result<Option<Info>, LogError> {
        let info = self.ask("STREAM.INFO", json!({})).await;
        optional(info, ErrorCode::STREAM_NOT_FOUND)
    }

    /// One request about the stream.
    async fn ask<T: DeserializeOwned>(&self, call: &str, request: Value) -> Result<T, LogError> {
        self.ask_at(format!("{call}.{}", self.stream), request)
            .await
    }

    async fn ask_at<T: DeserializeOwned>(
        &self,
        call: String,
        request: Value,
    ) -> Result<T, LogError> {
        let failed = || format!("the broker did not do {call}");
        let response = async {
            let response = self.js.request(call.clone(), &request).await;
            response.map_err(|error| match error.kind() {
                RequestErrorKind::NoResponders => LogError::disconnected(&self.unanswered),
                _ => LogError::disconnected_by(failed(), error),
            })
        };
        let subject = format!("{}.{call}", self.prefix);
        let error = match self.link.answer(&subject, response).await? {
            Response::Ok(answer) => return Ok(answer),
            Response::Err { error } => error,
        };
        Err(match error.error_code() {
            ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT | ErrorCode::JETSTREAM_NOT_ENABLED => {
                LogError::Misconfigured(
                    "JetStream is not enabled for this account; start the broker with the project's nats.conf".to_owned(),
                )
            }
            _ => LogError::disconnected_by(failed(), error),
        })
    }
}

/// `None` where the broker answers with the code that means: it is not there.
fn optional<T>(answer: Result<T, LogError>, not_there: ErrorCode) -> Result<Option<T>, LogError> {
    match answer {
        Err(error) if jetstream_error(&error).is_some_and(|e| e.error_code() == not_there) => {
            Ok(None)
        }
        answer => answer.map(Some),
    }
}

/// The JetStream API's own answer, if that is the reason.
fn jetstream_error(error: &LogError) -> Option<&jetstream::Error> {
    match error {
        LogError::Disconnected(_, Some(reason)) => reason.downcast_ref(),
        _ => None,
    }
}

fn head_of(info: &Info) -> Head {
    let metadata = |key| info.config.metadata.get(key).map_or("", String::as_str);
    let (seq, messages) = (info.state.last_sequence, info.state.messages);
    let first = match messages {
        0 => seq + 1,
        _ => info.state.first_sequence,
    };
    Head {
        seq,
        first,
        holes: (seq + 1).saturating_sub(first).saturating_sub(messages),
        incarnation: metadata(INCARNATION).to_owned(),
        origin: Origin {
            // A stream without these was not made by a relay: no database has the nil id.
            database_id: metadata(DATABASE_ID).parse().unwrap_or(Uuid::nil()),
            epoch: metadata(EPOCH).parse().unwrap_or(0),
        },
        closed_by: metadata(CLOSED_BY).parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_without_a_message_are_counted_as_holes() {
        let head = |first_seq: u64, last_seq: u64, messages: u64| {
            let info = json!({
                "config": jetstream::stream::Config::default(),
                "created": "2026-11-22T00:00:00Z",
                "state": {"messages": messages, "bytes": 0, "first_seq": first_seq, "first_ts": "2026-11-22T00:00:00Z",
                    "last_seq": last_seq, "last_ts": "2026-11-22T00:00:00Z", "consumer_count": 0},
            });
            head_of(&serde_json::from_value(info).unwrap())
        };
        assert_eq!((head(1, 9, 9).first, head(1, 9, 9).holes), (1, 0));
        assert_eq!((head(4, 9, 4).first, head(4, 9, 4).holes), (4, 2));
        assert_eq!((head(0, 0, 0).first, head(0, 0, 0).holes), (1, 0));
        assert_eq!((head(1, 9, 0).first, head(1, 9, 0).holes), (10, 0)); // purged: nothing is kept, so nothing is amid it
    }

    #[test]
    fn brokers_without_atomic_batches_are_refused_with_the_cure() {
        assert!(check_version("2.12.2").is_ok());
        assert!(check_version("2.12.10-RC.1").is_ok());
        assert!(check_version("2.15.1-dev").is_ok());
        assert!(check_version("3.0.0").is_ok());
        let refusal = check_version("2.9.10").unwrap_err().to_string();
        assert!(
            refusal.contains("2.9.10") && refusal.contains("install a newer"),
            "{refusal}"
        );
        assert!(check_version("2.12.1").is_err());
        assert!(check_version("").is_err());
    }
}

//! The client of user-service's API, for users that are not in the cache: with a deadline, retries and a circuit breaker.

mod breaker;
mod retry;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use backon::Retryable;
use event_schema::UserId;
use jiff::Timestamp;
use relay::environment::Environment;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use service_kit::{BaseUrl, Token, http_client, trace};
use tokio::time::Instant;

use crate::domain::User;
use breaker::Breaker;

/// Clones share connections and the breaker.
#[derive(Clone)]
pub struct UserApi {
    client: Client,
    url: BaseUrl,
    token: Option<Token>,
    limits: Limits,
    clock: Arc<dyn Environment>,
    breaker: Arc<Breaker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One call, from the first packet to the end of the response.
    pub call: Duration,
    /// One question: all its calls, and the pauses between them.
    pub overall: Duration,
    /// Failed calls in a row that open the breaker.
    pub failures: u32,
    /// How long it stays open. Then one call tries.
    pub open_for: Duration,
}

/// `None`: there is no such user.
type Users = HashMap<UserId, Option<User>>;

/// What user-service answered about some users. Users without an answer are missing.
#[derive(Debug, Default)]
pub struct Found {
    pub users: Users,
    /// Why some have no answer.
    pub error: Option<Unavailable>,
}

/// user-service gave no usable answer.
#[derive(Debug, thiserror::Error)]
#[error("user-service has been unavailable since {since}")]
pub struct Unavailable {
    /// The first of the calls that failed in a row.
    pub since: Timestamp,
    pub source: CallError,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("user-service did not respond")]
    NoResponse(#[source] reqwest::Error),
    #[error("user-service answered {status}: not now")]
    NotNow {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    #[error(
        "user-service refuses the token: give both services the same FREEHOLD_USERS_READ_TOKEN"
    )]
    Unauthorized,
    #[error(
        "unexpected answer {0}: check that user-service runs at FREEHOLD_USERS_URL, and the proxies on the way"
    )]
    Unexpected(StatusCode),
    #[error("no time was left to call user-service")]
    OutOfTime,
    #[error("user-service has failed too often in a row; no calls are made for a while")]
    BreakerOpen,
}

/// As user-service answers `?ids=`.
#[derive(Deserialize)]
struct Batch {
    items: Vec<User>,
    missing: Vec<UserId>,
}

/// Users per call. user-service takes no more.
const CHUNK: usize = 100;
/// Ten times the longest answer: a hundred names of the greatest length.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A person waits for the response: better an early 503 than a late one.
impl Default for Limits {
    fn default() -> Self {
        Self {
            call: Duration::from_millis(800),
            overall: Duration::from_secs(2),
            failures: 5,
            open_for: Duration::from_secs(5),
        }
    }
}

impl UserApi {
    pub fn new(
        url: BaseUrl,
        token: Option<Token>,
        limits: Limits,
        clock: Arc<dyn Environment>,
    ) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: http_client().build()?,
            url,
            token,
            limits,
            clock,
            breaker: Arc::new(Breaker::new(limits)),
        })
    }

    /// `None`: there is no such user.
    pub async fn find(&self, id: UserId) -> Result<Option<User>, Unavailable> {
        let mut found = self.find_many(&[id]).await;
        match found.error {
            Some(error) => Err(error),
            None => Ok(found.users.remove(&id).flatten()),
        }
    }

    /// A hundred users per call. All calls together have the time of one question.
    pub async fn find_many(&self, ids: &[UserId]) -> Found {
        let (deadline, mut found) = (Instant::now() + self.limits.overall, Found::default());
        for chunk in ids.chunks(CHUNK) {
            match self.find_chunk(chunk, deadline).await {
                Ok(users) => found.users.extend(users),
                Err(source) => {
                    let since = self.failing_since();
                    found.error = Some(Unavailable { since, source });
                    break;
                }
            }
        }
        found
    }

    /// Retries while that can help and time is left. The log names the error, but never the user.
    async fn find_chunk(&self, ids: &[UserId], deadline: Instant) -> Result<Users, CallError> {
        let left = || deadline.saturating_duration_since(Instant::now());
        let attempt = || self.attempt(ids, left());
        attempt
            .retry(retry::pauses())
            .sleep(tokio::time::sleep)
            .when(CallError::is_transient)
            .adjust(|error, drawn| retry::pause(drawn, error.retry_after(), left()))
            .notify(|error, pause| {
                tracing::debug!(error = %relay::error::chain(error), ?pause, "calling user-service again");
            })
            .await
    }

    /// One call, if the breaker permits it.
    async fn attempt(&self, ids: &[UserId], left: Duration) -> Result<Users, CallError> {
        if left < retry::MIN_CALL_TIME {
            return Err(CallError::OutOfTime);
        }
        let permit = self.breaker.admit(self.clock.now());
        let permit = permit.ok_or(CallError::BreakerOpen)?;
        let answer = self.call(ids, left.min(self.limits.call)).await;
        match &answer {
            Ok(_) | Err(CallError::Unauthorized) => permit.succeeded(),
            Err(_) => permit.failed(self.clock.now()),
        }
        answer
    }

    async fn call(&self, ids: &[UserId], timeout: Duration) -> Result<Users, CallError> {
        let listed: Vec<String> = ids.iter().map(UserId::to_string).collect();
        let url = format!("{}/users?ids={}", self.url, listed.join(","));
        let mut request = self.client.get(url).headers(trace::headers());
        if let Some(token) = &self.token {
            request = token.on(request);
        }
        let response = request.timeout(timeout).send().await.map_err(no_response)?;
        let status = response.status();
        if retry::is_transient(status) {
            let retry_after = response.headers().get(RETRY_AFTER);
            let retry_after = retry_after.and_then(|value| value.to_str().ok());
            return Err(CallError::NotNow {
                status,
                retry_after: retry_after.and_then(|value| retry::after(value, self.clock.now())),
            });
        }
        let users = read(status, &receive(response).await?)?;
        match ids.iter().all(|id| users.contains_key(id)) {
            true => Ok(users),
            false => Err(CallError::Unexpected(status)),
        }
    }

    fn failing_since(&self) -> Timestamp {
        let since = self.breaker.failing_since();
        since.unwrap_or_else(|| self.clock.now())
    }
}

impl CallError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::NoResponse(_) | Self::NotNow { .. })
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotNow { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A refusal counts by its problem code: a status alone may come from a proxy.
fn read(status: StatusCode, body: &[u8]) -> Result<Users, CallError> {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
    }
    if status == StatusCode::OK {
        let batch: Batch =
            serde_json::from_slice(body).map_err(|_| CallError::Unexpected(status))?;
        let missing = batch.missing.into_iter().map(|id| (id, None));
        let items = batch.items.into_iter().map(|user| (user.id, Some(user)));
        return Ok(missing.chain(items).collect());
    }
    let code = serde_json::from_slice(body).map(|Problem { code }| code);
    match (status, code.as_deref()) {
        (StatusCode::UNAUTHORIZED, Ok("unauthorized")) => Err(CallError::Unauthorized),
        (StatusCode::FORBIDDEN, Ok("forbidden")) => Err(CallError::Unauthorized),
        _ => Err(CallError::Unexpected(status)),
    }
}

async fn receive(mut response: Response) -> Result<Vec<u8>, CallError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_response)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(CallError::Unexpected(response.status()));
        }
    }
    Ok(body)
}

/// Without the URL, which names the user.
fn no_response(error: reqwest::Error) -> CallError {
    CallError::NoResponse(error.without_url())
}

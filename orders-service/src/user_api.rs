//! The User API: asked about users whom the cache does not know. Patiently, but not for long, and not at all while it is
//! known to be down.

mod breaker;
mod retry;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use event_schema::{UserId, Version};
use jiff::Timestamp;
use relay::Environment;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use service_kit::{BaseUrl, Token, http_client, trace};
use tokio::time::Instant;

use breaker::{Breaker, Outcome, Pass, Refused};

/// A way to user-service. Clones share their connections, and what they know of its health.
#[derive(Clone)]
pub struct UserApi {
    client: Client,
    url: BaseUrl,
    token: Option<Token>,
    limits: Limits,
    clock: Arc<dyn Environment>,
    breaker: Arc<Mutex<Breaker>>,
}

/// How patient we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One call, from the first packet to the last of the answer.
    pub call: Duration,
    /// Everything that one question takes: all its calls, and the pauses between them.
    pub overall: Duration,
    /// So many calls that fail in a row, and no more are made for a while.
    pub failures: u32,
    /// How long that while is. Then one call goes out to try.
    pub open_for: Duration,
}

/// A user as the owner shows one, as far as orders need it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KnownUser {
    pub name: String,
    pub version: Version,
}

/// What the owner said about many users. Who is not among them was not spoken of.
#[derive(Debug, Default)]
pub struct Found {
    /// `None`: there is no such user.
    pub users: HashMap<UserId, Option<KnownUser>>,
    /// Why not all of them were spoken of.
    pub trouble: Option<Unavailable>,
}

/// It gave no answer that says whether the user exists, and who it is.
#[derive(Debug, thiserror::Error)]
#[error("user-service cannot be asked, since {since}")]
pub struct Unavailable {
    /// The first call that failed of those that have failed in a row.
    pub since: Timestamp,
    #[source]
    pub why: Why,
}

#[derive(Debug, thiserror::Error)]
pub enum Why {
    #[error("user-service did not answer")]
    Silent(#[source] reqwest::Error),
    #[error("user-service answered {status}: not now")]
    NotNow {
        status: StatusCode,
        retry_after: Option<Duration>,
    },
    #[error(
        "user-service does not let this service in: give both the same FREEHOLD_USERS_READ_TOKEN"
    )]
    Shut,
    #[error("user-service answered {0}, and nothing that says who the user is")]
    Unclear(StatusCode),
    #[error(
        "something else than user-service answered {0}: check FREEHOLD_USERS_URL, and the proxies on the way"
    )]
    Foreign(StatusCode),
    #[error("there was no time left to ask user-service")]
    OutOfTime,
    #[error("user-service has failed too often in a row; it is left alone for a while")]
    LeftAlone,
}

/// The only code that says so, whatever else may be answered 404.
const NO_SUCH_USER: &str = "user_not_found";
/// How many users one call asks for. user-service takes no more.
const CHUNK: usize = 100;
/// No answer of ours is as long: a hundred names of the greatest length are a tenth of it.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// A person waits for their order; better an early 503 than a late one.
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
    /// Shows the token, if there is one. `clock` says when the owner began to fail, and when it is tried again.
    pub fn new(
        url: BaseUrl,
        token: Option<Token>,
        limits: Limits,
        clock: Arc<dyn Environment>,
    ) -> Result<Self, reqwest::Error> {
        let breaker = Breaker::new(limits.failures, limits.open_for);
        Ok(Self {
            client: http_client().build()?,
            url,
            token,
            limits,
            clock,
            breaker: Arc::new(Mutex::new(breaker)),
        })
    }

    /// Who the user is. `None`: there is no such user.
    pub async fn find(&self, id: UserId) -> Result<Option<KnownUser>, Unavailable> {
        let answer = self
            .ask(&format!("/users/{id}"), self.deadline())
            .await
            .map_err(|why| self.unavailable(why))?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(None),
            _ => self.read(&answer).map(Some),
        }
    }

    /// The same for many, a hundred in a call. All calls together have the time of one question; what was answered by
    /// then is answered here.
    pub async fn find_many(&self, ids: &[UserId]) -> Found {
        let (deadline, mut found) = (self.deadline(), Found::default());
        for chunk in ids.chunks(CHUNK) {
            match self.find_chunk(chunk, deadline).await {
                Ok(users) => found.users.extend(users),
                Err(why) => {
                    found.trouble = Some(why);
                    break;
                }
            }
        }
        found
    }

    async fn find_chunk(
        &self,
        ids: &[UserId],
        deadline: Instant,
    ) -> Result<HashMap<UserId, Option<KnownUser>>, Unavailable> {
        let listed: Vec<String> = ids.iter().map(UserId::to_string).collect();
        let path = format!("/users?ids={}", listed.join(","));
        let answer = self.ask(&path, deadline).await;
        let answer = answer.map_err(|why| self.unavailable(why))?;
        let batch: Batch = self.read(&answer)?;
        let users = batch.sorted();
        match ids.iter().all(|id| users.contains_key(id)) {
            true => Ok(users),
            false => Err(self.unavailable(Why::Unclear(answer.status))),
        }
    }

    /// Asks, and asks again while that can help and there is time. The log says that it was a user, never which.
    async fn ask(&self, path: &str, deadline: Instant) -> Result<Answer, Why> {
        let mut pauses = retry::pauses();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let why = match self.attempt(path, left).await {
                Ok(answer) => return Ok(answer),
                Err(why) => why,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let drawn = why.may_pass().then(|| pauses.next()).flatten();
            let Some(pause) = retry::pause(drawn, why.retry_after(), left) else {
                return Err(why);
            };
            tracing::debug!(error = %relay::chain(&why), ?pause, "asking user-service again");
            tokio::time::sleep(pause).await;
        }
    }

    /// One call, if the breaker lets it pass, and the breaker hears how it went.
    async fn attempt(&self, path: &str, left: Duration) -> Result<Answer, Why> {
        if left < retry::MIN_CALL_TIME {
            return Err(Why::OutOfTime);
        }
        let attempt = Attempt::begin(self)?;
        let answer = self.call(path, left.min(self.limits.call)).await;
        attempt.end(match &answer {
            Ok(_) => Outcome::Answered,
            Err(why) if why.is_illness() => Outcome::Failed,
            Err(_) => Outcome::Answered,
        });
        answer
    }

    async fn call(&self, path: &str, at_most: Duration) -> Result<Answer, Why> {
        let request = self.client.get(format!("{}{path}", self.url));
        let request = request.headers(trace::headers());
        let request = match &self.token {
            Some(token) => token.on(request),
            None => request,
        };
        let response = request.timeout(at_most).send().await.map_err(silent)?;
        let status = response.status();
        if retry::is_passing(status) {
            return Err(Why::NotNow {
                status,
                retry_after: self.retry_after(&response),
            });
        }
        receive(response).await?.judged()
    }

    fn retry_after(&self, response: &Response) -> Option<Duration> {
        let said = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
        retry::after(said, self.clock.now())
    }

    fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, Unavailable> {
        let read = match answer.status {
            StatusCode::OK => serde_json::from_slice(&answer.body).ok(),
            _ => None,
        };
        read.ok_or_else(|| self.unavailable(Why::Unclear(answer.status)))
    }

    fn unavailable(&self, why: Why) -> Unavailable {
        let since_ms = self.breaker().failing_since_ms();
        let since_ms = since_ms.and_then(|ms| i64::try_from(ms).ok());
        let since = since_ms.and_then(|ms| Timestamp::from_millisecond(ms).ok());
        Unavailable {
            since: since.unwrap_or_else(|| self.clock.now()),
            why,
        }
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.limits.overall
    }

    /// Whoever panicked while holding it has left it whole: each of its steps is one assignment.
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way. One whose client has gone away ends without an outcome, and must not block those after it.
struct Attempt<'a> {
    api: &'a UserApi,
    pass: Option<Pass>,
}

impl<'a> Attempt<'a> {
    fn begin(api: &'a UserApi) -> Result<Self, Why> {
        let pass = api.breaker().admit(api.clock.now_ms());
        match pass {
            Ok(pass) => Ok(Self {
                api,
                pass: Some(pass),
            }),
            Err(Refused) => Err(Why::LeftAlone),
        }
    }

    fn end(mut self, outcome: Outcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: Outcome) {
        let Some(pass) = self.pass.take() else { return };
        let now_ms = self.api.clock.now_ms();
        let (before, after) = {
            let mut breaker = self.api.breaker();
            let before = breaker.is_closed();
            breaker.report(pass, outcome, now_ms);
            (before, breaker.is_closed())
        };
        match (before, after) {
            (true, false) => {
                tracing::warn!("user-service fails again and again; it is left alone for a while")
            }
            (false, true) => tracing::info!("user-service answers again"),
            _ => {}
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.report(Outcome::Unknown);
    }
}

/// What came back whole.
struct Answer {
    status: StatusCode,
    body: Vec<u8>,
}

/// As user-service answers `?ids=`.
#[derive(Deserialize)]
struct Batch {
    items: Vec<Item>,
    missing: Vec<UserId>,
}

#[derive(Deserialize)]
struct Item {
    id: UserId,
    #[serde(flatten)]
    user: KnownUser,
}

impl Answer {
    /// A refusal is judged by its code: its status alone may be a proxy's, or that of a path that leads nowhere.
    fn judged(self) -> Result<Self, Why> {
        #[derive(Deserialize)]
        struct Problem {
            code: String,
        }
        if self.status == StatusCode::OK {
            return Ok(self);
        }
        let problem = serde_json::from_slice(&self.body).ok();
        let code = problem.map(|Problem { code }| code);
        match (self.status, code.as_deref()) {
            (StatusCode::NOT_FOUND, Some(NO_SUCH_USER)) => Ok(self),
            (StatusCode::UNAUTHORIZED, Some("unauthorized"))
            | (StatusCode::FORBIDDEN, Some("forbidden")) => Err(Why::Shut),
            (status, Some(_)) => Err(Why::Unclear(status)),
            (status, None) => Err(Why::Foreign(status)),
        }
    }
}

impl Batch {
    fn sorted(self) -> HashMap<UserId, Option<KnownUser>> {
        let known = self
            .items
            .into_iter()
            .map(|item| (item.id, Some(item.user)));
        let missing = self.missing.into_iter().map(|id| (id, None));
        missing.chain(known).collect()
    }
}

async fn receive(mut response: Response) -> Result<Answer, Why> {
    let (status, mut body) = (response.status(), Vec::new());
    while let Some(chunk) = response.chunk().await.map_err(silent)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(Why::Unclear(status));
        }
    }
    Ok(Answer { status, body })
}

/// The log names the order's route; which user it was about stays out of it.
fn silent(error: reqwest::Error) -> Why {
    Why::Silent(error.without_url())
}

//! orders-service, as a device speaks with it: a code for a credential, intents for verdicts, and the feed.
//!
//! The device may be older than the owner. A verdict in a word that is not known here is no verdict yet, and a change
//! of an unknown kind in the feed is passed over: both are understood after an update, neither stops the rest.

use std::time::Duration;

use event_schema::sync::{Enrolled, Enrolment, FeedPage, Outcome, Upload, Verdict};
use futures::future::BoxFuture;
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service_kit::{BaseUrl, Code, codes as kit, http_client};

/// The owner of the orders. Over HTTP it is [`OwnerApi`]; tests have others.
pub trait Owner: Send + Sync + 'static {
    /// A device that was enrolled before proves that with the last token it has, whether that is still good or not.
    fn enrol<'a>(&'a self, token: Option<&'a str>, enrolment: &'a Enrolment)
    -> Heard<'a, Enrolled>;

    /// The verdicts that could be understood.
    fn upload<'a>(&'a self, token: &'a str, upload: &'a Upload) -> Heard<'a, Vec<Verdict>>;

    fn feed<'a>(&'a self, token: &'a str, ask: &'a Ask) -> Heard<'a, FeedPage>;
}

pub type Heard<'a, T> = BoxFuture<'a, Result<Answer<T>, Refusal>>;

/// What the owner said, and what its clock showed then.
#[derive(Clone, Debug)]
pub struct Answer<T> {
    pub value: T,
    /// Unix time in milliseconds, to the second.
    pub date_ms: Option<i64>,
}

/// Which page of the feed is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// `None`: from scratch.
    pub after: Option<String>,
    pub limit: u32,
    /// How long the owner may wait for news.
    pub wait: Duration,
}

/// The owner did not do as asked, sorted by what the device does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Nobody answered. What was sent may have arrived.
    #[error("orders-service does not answer: {0}")]
    Silent(String),
    /// Somebody answered, but nothing that orders-service would say.
    #[error("what answers is not orders-service, or cannot be understood: {0}")]
    Unclear(String),
    /// It cannot now.
    #[error("orders-service cannot answer now ({status}): {detail}")]
    Later { status: u16, detail: String },
    #[error("orders-service does not know this device any more: {detail}")]
    Unauthorized { code: String, detail: String },
    /// Another file speaks as this incarnation.
    #[error("another copy of this device's data is in use: {detail}")]
    Forked { detail: String },
    #[error("it was too much at once")]
    TooLarge,
    /// It cannot make anything of what was sent.
    #[error("orders-service cannot read it: {detail}")]
    Unreadable { detail: String },
    /// It will not, and would not another time.
    #[error("orders-service refused: {detail}")]
    Refused { code: String, detail: String },
}

/// A way to orders-service over HTTP.
pub struct OwnerApi {
    client: Client,
    url: BaseUrl,
}

/// From the first packet to the whole answer; what the owner may wait for news comes on top. Shorter than a request to
/// the device itself may take, since enrolling is one.
const DEADLINE: Duration = Duration::from_secs(8);
/// A page of the feed holds 200 deliveries; no answer is this large.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Where orders-service asks to come again, when it does not say when.
const SOON_MS: u64 = 1000;

impl OwnerApi {
    pub fn new(url: BaseUrl) -> Result<Self, reqwest::Error> {
        let client = http_client().build()?;
        Ok(Self { client, url })
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<Answer<T>, Refusal> {
        let response = request.timeout(deadline).send().await.map_err(silent)?;
        let (status, date_ms) = (response.status(), date(response.headers()));
        let is_problem = is_problem(response.headers());
        let body = receive(response).await?;
        if !status.is_success() {
            return Err(refusal(status, is_problem, &body));
        }
        let value = serde_json::from_slice(&body).map_err(unclear)?;
        Ok(Answer { value, date_ms })
    }
}

impl Owner for OwnerApi {
    fn enrol<'a>(
        &'a self,
        token: Option<&'a str>,
        enrolment: &'a Enrolment,
    ) -> Heard<'a, Enrolled> {
        let request = self.client.post(format!("{}/devices", self.url));
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        Box::pin(self.ask(request.json(enrolment), DEADLINE))
    }

    fn upload<'a>(&'a self, token: &'a str, upload: &'a Upload) -> Heard<'a, Vec<Verdict>> {
        let request = self.client.post(format!("{}/sync/intents", self.url));
        let request = request.bearer_auth(token).json(upload);
        Box::pin(async move {
            let Answer { value, date_ms } = self.ask::<LooseVerdicts>(request, DEADLINE).await?;
            let value = value.verdicts.into_iter().filter_map(verdict).collect();
            Ok(Answer { value, date_ms })
        })
    }

    fn feed<'a>(&'a self, token: &'a str, ask: &'a Ask) -> Heard<'a, FeedPage> {
        let wait_ms = ask.wait.as_millis().to_string();
        let limit = ask.limit.to_string();
        let mut query = vec![("limit", limit.as_str()), ("wait_ms", wait_ms.as_str())];
        query.extend(ask.after.as_deref().map(|after| ("after", after)));
        let request = self.client.get(format!("{}/sync/feed", self.url));
        let request = request.bearer_auth(token).query(&query);
        Box::pin(async move {
            let answer = self.ask(request, DEADLINE + ask.wait).await?;
            let value = page(answer.value)?;
            Ok(Answer {
                value,
                date_ms: answer.date_ms,
            })
        })
    }
}

/// Each verdict on its own, so that one that is not understood takes none with it.
#[derive(Deserialize)]
struct LooseVerdicts {
    verdicts: Vec<Value>,
}

fn verdict(said: Value) -> Option<Verdict> {
    let id = said
        .get("intent_id")
        .and_then(|id| serde_json::from_value(id.clone()).ok());
    let Some(intent_id) = id else {
        tracing::warn!("a verdict names no intent and is passed over");
        return None;
    };
    let word = said["verdict"].as_str().unwrap_or_default().to_owned();
    Some(serde_json::from_value(said).unwrap_or_else(|error| {
        tracing::warn!(%intent_id, word, %error, "a verdict is not understood here");
        let outcome = Outcome::RetryLater {
            code: "unknown_verdict".to_owned(),
            detail: format!(
                "orders-service said {word:?}, which this version of the app does not understand"
            ),
            after_ms: SOON_MS,
        };
        Verdict { intent_id, outcome }
    }))
}

/// The page without changes of unknown kinds. One of a known kind that cannot be read is no page.
fn page(mut said: Value) -> Result<FeedPage, Refusal> {
    if let Some(Value::Array(items)) = said.get_mut("items") {
        items.retain(|item| {
            let known = matches!(item["change"].as_str(), Some("put" | "remove"));
            if !known {
                tracing::warn!(change = %item["change"], "a change in the feed is not understood here and passed over");
            }
            known
        });
    }
    serde_json::from_value(said).map_err(unclear)
}

async fn receive(mut response: Response) -> Result<Vec<u8>, Refusal> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(silent)? {
        if body.len() + chunk.len() > MAX_ANSWER_BYTES {
            return Err(Refusal::Unclear("the answer has no end".to_owned()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// A problem of orders-service. A refusal without its form comes from something between: a proxy, or a network that wants a login.
fn refusal(status: StatusCode, is_problem: bool, body: &[u8]) -> Refusal {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
        detail: String,
    }
    let problem = serde_json::from_slice(body).ok().filter(|_| is_problem);
    let Some(Problem { code, detail }) = problem else {
        return Refusal::Unclear(format!("{status}, without a word that is understood here"));
    };
    let number = status.as_u16();
    let is = |known: Code| code == known.name();
    match status {
        StatusCode::UNAUTHORIZED => Refusal::Unauthorized { code, detail },
        StatusCode::CONFLICT if code == "incarnation_forked" => Refusal::Forked { detail },
        StatusCode::PAYLOAD_TOO_LARGE if is(kit::BODY_TOO_LARGE) => Refusal::TooLarge,
        _ if is(kit::INVALID_BODY) || is(kit::MALFORMED_JSON) => Refusal::Unreadable { detail },
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => Refusal::Later {
            status: number,
            detail,
        },
        _ if status.is_client_error() => Refusal::Refused { code, detail },
        _ => Refusal::Later {
            status: number,
            detail,
        },
    }
}

fn is_problem(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/problem+json"))
}

/// The address stays out of it: it is a setting, and the driver cannot help it.
fn silent(error: reqwest::Error) -> Refusal {
    let what = if error.is_timeout() {
        "it took too long"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    };
    tracing::debug!(error = %relay::chain(&error.without_url()), "orders-service did not answer");
    Refusal::Silent(what.to_owned())
}

fn unclear(error: serde_json::Error) -> Refusal {
    Refusal::Unclear(error.to_string())
}

fn date(headers: &HeaderMap) -> Option<i64> {
    let date = headers.get(DATE)?.to_str().ok()?;
    let date = rfc2822::DateTimeParser::new().parse_timestamp(date).ok()?;
    Some(date.as_millisecond())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "0191d1a0-0000-7000-8000-000000000000";

    #[test]
    fn a_verdict_in_an_unknown_word_is_none_yet() {
        let later = |said| matches!(verdict(said).unwrap().outcome, Outcome::RetryLater { .. });
        assert!(later(
            json!({"intent_id": ID, "verdict": "pondered", "at": 1})
        ));
        assert!(
            later(json!({"intent_id": ID, "verdict": "applied"})),
            "its place is missing"
        );
        assert!(later(
            json!({"intent_id": ID, "verdict": "duplicate", "first": {"verdict": "pondered"}})
        ));
        assert!(later(json!({"intent_id": ID})));
        assert!(!later(
            json!({"intent_id": ID, "verdict": "applied", "at": 1, "more": 2})
        ));
        assert!(verdict(json!({"verdict": "applied", "at": 1})).is_none());
        assert!(verdict(json!("applied")).is_none());
    }

    #[test]
    fn an_unknown_change_is_passed_over_and_a_broken_one_is_no_page() {
        let said = |items| page(json!({"items": items, "next": "n", "at": 1, "complete": true}));
        let remove = json!({"change": "remove", "order_id": ID});
        let read = said(json!([{"change": "repaint"}, remove, {}])).unwrap();
        assert_eq!(read.items.len(), 1);
        assert!(said(json!([{"change": "put", "delivery": {}}])).is_err());
        assert!(page(json!({"items": "none"})).is_err());
    }

    #[test]
    fn a_refusal_without_the_owners_form_is_not_the_owners() {
        let problem = |code: &str| format!(r#"{{"code": "{code}", "detail": "gone"}}"#);
        for status in [400, 401, 404, 409, 413, 422, 429, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            for (is_problem, body) in [
                (false, problem("revoked")),
                (false, problem("invalid_body")),
                (true, "<html>log in".to_owned()),
            ] {
                let said = refusal(status, is_problem, body.as_bytes());
                assert!(matches!(said, Refusal::Unclear(_)), "{status} {said:?}");
            }
        }
    }

    #[test]
    fn a_refusal_is_judged_by_its_code() {
        let said = |status, code: &str| {
            let body = format!(r#"{{"code": "{code}", "detail": "gone"}}"#);
            refusal(status, true, body.as_bytes())
        };
        assert!(matches!(
            said(StatusCode::UNAUTHORIZED, "revoked"),
            Refusal::Unauthorized { .. }
        ));
        assert!(matches!(
            said(StatusCode::BAD_GATEWAY, "busy"),
            Refusal::Later { .. }
        ));
        let too_large = said(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
        assert_eq!(too_large, Refusal::TooLarge);
        for unreadable in ["invalid_body", "malformed_json"] {
            let said = said(StatusCode::UNPROCESSABLE_ENTITY, unreadable);
            assert!(matches!(said, Refusal::Unreadable { .. }), "{said:?}");
        }
        for (status, code) in [
            (400, "bad_gateway"),
            (409, "taken"),
            (413, "too_much"),
            (422, "no"),
        ] {
            let said = said(StatusCode::from_u16(status).unwrap(), code);
            assert!(matches!(said, Refusal::Refused { .. }), "{said:?}");
        }
    }

    #[test]
    fn the_owners_clock_is_in_its_date() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(
            DATE,
            HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"),
        );
        assert_eq!(date(&headers), Some(784_111_777_000));
        headers.insert(DATE, HeaderValue::from_static("yesterday"));
        assert_eq!(date(&headers), None);
    }
}

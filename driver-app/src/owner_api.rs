//! The client of orders-service: a code for a credential, intents for verdicts, and the feed.
//!
//! The device may be older than the owner. It treats a verdict in an unknown word as "not decided yet" and skips feed
//! changes of an unknown kind. An update understands both; neither stops the rest.

use std::time::Duration;

use event_schema::sync::{Enrolled, Enrolment, FeedPage, Outcome, Upload, Verdict};
use jiff::fmt::rfc2822;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use service_kit::{BaseUrl, codes as kit, http_client};

#[derive(Clone, Debug)]
pub struct Reply<T> {
    pub value: T,
    /// The owner's clock: Unix time in milliseconds, to the second.
    pub date_ms: Option<i64>,
}

/// The owner did not do as asked, sorted by what the device does next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnerError {
    /// The request may have arrived.
    #[error("orders-service does not answer: {0}")]
    NoReply(String),
    /// A proxy, or a network that wants a login; or the two versions do not fit.
    #[error("the reply is not from orders-service, or this version cannot read it: {0}")]
    Unexpected(String),
    #[error("orders-service cannot answer now ({status}): {detail}")]
    Unavailable { status: u16, detail: String },
    #[error("orders-service does not accept this device: {detail}")]
    Unauthorized { code: String, detail: String },
    /// Another file uses this incarnation.
    #[error("another copy of this device's data is in use: {detail}")]
    Forked { detail: String },
    /// Too large, or not readable.
    #[error("orders-service cannot read it: {detail}")]
    Unreadable { detail: String },
    /// It would refuse the same request again.
    #[error("orders-service refused: {detail}")]
    Refused { code: String, detail: String },
}

impl OwnerError {
    pub fn is_refused_as(&self, expected: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == expected)
    }
}

/// The owner of the orders, over HTTP.
pub struct OwnerApi {
    client: Client,
    url: BaseUrl,
}

/// From the first packet to the whole reply, without the wait for news. Enrolling happens inside a request to the device,
/// so this must be shorter than the device's own deadline.
const DEADLINE: Duration = Duration::from_secs(8);
/// Changes in a page of the feed, at most.
const PAGE: &str = "200";
/// No page of the feed is this large.
const MAX_REPLY_BYTES: usize = 4 * 1024 * 1024;
/// The wait after a verdict that this version cannot read.
const SOON_MS: u64 = 1000;

impl OwnerApi {
    pub fn new(url: BaseUrl) -> Result<Self, reqwest::Error> {
        let client = http_client().build()?;
        Ok(Self { client, url })
    }

    /// A device that was enrolled before proves that with its last token, even if the token is no longer valid.
    pub async fn enrol(
        &self,
        token: Option<&str>,
        enrolment: &Enrolment,
    ) -> Result<Reply<Enrolled>, OwnerError> {
        let mut request = self.client.post(format!("{}/devices", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        self.send(request.json(enrolment), DEADLINE).await
    }

    /// The verdicts that this version can read.
    pub async fn upload(
        &self,
        token: &str,
        upload: &Upload,
    ) -> Result<Reply<Vec<Verdict>>, OwnerError> {
        let request = self.client.post(format!("{}/sync/intents", self.url));
        let request = request.bearer_auth(token).json(upload);
        let Reply { value, date_ms } = self.send::<LooseVerdicts>(request, DEADLINE).await?;
        let value = value.verdicts.into_iter().filter_map(verdict).collect();
        Ok(Reply { value, date_ms })
    }

    /// A page of the feed after this position; `None` from scratch. The owner may hold the request this long while there is
    /// no news.
    pub async fn feed(
        &self,
        token: &str,
        after: Option<&str>,
        wait: Duration,
    ) -> Result<Reply<FeedPage>, OwnerError> {
        let wait_ms = wait.as_millis().to_string();
        let query = [
            ("limit", Some(PAGE)),
            ("wait_ms", Some(&wait_ms)),
            ("after", after),
        ];
        let request = self.client.get(format!("{}/sync/feed", self.url));
        let request = request.bearer_auth(token).query(&query);
        let Reply { value, date_ms } = self.send(request, DEADLINE + wait).await?;
        let value = page(value)?;
        Ok(Reply { value, date_ms })
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        deadline: Duration,
    ) -> Result<Reply<T>, OwnerError> {
        let response = request.timeout(deadline).send().await.map_err(no_reply)?;
        let (status, date_ms) = (response.status(), date(response.headers()));
        let is_problem = is_problem(response.headers());
        let body = receive(response).await?;
        if !status.is_success() {
            return Err(refusal(status, is_problem, &body));
        }
        let value = serde_json::from_slice(&body).map_err(unexpected)?;
        Ok(Reply { value, date_ms })
    }
}

/// Each verdict by itself, so that an unreadable one does not lose the others.
#[derive(Deserialize)]
struct LooseVerdicts {
    verdicts: Vec<Value>,
}

fn verdict(value: Value) -> Option<Verdict> {
    let id = value
        .get("intent_id")
        .map(|id| serde_json::from_value(id.clone()));
    let Some(Ok(intent_id)) = id else {
        tracing::warn!("skipping a verdict that names no intent");
        return None;
    };
    let word = value["verdict"].as_str().unwrap_or_default().to_owned();
    Some(serde_json::from_value(value).unwrap_or_else(|error| {
        tracing::warn!(%intent_id, word, %error, "cannot read a verdict");
        let outcome = Outcome::RetryLater {
            code: "unknown_verdict".to_owned(),
            detail: format!(
                "this version of the app cannot read the verdict {word:?} of orders-service"
            ),
            after_ms: SOON_MS,
        };
        Verdict { intent_id, outcome }
    }))
}

/// The page without changes of unknown kinds. If a change of a known kind is unreadable, so is the page.
fn page(mut value: Value) -> Result<FeedPage, OwnerError> {
    if let Some(Value::Array(items)) = value.get_mut("items") {
        items.retain(|item| {
            let known = matches!(item["change"].as_str(), Some("put" | "remove"));
            if !known {
                tracing::warn!(change = %item["change"], "skipping a feed change of an unknown kind");
            }
            known
        });
    }
    serde_json::from_value(value).map_err(unexpected)
}

async fn receive(mut response: Response) -> Result<Vec<u8>, OwnerError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_reply)? {
        if body.len() + chunk.len() > MAX_REPLY_BYTES {
            let detail = format!("the reply is longer than {MAX_REPLY_BYTES} bytes");
            return Err(OwnerError::Unexpected(detail));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// An error reply counts as the owner's only in the owner's form. Any other comes from something in between.
fn refusal(status: StatusCode, is_problem: bool, body: &[u8]) -> OwnerError {
    #[derive(Deserialize)]
    struct Problem {
        code: String,
        detail: String,
    }
    let problem = serde_json::from_slice(body).ok().filter(|_| is_problem);
    let Some(Problem { code, detail }) = problem else {
        return OwnerError::Unexpected(format!("{status} without a problem code"));
    };
    let unreadable = [kit::BODY_TOO_LARGE, kit::INVALID_BODY, kit::MALFORMED_JSON];
    match status {
        StatusCode::UNAUTHORIZED => OwnerError::Unauthorized { code, detail },
        StatusCode::CONFLICT if code == "incarnation_forked" => OwnerError::Forked { detail },
        _ if unreadable.iter().any(|known| code == known.name()) => {
            OwnerError::Unreadable { detail }
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => unavailable(status, detail),
        _ if status.is_client_error() => OwnerError::Refused { code, detail },
        _ => unavailable(status, detail),
    }
}

fn unavailable(status: StatusCode, detail: String) -> OwnerError {
    let status = status.as_u16();
    OwnerError::Unavailable { status, detail }
}

fn is_problem(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    kind.is_some_and(|kind| kind.starts_with(b"application/problem+json"))
}

/// Without the address: it is a setting that the driver cannot change.
fn no_reply(error: reqwest::Error) -> OwnerError {
    let what = match (error.is_timeout(), error.is_connect()) {
        (true, _) => "it took too long",
        (_, true) => "no connection",
        _ => "the connection broke off",
    };
    tracing::debug!(error = %relay::error::chain(&error.without_url()), "no reply from orders-service");
    OwnerError::NoReply(what.to_owned())
}

fn unexpected(error: serde_json::Error) -> OwnerError {
    OwnerError::Unexpected(error.to_string())
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
    fn a_verdict_in_an_unknown_word_decides_nothing_yet() {
        let later = |value| matches!(verdict(value).unwrap().outcome, Outcome::RetryLater { .. });
        assert!(later(
            json!({"intent_id": ID, "verdict": "pondered", "at": 1})
        ));
        assert!(
            later(json!({"intent_id": ID, "verdict": "applied"})),
            "its sequence is missing"
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
    fn an_unknown_change_is_skipped_and_a_broken_one_makes_the_page_unreadable() {
        let read = |items| page(json!({"items": items, "next": "n", "at": 1, "complete": true}));
        let remove = json!({"change": "remove", "order_id": ID});
        let known = read(json!([{"change": "repaint"}, remove, {}])).unwrap();
        assert_eq!(known.items.len(), 1);
        assert!(read(json!([{"change": "put", "delivery": {}}])).is_err());
        assert!(page(json!({"items": "none"})).is_err());
    }

    #[test]
    fn a_refusal_that_is_no_problem_document_is_not_the_owners() {
        let problem = |code: &str| format!(r#"{{"code": "{code}", "detail": "gone"}}"#);
        for status in [400, 401, 404, 409, 413, 422, 429, 503] {
            let status = StatusCode::from_u16(status).unwrap();
            for (is_problem, body) in [
                (false, problem("revoked")),
                (false, problem("invalid_body")),
                (true, "<html>log in".to_owned()),
            ] {
                let error = refusal(status, is_problem, body.as_bytes());
                assert!(
                    matches!(error, OwnerError::Unexpected(_)),
                    "{status} {error:?}"
                );
            }
        }
    }

    #[test]
    fn the_code_of_a_refusal_decides_what_the_device_does() {
        let read = |status, code: &str| {
            let body = format!(r#"{{"code": "{code}", "detail": "gone"}}"#);
            refusal(status, true, body.as_bytes())
        };
        assert!(matches!(
            read(StatusCode::UNAUTHORIZED, "revoked"),
            OwnerError::Unauthorized { .. }
        ));
        assert!(matches!(
            read(StatusCode::BAD_GATEWAY, "busy"),
            OwnerError::Unavailable { .. }
        ));
        for (status, unreadable) in [
            (413, "body_too_large"),
            (422, "invalid_body"),
            (400, "malformed_json"),
        ] {
            let error = read(StatusCode::from_u16(status).unwrap(), unreadable);
            assert!(matches!(error, OwnerError::Unreadable { .. }), "{error:?}");
        }
        for (status, code) in [
            (400, "bad_gateway"),
            (409, "taken"),
            (413, "too_much"),
            (422, "no"),
        ] {
            let error = read(StatusCode::from_u16(status).unwrap(), code);
            assert!(matches!(error, OwnerError::Refused { .. }), "{error:?}");
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

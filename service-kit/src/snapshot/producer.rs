//! The reader's side: requests over HTTP to the service that owns a stream.

use std::time::Duration;

use futures::future::BoxFuture;
use relay::error::LogError;
use relay::log::{Holds, Line, Lines, Position, Producer};
use reqwest::{Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::json;
use tokio::sync::mpsc;

use crate::auth::Token;
use crate::http::base_url::{BaseUrl, Refusal, http_client, refusal};
use crate::http::{Code, codes};
use crate::observe::trace;
use crate::snapshot::answers::Held;

/// A producer that answers over HTTP.
pub struct HttpProducer {
    client: Client,
    url: BaseUrl,
    token: Token,
    /// The environment variable that held the token, for the message that it is wrong.
    token_env: String,
}

/// How long an answer to `holds` and `report` may take.
const MAX_ANSWER_TIME: Duration = Duration::from_secs(5);
/// How long a snapshot may stall.
const MAX_STALL_TIME: Duration = Duration::from_secs(30);
/// The longest line of a snapshot.
const MAX_LINE_BYTES: usize = 1 << 20;
/// Lines that wait for the consumer.
const LINES: usize = 256;

impl HttpProducer {
    /// Asks the service at this address, with this read token; `token_env` is the variable that holds it, for the message when
    /// it is refused.
    ///
    /// # Errors
    ///
    /// The HTTP client cannot be built: TLS or the resolver of the system fails.
    pub fn new(
        url: BaseUrl,
        token: Token,
        token_env: impl Into<String>,
    ) -> Result<Self, reqwest::Error> {
        let client = http_client().read_timeout(MAX_STALL_TIME).build()?;
        Ok(Self {
            client,
            url,
            token,
            token_env: token_env.into(),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        request
            .headers(trace::headers())
            .bearer_auth(self.token.reveal())
    }

    /// The answer to a question about one position.
    async fn held(&self, request: RequestBuilder) -> Result<Holds, LogError> {
        let response = self.send(request.timeout(MAX_ANSWER_TIME)).await?;
        let answer = response.json().await.map_err(|error| {
            let what = "the producer's answer cannot be read";
            lost(what.to_owned(), error.without_url())
        });
        answer.map(|Held { holds }| holds)
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, LogError> {
        let url = &self.url;
        let response = request.send().await.map_err(|error| {
            lost(
                format!("the producer at {url} does not answer"),
                error.without_url(),
            )
        })?;
        match response.status() {
            StatusCode::OK => Ok(response),
            _ => Err(self.refused(&refusal(response).await)),
        }
    }

    fn refused(&self, refusal: &Refusal) -> LogError {
        let (url, token_env) = (&self.url, &self.token_env);
        let shut = [codes::UNAUTHORIZED, codes::FORBIDDEN].map(Code::name);
        let what = match refusal.code() {
            Some(code) if shut.contains(&code) => {
                return LogError::Misconfigured(format!(
                    "the producer at {url} does not let this service in ({refusal}): give both the same {token_env}"
                ));
            }
            Some(_) => format!("the producer at {url} answered {refusal}"),
            None => format!(
                "something else than the producer seems to answer at {url} ({refusal}): check the address and the proxies on the way, and give both the same {token_env}"
            ),
        };
        LogError::Disconnected(what, None)
    }
}

impl Producer for HttpProducer {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        Box::pin(async move {
            self.held(self.request(Method::GET, &format!("/log/{}?id={}", at.seq, at.id)))
                .await
        })
    }

    fn report(&self, reader: &str, at: Option<Position>) -> BoxFuture<'_, Result<Holds, LogError>> {
        let reader = reader.to_owned();
        Box::pin(async move {
            if !relay::publish::is_reader_name(&reader) {
                let why = format!("{reader:?} is no name under which a reader can report");
                return Err(LogError::Refused(why));
            }
            let request = self.request(Method::PUT, &format!("/log/readers/{reader}"));
            self.held(request.json(&json!({"at": at}))).await
        })
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        Box::pin(async move {
            let path = match at {
                Some(Position { seq, id }) => format!("/snapshot?seq={seq}&id={id}"),
                None => "/snapshot".to_owned(),
            };
            let response = self.send(self.request(Method::GET, &path)).await?;
            let (to, lines) = mpsc::channel(LINES);
            tokio::spawn(async move {
                if let Err(error) = forward(response, &to).await {
                    let _gone = to.send(Err(error)).await;
                }
            });
            Ok(lines)
        })
    }
}

/// Line by line, until the last or until the reader is gone. The reader notices when the end is missing.
async fn forward(
    mut response: Response,
    to: &mpsc::Sender<Result<Line, LogError>>,
) -> Result<(), LogError> {
    let mut text = Vec::new();
    let broke = |error: reqwest::Error| {
        let what = "the snapshot broke off before its end";
        lost(what.to_owned(), error.without_url())
    };
    while let Some(chunk) = response.chunk().await.map_err(broke)? {
        text.extend_from_slice(&chunk);
        let whole = text.iter().rposition(|byte| *byte == b'\n');
        let rest = text.split_off(whole.map_or(0, |end| end + 1));
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            if to.send(parse(line)).await.is_err() {
                return Ok(());
            }
        }
        text = rest;
        if text.len() > MAX_LINE_BYTES {
            return Err(too_long());
        }
    }
    Ok(())
}

fn parse(line: &[u8]) -> Result<Line, LogError> {
    if line.len() > MAX_LINE_BYTES {
        return Err(too_long());
    }
    serde_json::from_slice(line)
        .map_err(|error| lost("a line of the snapshot cannot be read".to_owned(), error))
}

fn too_long() -> LogError {
    let why = format!("a line of the snapshot is longer than {MAX_LINE_BYTES} bytes");
    LogError::Disconnected(why, None)
}

fn lost(what: String, cause: impl Into<relay::error::Cause>) -> LogError {
    LogError::Disconnected(what, Some(cause.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_an_end_and_a_shape() {
        assert!(matches!(
            parse(b"{\"end\":{\"rows\":2}}\n"),
            Ok(Line::End { rows: 2 })
        ));
        assert!(matches!(parse(b"{\"row\":{\"a\":1}}\n"), Ok(Line::Row(_))));
        for bad in ["", "{", "{\"else\":1}", "{\"row\":{}} {}"] {
            assert!(matches!(
                parse(bad.as_bytes()),
                Err(LogError::Disconnected(..))
            ));
        }
        assert!(parse(&vec![b' '; MAX_LINE_BYTES + 1]).is_err());
    }
}

//! The HTTP API of a service as a client sees it: every answer is returned whole, problems too.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, RequestBuilder};
use serde_json::Value;

use crate::credentials::Password;
use crate::metrics::Metrics;

/// One service: its base URL, a client with a deadline, and the token it sends.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    client: Client,
    token: Option<Password>,
}

/// An answer, or status 0 for no answer: a killed service is normal here.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The HTTP status; `Reply::NONE` when there was no answer.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// The JSON of the answer; its text when it is no JSON; the reason when there was no answer.
    pub body: Value,
}

/// Longer than any deadline the services set for themselves.
const DEADLINE: Duration = Duration::from_secs(30);

impl Api {
    /// Calls an address, with a token or without.
    pub fn new(base: impl Into<String>, token: Option<Password>) -> Api {
        let client = Client::builder()
            .timeout(DEADLINE)
            .no_proxy()
            .build()
            .expect("the client needs nothing that can fail");
        Api {
            base: base.into(),
            client,
            token,
        }
    }

    /// `http://127.0.0.1:PORT`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The same service, asked with another token or with none.
    pub fn sending(&self, token: Option<Password>) -> Api {
        Api {
            token,
            ..self.clone()
        }
    }

    /// For other requests than the calls below: odd bodies, odd headers. Finish it with [`Reply::of`].
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        }
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(Method::GET, path)).await
    }

    /// Sends a JSON body.
    pub async fn send(&self, method: Method, path: &str, body: &Value) -> Reply {
        Reply::of(self.request(method, path).json(body)).await
    }

    /// The current `/metrics`.
    pub async fn metrics(&self) -> Result<Metrics> {
        let reply = self.get("/metrics").await;
        let text = reply.body.as_str().filter(|_| reply.status == 200);
        Ok(Metrics::parse(text.with_context(|| {
            format!("{}/metrics answers {reply:?}", self.base)
        })?))
    }

    /// Asks `/readyz`. The error says what is not ready.
    pub async fn is_ready(&self) -> Result<(), String> {
        let reply = self.get("/readyz").await;
        if reply.status == 200 {
            Ok(())
        } else {
            Err(format!("/readyz answers {} {}", reply.status, reply.body))
        }
    }
}

impl Reply {
    /// The status of an answer that did not come.
    pub const NONE: u16 = 0;

    /// Sends a request and reads the whole answer.
    pub async fn of(request: RequestBuilder) -> Reply {
        Reply::read(request).await.unwrap_or_else(|error| Reply {
            status: Reply::NONE,
            headers: HeaderMap::new(),
            body: format!("{:#}", anyhow::Error::from(error)).into(),
        })
    }

    async fn read(request: RequestBuilder) -> reqwest::Result<Reply> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Panics with the whole answer if the status differs.
    #[track_caller]
    pub fn expect_status(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "answered {}", self.body);
        self
    }

    /// The `id` in the answer.
    #[track_caller]
    pub fn id(&self) -> &str {
        self.body["id"]
            .as_str()
            .unwrap_or_else(|| panic!("no id in {} {}", self.status, self.body))
    }

    /// The `version` of the JSON body. Panics when it has none.
    #[track_caller]
    pub fn version(&self) -> u64 {
        self.body["version"]
            .as_u64()
            .unwrap_or_else(|| panic!("no version in {} {}", self.status, self.body))
    }

    /// The stable `code` of a problem, or its `type` while it has none.
    pub fn problem(&self) -> Option<&str> {
        self.body["code"]
            .as_str()
            .or_else(|| self.body["type"].as_str())
    }

    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

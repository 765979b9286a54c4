//! The address of another service, the client for requests to it, and its refusals.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, StatusCode, Url, redirect};
use serde::Deserialize;

/// `http://HOST:PORT`, with or without a path prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseUrl(String);

/// How long a connection may take to open.
const MAX_CONNECT_TIME: Duration = Duration::from_secs(2);
/// Shorter than a service keeps idle connections, so that no request meets one that is just closing.
const KEEP_IDLE: Duration = Duration::from_secs(5);
/// How much of a refusal is read.
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// A client for other services. It takes no proxy from the environment and follows no redirect: the answer must be the
/// service's own.
pub fn http_client() -> ClientBuilder {
    Client::builder()
        .connect_timeout(MAX_CONNECT_TIME)
        .pool_idle_timeout(KEEP_IDLE)
        .redirect(redirect::Policy::none())
        .no_proxy()
}

/// An answer that is no success. Without a problem document it came from a proxy, a login page, or another program at this
/// address.
pub struct Refusal {
    status: StatusCode,
    problem: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    title: String,
    detail: String,
}

/// Reads an answer that is no success; at most 64 KiB of its body.
pub async fn refusal(mut response: Response) -> Refusal {
    let (status, mut body) = (response.status(), Vec::new());
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_REFUSAL_BYTES {
            break;
        }
    }
    let problem = serde_json::from_slice(&body).ok();
    Refusal { status, problem }
}

impl Refusal {
    /// The code that programs compare. The status may be a proxy's.
    pub(crate) fn code(&self) -> Option<&str> {
        self.problem.as_ref().map(|problem| problem.code.as_str())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.problem {
            Some(Problem { title, detail, .. }) => {
                write!(f, "{} {title}: {detail}", self.status.as_u16())
            }
            None => write!(f, "{} without a problem document", self.status),
        }
    }
}

impl FromStr for BaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| error.to_string())?;
        if url.scheme() != "http" {
            return Err("expected http://HOST:PORT: services talk without TLS on one machine, and through a proxy that adds it between machines".to_owned());
        }
        if !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some()
        {
            return Err("a base address has no user, no query and no fragment".to_owned());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_is_plain_http() {
        let parse = |text: &str| text.parse::<BaseUrl>().map(|url| url.to_string());
        assert_eq!(
            parse("http://127.0.0.1:7101").unwrap(),
            "http://127.0.0.1:7101"
        );
        assert_eq!(
            parse("http://127.0.0.1:7101/api/").unwrap(),
            "http://127.0.0.1:7101/api"
        );
        for other in [
            "https://127.0.0.1",
            "127.0.0.1:7101",
            "http://a:b@c",
            "http://a/?b",
            "http://",
            "",
        ] {
            assert!(parse(other).is_err(), "{other}");
        }
    }
}

//! The User API, asked only about users whom the cache does not know.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use event_schema::{UserId, Version};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use serde::Deserialize;

/// A way to user-service. Clones share their connections.
#[derive(Clone)]
pub struct UserApi {
    client: Client,
    url: UsersUrl,
}

/// `http://HOST:PORT`, with or without a path below which user-service answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsersUrl(String);

/// A user as the owner shows one, as far as orders need it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct KnownUser {
    pub name: String,
    pub version: Version,
}

/// It gave no answer that says whether the user exists, and who it is.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error("user-service did not answer")]
    Silent(#[source] reqwest::Error),
    #[error("user-service answered {0}, and nothing that says who the user is")]
    Unclear(StatusCode),
}

/// From the first packet to the answer. A person waits for their order; better an early 503 than a late one.
const DEADLINE: Duration = Duration::from_secs(2);
/// Shorter than user-service keeps idle connections, so that no request meets one that is just closing.
const KEEP_IDLE: Duration = Duration::from_secs(5);

impl UserApi {
    /// No proxy, whatever the environment says, and no redirects: the answer must be user-service's own.
    pub fn new(url: UsersUrl) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .timeout(DEADLINE)
            .pool_idle_timeout(KEEP_IDLE)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()?;
        Ok(Self { client, url })
    }

    /// Asks once who the user is. `None`: there is no such user.
    pub async fn find(&self, id: UserId) -> Result<Option<KnownUser>, Unavailable> {
        let response = self
            .client
            .get(format!("{}/users/{id}", self.url))
            .send()
            .await;
        let response = response.map_err(silent)?;
        match response.status() {
            StatusCode::OK => read(response).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            other => Err(Unavailable::Unclear(other)),
        }
    }
}

async fn read(response: Response) -> Result<KnownUser, Unavailable> {
    let status = response.status();
    response
        .json()
        .await
        .map_err(|error| match error.is_decode() {
            true => Unavailable::Unclear(status),
            false => silent(error),
        })
}

/// The log names the order's route; which user it was about stays out of it.
fn silent(error: reqwest::Error) -> Unavailable {
    Unavailable::Silent(error.without_url())
}

impl FromStr for UsersUrl {
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

impl fmt::Display for UsersUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_is_plain_http() {
        let parse = |text: &str| text.parse::<UsersUrl>().map(|url| url.to_string());
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

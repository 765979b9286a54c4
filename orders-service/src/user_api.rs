//! The User API, asked only about users whom the cache does not know.

use std::time::Duration;

use event_schema::{UserId, Version};
use reqwest::{Client, Response, StatusCode};
use serde::Deserialize;
use service_kit::{BaseUrl, Token, http_client};

/// A way to user-service. Clones share their connections.
#[derive(Clone)]
pub struct UserApi {
    client: Client,
    url: BaseUrl,
    token: Option<Token>,
}

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
    #[error(
        "user-service does not let this service in: give both the same FREEHOLD_USERS_READ_TOKEN"
    )]
    Shut,
    #[error("user-service answered {0}, and nothing that says who the user is")]
    Unclear(StatusCode),
}

/// From the first packet to the answer. A person waits for their order; better an early 503 than a late one.
const DEADLINE: Duration = Duration::from_secs(2);

impl UserApi {
    /// Without a token user-service lets nobody in, and says so.
    pub fn new(url: BaseUrl, token: Option<Token>) -> Result<Self, reqwest::Error> {
        let client = http_client().timeout(DEADLINE).build()?;
        Ok(Self { client, url, token })
    }

    /// Asks once who the user is. `None`: there is no such user.
    pub async fn find(&self, id: UserId) -> Result<Option<KnownUser>, Unavailable> {
        let request = self.client.get(format!("{}/users/{id}", self.url));
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.reveal()),
            None => request,
        };
        let response = request.send().await.map_err(silent)?;
        match response.status() {
            StatusCode::OK => read(response).await.map(Some),
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Unavailable::Shut),
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

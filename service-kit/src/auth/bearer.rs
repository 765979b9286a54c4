//! Bearer tokens: who may ask a service what is not for everybody.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use relay::{Environment, System};
use reqwest::RequestBuilder;
use subtle::ConstantTimeEq;

use crate::http::connections::Connection;
use crate::http::{Problem, codes};

/// A secret that whoever asks must know. It is compared in constant time and stays out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

/// Lets in whoever sends the token.
#[derive(Clone)]
pub(crate) struct Guard(pub(crate) Token);

/// A shorter secret is no secret.
const MIN_CHARACTERS: usize = 16;

impl Token {
    /// From the environment and from nowhere else: flags are visible to everybody on the machine. The refusal says what
    /// to set.
    pub fn from_env(variable: &str) -> Result<Self, String> {
        match std::env::var(variable).unwrap_or_default().as_str() {
            "" => Err(format!(
                "{variable} is not set: set it to a secret of at least {MIN_CHARACTERS} characters"
            )),
            found => found.parse().map_err(|why| format!("{variable}: {why}")),
        }
    }

    /// 128 bits of the operating system's chance.
    pub(crate) fn draw() -> Self {
        Self::draw_with("")
    }

    /// A request that shows this token to another service.
    pub fn on(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.reveal())
    }

    pub(crate) fn draw_with(prefix: &str) -> Self {
        Self(format!("{prefix}{}{}", System.draw_word(), System.draw_word()).into())
    }

    /// The secret itself, to be sent or to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Once, and exactly this one. How long a wrong one takes tells its length and nothing more.
    fn is_sent(&self, headers: &HeaderMap) -> bool {
        match sent(headers) {
            Sent::Token(token) => token.ct_eq(self.0.as_bytes()).into(),
            Sent::Nothing | Sent::Nonsense => false,
        }
    }
}

/// What `Authorization` holds.
pub(crate) enum Sent<'a> {
    Nothing,
    Token(&'a [u8]),
    /// Two of them, another scheme, or no token behind it.
    Nonsense,
}

/// Of two headers nobody knows which one is meant, so two are as bad as none that can be read.
pub(crate) fn sent(headers: &HeaderMap) -> Sent<'_> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = match (lines.next(), lines.next()) {
        (None, _) => return Sent::Nothing,
        (Some(line), None) => line.as_bytes(),
        (Some(_), Some(_)) => return Sent::Nonsense,
    };
    match line.split_at_checked("Bearer ".len()) {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case(b"Bearer ") => Sent::Token(token),
        _ => Sent::Nonsense,
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.len() >= MIN_CHARACTERS && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(Self(text.into())),
            false => Err(format!(
                "a token has at least {MIN_CHARACTERS} characters, all visible ASCII"
            )),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Guard {
    /// Stands before every one of the routes.
    pub(crate) fn before(self, routes: Router) -> Router {
        routes.route_layer(from_fn_with_state(self, check))
    }
}

async fn check(
    State(Guard(token)): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if token.is_sent(request.headers()) {
        Connection::of(&request).inspect(|connection| connection.is_of_known_caller());
        return Ok(next.run(request).await);
    }
    let detail = "send `Authorization: Bearer` with the token of this service's door";
    let problem = Problem::new(codes::UNAUTHORIZED, detail);
    Err(problem.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_enough_for_a_secret_and_fits_into_a_header() {
        for good in ["0123456789abcdef", &"~".repeat(100)] {
            assert!(good.parse::<Token>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "0123456789abcde",
            "0123456789 abcdef",
            "0123456789abcdé\n",
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
        let refusal = Token::from_env("FREEHOLD_NOT_SET").unwrap_err();
        assert!(refusal.starts_with("FREEHOLD_NOT_SET is not set: set it"));
        assert_eq!(format!("{:?}", Token::draw()), "Token(..)");
        assert!(Token::draw() != Token::draw());
    }

    #[test]
    fn only_the_very_token_is_let_through_sent_once() {
        let token: Token = "0123456789abcdef".parse().unwrap();
        let sent = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(AUTHORIZATION, HeaderValue::from_str(line).unwrap());
            }
            token.is_sent(&headers)
        };
        assert!(sent(&["Bearer 0123456789abcdef"]));
        assert!(sent(&["bearer 0123456789abcdef"]));
        for other in [
            "",
            "Bearer",
            "Bearer ",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
            "Bearer 0123456789abcdeF",
            "Bearer 0123456789abcdef ",
            "Bearer 0123456789abcdef0",
        ] {
            assert!(!sent(&[other]), "{other}");
        }
        assert!(!sent(&[]));
        assert!(!sent(&[
            "Bearer 0123456789abcdef",
            "Bearer 0123456789abcdef"
        ]));
    }
}

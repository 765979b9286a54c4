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

use crate::{Problem, codes};

/// A secret that whoever asks must know. It is compared in constant time and stays out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Arc<str>);

/// Who gets in.
#[derive(Clone)]
pub(crate) enum Guard {
    /// Whoever sends the token.
    Knows(Token),
    /// Nobody, and what to do about it. A token that is missing must not become an open door.
    Nobody(String),
}

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
        Self(format!("{}{}", System.draw_word(), System.draw_word()).into())
    }

    /// A request that shows this token to another service.
    pub fn on(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(self.reveal())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Once, and exactly this one. How long a wrong one takes tells its length and nothing more.
    fn is_sent(&self, headers: &HeaderMap) -> bool {
        let mut sent = headers.get_all(AUTHORIZATION).iter();
        let (Some(sent), None) = (sent.next(), sent.next()) else {
            return false;
        };
        let Some((scheme, token)) = sent.as_bytes().split_at_checked("Bearer ".len()) else {
            return false;
        };
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(token.ct_eq(self.0.as_bytes()))
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
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    match guard {
        Guard::Knows(token) if token.is_sent(request.headers()) => Ok(next.run(request).await),
        Guard::Knows(_) => {
            let detail = "send `Authorization: Bearer` with the token of this service";
            let problem = Problem::new(codes::UNAUTHORIZED, detail);
            Err(problem.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
        }
        Guard::Nobody(cure) => Err(Problem::new(codes::NO_TOKEN, cure)),
    }
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

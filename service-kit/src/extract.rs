//! What handlers take from a request. Every rejection is a problem that names the place.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::api::MAX_BODY_BYTES;
use crate::{Problem, codes};

/// How long a body may take to arrive. Shorter than a request may take, so that a slow sender is told that it was
/// slow, and that nothing has happened.
pub const MAX_BODY_TIME: Duration = Duration::from_secs(5);

/// A JSON body, in and out.
pub struct Json<T>(pub T);

/// The variables of the path: ids.
pub struct Path<T>(pub T);

/// The query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        expect_json(request.headers())?;
        let body = receive(request, state).await?;
        read(&body).map(Self)
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let path = axum::extract::Path::from_request_parts(parts, state).await;
        let axum::extract::Path(value) =
            path.map_err(|error| Problem::new(codes::INVALID_ID, error.body_text()))?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(value) =
            query.map_err(|error| Problem::new(codes::INVALID_QUERY, error.body_text()))?;
        Ok(Self(value))
    }
}

/// For an optional field that may be left out but not be `null`: with
/// `#[serde(default, deserialize_with = "service_kit::present")]`.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let label = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let media_type = label
        .and_then(|label| label.split(';').next())
        .map(str::trim);
    match media_type {
        Some(json) if json.eq_ignore_ascii_case("application/json") => Ok(()),
        _ => Err(Problem::new(
            codes::UNSUPPORTED_MEDIA_TYPE,
            "send the body with `Content-Type: application/json`",
        )),
    }
}

async fn receive<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let received = tokio::time::timeout(MAX_BODY_TIME, Bytes::from_request(request, state)).await;
    let received = received.map_err(|_| {
        let limit = MAX_BODY_TIME.as_secs();
        let detail = format!("the body took longer than {limit} s to arrive; nothing was done");
        Problem::new(codes::BODY_TOO_SLOW, detail)
    })?;
    received.map_err(|error| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            codes::BODY_TOO_LARGE,
            format!("a body may have {MAX_BODY_BYTES} bytes"),
        ),
        _ => Problem::new(codes::MALFORMED_JSON, "the body broke off"),
    })
}

/// Its syntax first, so that a body that is no JSON is called that wherever it breaks.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let json: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
    if !json.get().starts_with('{') {
        // serde would fill a struct's fields from a list too, by their order, which no client should rely on.
        let detail = "the body must be a JSON object";
        return Err(Problem::new(codes::INVALID_BODY, detail));
    }
    let mut json = serde_json::Deserializer::from_str(json.get());
    serde_path_to_error::deserialize(&mut json).map_err(refuse)
}

fn refuse(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let path = error.path().to_string();
    let cause = error.into_inner();
    if cause.classify() != Category::Data {
        return malformed(cause);
    }
    let detail = cause.to_string();
    match field(&path, &detail) {
        Some(field) => Problem::field(codes::INVALID_BODY, field, &detail),
        None => Problem::new(codes::INVALID_BODY, detail),
    }
}

fn malformed(error: serde_json::Error) -> Problem {
    Problem::new(codes::MALFORMED_JSON, error.to_string())
}

/// Which field it is about: where the reader stood or, when a field is missing, the one serde names.
fn field<'a>(path: &'a str, detail: &'a str) -> Option<&'a str> {
    if path != "." {
        return Some(path);
    }
    let missing = detail.strip_prefix("missing field `")?;
    missing.split('`').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it can be read matters")]
    struct Greeting {
        name: String,
        #[serde(default, deserialize_with = "present")]
        times: Option<u8>,
    }

    #[test]
    fn a_body_that_is_no_json_is_told_from_one_of_another_shape() {
        let refused = |body: &str| read::<Greeting>(body.as_bytes()).unwrap_err().code();
        for body in [
            "",
            "{",
            "nope",
            r#"{"name": "a"} x"#,
            r#"{"name": "\ud800"}"#,
            r#"{"name": 1e}"#,
        ] {
            assert_eq!(refused(body), codes::MALFORMED_JSON, "{body}");
        }
        for body in [
            "[]",
            "[\"a\"]",
            "1",
            "{}",
            r#"{"name": 1}"#,
            r#"{"name": "a", "nam": 1}"#,
            r#"{"name": "a", "name": "b"}"#,
        ] {
            assert_eq!(refused(body), codes::INVALID_BODY, "{body}");
        }
        assert_eq!(
            refused(r#"{"name": "a", "times": null}"#),
            codes::INVALID_BODY
        );
        assert_eq!(
            read::<Greeting>(b"{\"name\": \"\xff\"}")
                .unwrap_err()
                .code(),
            codes::MALFORMED_JSON
        );
    }

    #[test]
    fn the_field_is_named_also_when_it_is_missing() {
        assert_eq!(
            field("address.street", "invalid type: null"),
            Some("address.street")
        );
        assert_eq!(
            field(".", "missing field `email` at line 1 column 2"),
            Some("email")
        );
        assert_eq!(
            field(".", "invalid type: integer `1`, expected struct"),
            None
        );
    }

    #[test]
    fn json_is_json_with_and_without_parameters() {
        let labelled = |label: &'static str| {
            let value = axum::http::HeaderValue::from_static(label);
            expect_json(&HeaderMap::from_iter([(CONTENT_TYPE, value)])).is_ok()
        };
        assert!(labelled("application/json"));
        assert!(labelled("Application/JSON; charset=utf-8"));
        assert!(!labelled("application/jsonp"));
        assert!(!labelled("text/plain"));
        assert!(expect_json(&HeaderMap::new()).is_err());
    }
}

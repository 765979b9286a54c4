//! The extractors of handlers. Every rejection is a problem that names the field.

use std::error::Error;
use std::fmt::Display;
use std::iter;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::path::ErrorKind;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::{DeserializeOwned, value};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;
use tokio::time::timeout;

use crate::http::server::{Stopping, shutting_down};
use crate::http::{Code, Problem, codes};

/// The largest body, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long a body may take to arrive. Shorter than a request may take, so that a slow client learns that it was too slow
/// and that nothing was done.
pub const MAX_BODY_TIME: Duration = Duration::from_secs(5);

/// How much of a request a refusal repeats.
const MAX_QUOTED_CHARACTERS: usize = 64;

/// A JSON body, in and out.
pub struct Json<T>(pub T);

/// The variables of the path: ids.
pub struct Path<T>(pub T);

/// The query string.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = receive_json(request, state).await?;
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
        let axum::extract::Path(value) = path.map_err(refuse_path)?;
        Ok(Self(value))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let query = axum::extract::Query::from_request_parts(parts, state).await;
        let axum::extract::Query(value) = query.map_err(|error| refuse_query(&error))?;
        Ok(Self(value))
    }
}

/// For an optional field that may be left out but not be `null`: with
/// `#[serde(default, deserialize_with = "service_kit::present")]`.
///
/// # Errors
///
/// The value is `null` or of another type; serde names the field.
pub fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// The bytes of a JSON body, to be [`read`].
pub(crate) async fn receive_json<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Bytes, Problem> {
    expect_json(request.headers())?;
    receive(request, state).await
}

fn expect_json(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail| Err(Problem::new(codes::UNSUPPORTED_MEDIA_TYPE, detail));
    if !is_labelled_json(headers) {
        return refuse("send the body with one `Content-Type: application/json`");
    }
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    if !encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return refuse("send the body as it is, without `Content-Encoding`");
    }
    Ok(())
}

/// Once: two labels contradict each other.
fn is_labelled_json(headers: &HeaderMap) -> bool {
    let mut labels = headers.get_all(CONTENT_TYPE).iter();
    let (Some(label), None) = (labels.next(), labels.next()) else {
        return false;
    };
    let media_type = label
        .to_str()
        .ok()
        .and_then(|label| label.split(';').next());
    media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case("application/json"))
}

async fn receive<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    let Stopping(stop) = request.extensions().get().cloned().unwrap_or_default();
    let received = tokio::select! {
        biased; // what has arrived already is taken
        received = timeout(MAX_BODY_TIME, Bytes::from_request(request, state)) => received,
        () = stop.cancelled() => return Err(shutting_down()),
    };
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

/// Checks the syntax first, so that an error in it is reported as one wherever it is.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        let detail = "the body is empty; send a JSON object";
        return Err(Problem::new(codes::MALFORMED_JSON, detail));
    }
    let json: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
    if !json.get().starts_with('{') {
        // serde would also fill a struct's fields from a list, by their order.
        let detail = "the body must be a JSON object";
        return Err(Problem::new(codes::INVALID_BODY, detail));
    }
    let mut json = serde_json::Deserializer::from_str(json.get());
    serde_path_to_error::deserialize(&mut json).map_err(refuse_body)
}

fn refuse_body(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    match error.inner().classify() {
        Category::Data => refuse(codes::INVALID_BODY, &error),
        _ => malformed(error.into_inner()),
    }
}

fn malformed(error: serde_json::Error) -> Problem {
    Problem::new(codes::MALFORMED_JSON, error.to_string())
}

fn refuse_path(rejection: PathRejection) -> Problem {
    const DETAIL: &str = "the path holds no valid id";
    let PathRejection::FailedToDeserializePathParams(error) = rejection else {
        return Problem::new(codes::INVALID_ID, DETAIL);
    };
    match error.into_kind() {
        ErrorKind::DeserializeError { key, message, .. } => {
            Problem::field(codes::INVALID_ID, key, clipped(&message))
        }
        ErrorKind::InvalidUtf8InPathParam { key } => {
            Problem::field(codes::INVALID_ID, key, "not UTF-8 once percent-decoded")
        }
        _ => Problem::new(codes::INVALID_ID, DETAIL),
    }
}

/// axum wraps serde's error, and only that one names the field.
fn refuse_query(rejection: &QueryRejection) -> Problem {
    let first: &(dyn Error + 'static) = rejection;
    let mut causes = iter::successors(Some(first), |&error| error.source());
    match causes.find_map(|error| error.downcast_ref()) {
        Some(error) => refuse::<value::Error>(codes::INVALID_QUERY, error),
        None => Problem::new(codes::INVALID_QUERY, "the query string cannot be read"),
    }
}

/// Names the field, if there is one to blame.
fn refuse<E: Display>(code: Code, error: &serde_path_to_error::Error<E>) -> Problem {
    let (path, said) = (error.path().to_string(), error.inner().to_string());
    let detail = clipped(&said);
    match field(&path, &said) {
        Some(field) => Problem::field(code, head(field), detail),
        None => Problem::new(code, detail),
    }
}

/// The field: the path at which serde stopped or, for a missing, unknown or repeated field, the one that serde names.
fn field<'a>(path: &'a str, said: &'a str) -> Option<&'a str> {
    if path != "." {
        return Some(path);
    }
    let (kind, named) = said.split_once(" field `")?;
    match kind {
        "missing" | "unknown" | "duplicate" => named.split('`').next(),
        _ => None,
    }
}

/// serde quotes the value it refuses, which may be as long as the body, and then says what it expected.
fn clipped(said: &str) -> String {
    let (refused, expected) = said.split_at(said.rfind(", expected ").unwrap_or(said.len()));
    let (words, quoted) = refused.split_at(refused.find(['`', '"']).unwrap_or(refused.len()));
    format!("{words}{}{expected}", head(quoted))
}

fn head(quoted: &str) -> String {
    match quoted.char_indices().nth(MAX_QUOTED_CHARACTERS) {
        Some((end, _)) => format!("{}…", &quoted[..end]),
        None => quoted.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

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
            field(".", "duplicate field `name` at line 1 column 20"),
            Some("name")
        );
        assert_eq!(
            field(".", "invalid type: integer `1`, expected struct"),
            None
        );
    }

    #[test]
    fn what_is_quoted_has_an_end_and_what_is_expected_stays() {
        let (long, clip) = ("語".repeat(1000), "語".repeat(MAX_QUOTED_CHARACTERS - 1));
        for (said, shown) in [
            (
                format!("unknown field `{long}`, expected `name` or `email`"),
                format!("unknown field `{clip}…, expected `name` or `email`"),
            ),
            (
                format!("invalid type: string \"{long}\""),
                format!("invalid type: string \"{clip}…"),
            ),
        ] {
            assert_eq!(clipped(&said), shown);
        }
        let short = "invalid type: integer `1`, expected a string at line 1 column 10";
        assert_eq!(clipped(short), short);
    }

    #[test]
    fn json_is_json_with_and_without_parameters_labelled_once_and_not_packed() {
        let labelled = |labels: &[(HeaderName, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, label) in labels {
                headers.append(name, HeaderValue::from_static(label));
            }
            expect_json(&headers).is_ok()
        };
        let json = (CONTENT_TYPE, "application/json");
        assert!(labelled(std::slice::from_ref(&json)));
        assert!(labelled(&[(
            CONTENT_TYPE,
            "Application/JSON; charset=utf-8"
        )]));
        assert!(labelled(&[json.clone(), (CONTENT_ENCODING, "Identity")]));
        assert!(!labelled(&[(CONTENT_TYPE, "application/jsonp")]));
        assert!(!labelled(&[(CONTENT_TYPE, "text/plain")]));
        assert!(!labelled(&[json.clone(), json.clone()]));
        for encoding in ["gzip", "identity, gzip", "br", ""] {
            assert!(!labelled(&[json.clone(), (CONTENT_ENCODING, encoding)]));
        }
        assert!(expect_json(&HeaderMap::new()).is_err());
    }
}

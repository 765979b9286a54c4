//! The problem: the one shape of every refusal (RFC 9457, `application/problem+json`).

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use relay::error::{ReadError, chain};
use relay::event::Trace;
use relay::{ApplyError, EmitError, WriteError, rusqlite};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::codes;
use crate::observe::sampled::may_log;

/// A refusal: its kind, its detail, and the fields of the request that are to blame.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    document: Box<ProblemDocument>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A kind of problem. Programs compare its name, so a name never changes its meaning. Only [`problem_codes!`] declares one, and
/// lists it too, so every code can be looked up.
///
/// [`problem_codes!`]: crate::problem_codes
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    status: StatusCode,
    name: &'static str,
    title: &'static str,
}

/// Declares a registry of problem codes: a constant for each, and `ALL` of them.
///
/// ```
/// service_kit::problem_codes! {
///     NOTE_NOT_FOUND = NOT_FOUND, "note_not_found", "There is no such note";
/// }
/// assert_eq!(ALL, [NOTE_NOT_FOUND]);
/// ```
#[macro_export]
macro_rules! problem_codes {
    ($($(#[$doc:meta])* $code:ident = $status:ident, $name:literal, $title:literal;)+) => {
        $(
            #[doc = concat!($title, ".")]
            #[doc = ""]
            $(#[$doc])*
            pub const $code: $crate::Code =
                $crate::Code::__listed($crate::__StatusCode::$status, $name, $title);
        )+
        /// Every code above.
        pub const ALL: &[$crate::Code] = &[$($code),+];
    };
}

/// How it travels: a refusal (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemDocument {
    /// The code as a URN.
    #[serde(rename = "type")]
    kind: String,
    /// The code in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// For programs: never renamed, never given another meaning.
    code: &'static str,
    /// What is wrong with this very request and, where there is one, the cure.
    detail: String,
    /// The fields that are to blame, where some are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(inline, required = false)]
    errors: Vec<FieldError>,
    /// Finds the request's lines in the service's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct FieldError {
    /// Its path.
    field: String,
    /// What is wrong with it.
    detail: String,
}

/// How long a client should wait before it asks a busy service again.
const RETRY_AFTER_S: u64 = 1;

impl Code {
    #[doc(hidden)]
    pub const fn __listed(status: StatusCode, name: &'static str, title: &'static str) -> Self {
        Self {
            status,
            name,
            title,
        }
    }

    /// The HTTP status it is answered with.
    pub const fn status(self) -> StatusCode {
        self.status
    }

    /// `email_taken`
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// The same in words, for people.
    pub const fn title(self) -> &'static str {
        self.title
    }

    /// As `type` of a problem.
    pub(crate) fn urn(self) -> String {
        format!("urn:freehold:problem:{}", self.name)
    }

    pub(crate) fn document(self, detail: impl Into<String>) -> ProblemDocument {
        ProblemDocument {
            kind: self.urn(),
            title: self.title,
            status: self.status.as_u16(),
            code: self.name,
            detail: detail.into(),
            errors: Vec::new(),
            request_id: None,
        }
    }
}

impl Problem {
    /// `detail` says what is wrong with this very request and, where there is one, the cure.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            document: Box::new(code.document(detail)),
            headers: Vec::new(),
        }
    }

    /// A problem with one field of the request: the detail is about that field.
    pub fn field(code: Code, field: impl Into<String>, detail: impl Into<String>) -> Self {
        let (field, detail) = (field.into(), detail.into());
        let mut problem = Self::new(code, &detail);
        problem.document.errors = vec![FieldError { field, detail }];
        problem
    }

    /// Our fault. Its source goes to the log, once and not too often; the client learns nothing of it.
    pub fn internal(cause: &dyn std::error::Error) -> Self {
        Self::failed(&chain(cause))
    }

    fn failed(error: &str) -> Self {
        if let Some(withheld) = may_log("a request failed") {
            tracing::error!(%error, withheld, "a request failed");
        }
        Self::new(
            codes::INTERNAL,
            "this service failed; its log has the reason",
        )
    }

    /// With `Retry-After`: the client should retry soon.
    #[must_use]
    pub fn retry_later(self) -> Self {
        self.with_header(RETRY_AFTER, RETRY_AFTER_S.into())
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The code that programs compare.
    pub fn code(&self) -> Code {
        self.code
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.document.request_id = Trace::current().request_id;
        let mut response = (self.code.status, Json(self.document)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response.headers_mut().extend(self.headers);
        response.extensions_mut().insert(self.code);
        response
    }
}

/// For extractors whose rejection is a response.
impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        problem.into_response()
    }
}

/// A refusal by the work inside the transaction stays as it is. The others are sorted by what the client can do next.
impl<E: Into<Problem>> From<WriteError<E>> for Problem {
    fn from(error: WriteError<E>) -> Self {
        match error {
            WriteError::Work(refused) => refused.into(),
            WriteError::Busy(why) => {
                Self::new(codes::BUSY, format!("{why}; try again")).retry_later()
            }
            WriteError::Halted(reason) => Self::new(
                codes::WRITES_HALTED,
                format!("this service writes nothing until an operator has decided: {reason}"),
            ),
            WriteError::MustImport(reason) => Self::new(
                codes::MUST_IMPORT,
                format!(
                    "this service writes once its database agrees with its stream: {reason}; try again"
                ),
            )
            .retry_later(),
            WriteError::Full => Self::new(
                codes::DISK_FULL,
                "the service's disk is full; reads still work",
            ),
            WriteError::Closed => shutting_down(),
            error @ (WriteError::Unknown | WriteError::Panicked(_) | WriteError::Failed(_)) => {
                Self::failed(&error.to_string())
            }
        }
    }
}

impl<E: Into<Problem>> From<ReadError<E>> for Problem {
    fn from(error: ReadError<E>) -> Self {
        match error {
            ReadError::Work(refused) => refused.into(),
            ReadError::Closed => shutting_down(),
            error @ ReadError::Panicked(_) => Self::failed(&error.to_string()),
        }
    }
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Self {
        Self::internal(&error)
    }
}

impl From<EmitError> for Problem {
    fn from(error: EmitError) -> Self {
        Self::internal(&error)
    }
}

/// Only an operator retries events by hand, and learns why one was not applied.
impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        Self::new(codes::NOT_APPLIED, error.to_string())
    }
}

fn shutting_down() -> Problem {
    Problem::new(
        codes::SHUTTING_DOWN,
        "the service is shutting down; try again",
    )
    .retry_later()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_says_what_the_client_can_do_next() {
        let sorted = [
            (WriteError::Busy("why".to_owned()), codes::BUSY, true),
            (
                WriteError::Halted("why".to_owned()),
                codes::WRITES_HALTED,
                false,
            ),
            (
                WriteError::MustImport("why".to_owned()),
                codes::MUST_IMPORT,
                true,
            ),
            (WriteError::Full, codes::DISK_FULL, false),
            (WriteError::Closed, codes::SHUTTING_DOWN, true),
            (
                WriteError::Failed("secret".to_owned()),
                codes::INTERNAL,
                false,
            ),
            (
                WriteError::Panicked("secret".to_owned()),
                codes::INTERNAL,
                false,
            ),
            (
                WriteError::Work(rusqlite::Error::InvalidQuery),
                codes::INTERNAL,
                false,
            ),
        ];
        for (error, code, retry) in sorted {
            let problem = Problem::from(error);
            assert_eq!(problem.code(), code);
            assert!(!problem.document.detail.contains("secret"));
            assert_eq!(
                problem.into_response().headers().contains_key(RETRY_AFTER),
                retry
            );
        }
    }

    #[test]
    fn it_travels_as_problem_json() {
        let answer = Problem::field(codes::INVALID_BODY, "email", "missing").into_response();
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/problem+json");
    }
}

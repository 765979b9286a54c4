//! `ETag` and `If-Match`: a thing's version as its tag, and the wish to change only what one has read.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderValue;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::response::{IntoResponseParts, ResponseParts};

use crate::{Problem, codes};

/// The version of what the answer shows: `"3"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag(pub u64);

/// The version a client wants to change, or none when any will do (no header, or `*`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfMatch(pub Option<u64>);

/// The same where a change must name what it changes: without the header it is 428.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MustMatch(IfMatch);

/// The thing has another version than the client wants to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is at version {current}")]
pub struct VersionMismatch {
    pub current: u64,
}

impl ETag {
    pub(crate) fn header(self) -> HeaderValue {
        let tag = HeaderValue::try_from(format!("\"{}\"", self.0));
        tag.expect("digits in quotes make a header")
    }
}

impl IntoResponseParts for ETag {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.headers_mut().insert(ETAG, self.header());
        Ok(parts)
    }
}

impl IfMatch {
    /// To be asked inside the transaction that changes the thing: outside it the answer may be old.
    pub fn check(self, current: u64) -> Result<(), VersionMismatch> {
        match self.0 {
            Some(wanted) if wanted != current => Err(VersionMismatch { current }),
            _ => Ok(()),
        }
    }

    /// Lists and weak tags are refused: a thing has one version, and a change needs that very one.
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self(None));
        }
        let digits = text.strip_prefix('"')?.strip_suffix('"')?;
        let version: u64 = digits.parse().ok()?;
        // No sign and no leading zero: a tag is compared as text, so it has one spelling.
        (version.to_string() == digits).then_some(Self(Some(version)))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut headers = parts.headers.get_all(IF_MATCH).iter();
        let parsed = match (headers.next(), headers.next()) {
            (None, _) => Some(Self(None)),
            (Some(one), None) => one.to_str().ok().and_then(|text| Self::parse(text.trim())),
            (Some(_), Some(_)) => None,
        };
        let detail = "send `*` or the one version you have read, in quotes, as the ETag header gave it: \"3\"";
        parsed.ok_or_else(|| Problem::new(codes::INVALID_IF_MATCH, detail))
    }
}

impl MustMatch {
    /// To be asked inside the transaction that changes the thing.
    pub fn check(self, current: u64) -> Result<(), VersionMismatch> {
        self.0.check(current)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MustMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        if !parts.headers.contains_key(IF_MATCH) {
            let detail = "send `If-Match` with the version you have read, as the ETag header gave it, or `*` if any will do";
            return Err(Problem::new(codes::PRECONDITION_REQUIRED, detail));
        }
        IfMatch::from_request_parts(parts, state).await.map(Self)
    }
}

impl From<VersionMismatch> for Problem {
    fn from(mismatch: VersionMismatch) -> Self {
        let VersionMismatch { current } = mismatch;
        let detail = format!("it is at version {current}; read it again and decide anew");
        Self::new(codes::VERSION_MISMATCH, detail).with_header(ETAG, ETag(current).header())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_one_spelling() {
        assert_eq!(IfMatch::parse("\"3\""), Some(IfMatch(Some(3))));
        assert_eq!(IfMatch::parse("*"), Some(IfMatch(None)));
        for other in [
            "",
            "3",
            "\"\"",
            "\"03\"",
            "\"+3\"",
            "\"-3\"",
            "W/\"3\"",
            "\"3\", \"4\"",
            "\"x\"",
            "\"",
        ] {
            assert_eq!(IfMatch::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_wanted_version_may_change() {
        assert_eq!(IfMatch(None).check(7), Ok(()));
        assert_eq!(IfMatch(Some(7)).check(7), Ok(()));
        assert_eq!(
            IfMatch(Some(6)).check(7),
            Err(VersionMismatch { current: 7 })
        );
    }
}

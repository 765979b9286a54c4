//! `ETag`, `If-Match` and `If-None-Match`: a thing's version as its tag, and the conditions of a request.

use std::convert::Infallible;
use std::fmt::Display;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, Request};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponseParts, Response, ResponseParts};

use crate::http::{Code, Problem, codes};

/// The version of the answer's content: `"3"`. An answer that combines several resources has a tag that is no number, so that
/// no client takes it for the version of one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ETag<T = u64>(pub T);

/// The versions at which the client wants the change: `If-Match` and `If-None-Match`. Without them, any version.
#[derive(Debug, Default)]
pub struct IfMatch {
    wanted: Option<Tags>,
    unwanted: Option<Tags>,
}

/// The same where a change must name the version: without `If-Match` it is refused with 428.
#[derive(Debug)]
pub struct MustMatch(IfMatch);

/// The tags of one header, all its lines together.
#[derive(Debug, PartialEq, Eq)]
enum Tags {
    Any,
    These(Vec<Vec<u8>>),
}

/// A client has read few versions of one thing.
const MAX_TAGS: usize = 64;
/// Suffixes that proxies add inside the quotes when they compress an answer: `"3-gzip"` (Apache), `"3--gzip"` or `"3;gzip"` (Jetty).
const CODINGS: [&[u8]; 4] = [b"gzip", b"br", b"zstd", b"deflate"];
const BEFORE_CODING: [&[u8]; 3] = [b"--", b"-", b";"];

impl<T: Display> ETag<T> {
    pub(crate) fn header(self) -> HeaderValue {
        let tag = HeaderValue::try_from(format!("\"{}\"", self.0));
        tag.expect("versions in quotes make a header")
    }
}

impl<T: Display> IntoResponseParts for ETag<T> {
    type Error = Infallible;

    fn into_response_parts(self, mut parts: ResponseParts) -> Result<ResponseParts, Infallible> {
        parts.headers_mut().insert(ETAG, self.header());
        Ok(parts)
    }
}

impl IfMatch {
    /// Call it inside the transaction that changes the thing: outside it the answer may be old.
    ///
    /// # Errors
    ///
    /// `version_mismatch` (412): the thing has another version than the client has read. `version_matches` (412): it has a
    /// version that `If-None-Match` names.
    pub fn check(&self, current: impl Display) -> Result<(), Problem> {
        self.hold(&ETag(current).header())
    }

    fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        Ok(Self {
            wanted: Tags::of(headers, &IF_MATCH, codes::INVALID_IF_MATCH)?,
            unwanted: Tags::of(headers, &IF_NONE_MATCH, codes::INVALID_IF_NONE_MATCH)?,
        })
    }

    /// `If-Match` decides first (RFC 9110, section 13.2.2).
    fn hold(&self, current: &HeaderValue) -> Result<(), Problem> {
        let version = String::from_utf8_lossy(current.as_bytes());
        let version = version.trim_matches('"');
        let unmet = match (&self.wanted, &self.unwanted) {
            (Some(wanted), _) if !wanted.have(current) => Problem::new(
                codes::VERSION_MISMATCH,
                format!("it is at version {version}; read it again and decide anew"),
            ),
            (_, Some(unwanted)) if unwanted.have(current) => Problem::new(
                codes::VERSION_MATCHES,
                format!("it is at version {version}, which If-None-Match names"),
            ),
            _ => return Ok(()),
        };
        Err(unmet.with_header(ETAG, current.clone()))
    }
}

impl Tags {
    fn of(headers: &HeaderMap, name: &HeaderName, code: Code) -> Result<Option<Self>, Problem> {
        if !headers.contains_key(name) {
            return Ok(None);
        }
        let lines = headers.get_all(name).iter().map(HeaderValue::as_bytes);
        let text = lines.collect::<Vec<_>>().join(&b',');
        let detail = || {
            format!(
                "send `*`, or the version you have read in quotes, as the ETag header gave it: \"3\"; several, at most {MAX_TAGS}, with commas between them"
            )
        };
        let parsed = Self::parse(&text);
        parsed.map(Some).ok_or_else(|| Problem::new(code, detail()))
    }

    fn parse(text: &[u8]) -> Option<Self> {
        match text.trim_ascii() {
            b"*" => Some(Self::Any),
            list => tags(list).map(Self::These),
        }
    }

    /// A weak tag counts like a strong one, for changes too: our tags name versions, not bytes, so a proxy that compresses the
    /// answer and weakens the tag changes nothing.
    fn have(&self, current: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::These(tags) => tags.iter().any(|tag| tag == current.as_bytes()),
        }
    }
}

/// A list may have empty places (RFC 9110, section 5.6.1), but not two tags without a comma between them.
fn tags(mut text: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut tags = Vec::new();
    while let Some(blank) = text.iter().position(|byte| !b" \t,".contains(byte)) {
        if !tags.is_empty() && !text[..blank].contains(&b',') {
            return None;
        }
        let (opaque, rest) = first_tag(&text[blank..])?;
        tags.push([b"\"", without_coding(opaque), b"\""].concat());
        text = rest;
    }
    (1..=MAX_TAGS).contains(&tags.len()).then_some(tags)
}

/// What is in the quotes of the tag at the beginning, and what follows it (RFC 9110, section 8.8.3).
fn first_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = text.strip_prefix(b"W/").unwrap_or(text);
    let quoted = quoted.strip_prefix(b"\"")?;
    let end = quoted.iter().position(|byte| *byte == b'"')?;
    let (opaque, rest) = (&quoted[..end], &quoted[end + 1..]);
    let visible = |byte: &u8| byte.is_ascii_graphic() || !byte.is_ascii();
    opaque.iter().all(visible).then_some((opaque, rest))
}

fn without_coding(tag: &[u8]) -> &[u8] {
    let coded = CODINGS.iter().find_map(|coding| tag.strip_suffix(*coding));
    let plain = coded.and_then(|of| BEFORE_CODING.iter().find_map(|sign| of.strip_suffix(*sign)));
    plain.unwrap_or(tag)
}

/// Answers a GET or HEAD 304 when the client has the version that would be shown. An answer without a tag is always shown.
pub(crate) async fn show_if_changed(request: Request, next: Next) -> Result<Response, Problem> {
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return Ok(next.run(request).await);
    }
    let conditions = IfMatch::of(request.headers());
    let response = next.run(request).await;
    let (StatusCode::OK, Some(tag)) = (response.status(), response.headers().get(ETAG)) else {
        return Ok(response);
    };
    match conditions?.hold(tag) {
        Ok(()) => Ok(response),
        Err(unmet) if unmet.code() == codes::VERSION_MATCHES => Ok(not_modified(response)),
        Err(unmet) => Err(unmet),
    }
}

/// The same headers without the body's. A 304 has the length of the 200 or none, and axum would send 0.
fn not_modified(mut response: Response) -> Response {
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    let of_no_known_length = futures::stream::empty::<Result<Bytes, Infallible>>();
    *response.body_mut() = Body::from_stream(of_no_known_length);
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of(&parts.headers)
    }
}

impl MustMatch {
    /// Call it inside the transaction that changes the thing.
    ///
    /// # Errors
    ///
    /// As [`IfMatch::check`].
    pub fn check(&self, current: impl Display) -> Result<(), Problem> {
        self.0.check(current)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for MustMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if !parts.headers.contains_key(IF_MATCH) {
            let detail = "send `If-Match` with the version you have read, as the ETag header gave it, or `*` if any will do";
            return Err(Problem::new(codes::PRECONDITION_REQUIRED, detail));
        }
        IfMatch::of(&parts.headers).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions(lines: &[(&HeaderName, &str)]) -> Result<IfMatch, Code> {
        let mut headers = HeaderMap::new();
        for (name, line) in lines {
            headers.append(*name, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        IfMatch::of(&headers).map_err(|problem| problem.code())
    }

    /// Which header keeps a request from a thing at version 3.
    fn unmet(lines: &[(&HeaderName, &str)]) -> Option<Code> {
        let held = conditions(lines).unwrap().check(3);
        held.err().map(|problem| problem.code())
    }

    #[test]
    fn a_version_is_named_alone_in_a_list_weakly_and_by_a_proxy_that_packs() {
        for named in [
            "*",
            " * ",
            "\"3\"",
            "W/\"3\"",
            "\"1\", W/\"3\"",
            "\"1\",\t\"3\" ,\"x\"",
            ", \"3\",,",
            "\"a,b\", \"3\"",
            "\"3-gzip\"",
            "W/\"3--gzip\"",
            "\"3;gzip\"",
            "\"3-br\"",
            "\"ü\",\"3-zstd\"",
        ] {
            assert_eq!(unmet(&[(&IF_MATCH, named)]), None, "{named}");
            assert_eq!(
                unmet(&[(&IF_NONE_MATCH, named)]),
                Some(codes::VERSION_MATCHES),
                "{named}"
            );
        }
        for other in [
            "\"4\"",
            "W/\"4\", \"1\"",
            "\"\"",
            "\"03\"",
            "\"+3\"",
            "\"x\"",
            "\"3-tar\"",
            "\"3gzip\"",
            "\"3.shared\"",
        ] {
            assert_eq!(
                unmet(&[(&IF_MATCH, other)]),
                Some(codes::VERSION_MISMATCH),
                "{other}"
            );
            assert_eq!(unmet(&[(&IF_NONE_MATCH, other)]), None, "{other}");
        }
    }

    #[test]
    fn lines_are_one_list_and_if_match_decides_first() {
        assert_eq!(unmet(&[(&IF_MATCH, "\"1\""), (&IF_MATCH, "\"3\"")]), None);
        let both = |wanted| unmet(&[(&IF_NONE_MATCH, "*"), (&IF_MATCH, wanted)]);
        assert_eq!(both("\"1\""), Some(codes::VERSION_MISMATCH));
        assert_eq!(both("\"3\""), Some(codes::VERSION_MATCHES));
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused() {
        let most = vec!["\"1\""; MAX_TAGS].join(",");
        let too_many = format!("{most},\"1\"");
        assert!(conditions(&[(&IF_MATCH, &most)]).is_ok());
        for bad in [
            "",
            ",",
            "3",
            "W/3",
            "w/\"3\"",
            "W/ \"3\"",
            "\"",
            "\"3",
            "3\"",
            "\"3\" \"4\"",
            "\"3\"\"4\"",
            "*, \"3\"",
            "\"3\", *",
            "\"a b\"",
            "**",
            &too_many,
        ] {
            assert_eq!(
                conditions(&[(&IF_MATCH, bad)]).unwrap_err(),
                codes::INVALID_IF_MATCH,
                "{bad}"
            );
            let refused = conditions(&[(&IF_NONE_MATCH, bad)]);
            assert_eq!(refused.unwrap_err(), codes::INVALID_IF_NONE_MATCH, "{bad}");
        }
        let beside = conditions(&[(&IF_MATCH, "*"), (&IF_MATCH, "\"3\"")]);
        assert_eq!(beside.unwrap_err(), codes::INVALID_IF_MATCH);
    }
}

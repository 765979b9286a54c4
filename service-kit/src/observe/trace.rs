//! Which request this is: a W3C `traceparent` and an `X-Request-Id`, taken from the caller or created here. Both are in the
//! answer, in the logs and in every refusal, and go with every event that the request emits.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use relay::environment::{Environment, System};
use relay::event::Trace;
use tracing::Instrument;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is accepted; a longer one is replaced.
pub const MAX_REQUEST_ID_CHARACTERS: usize = 128;

/// The ids of the current request as headers, for a request to another service on its behalf. Empty outside of requests.
pub fn headers() -> HeaderMap {
    let trace = Trace::current();
    let named = [
        (TRACEPARENT, trace.traceparent),
        (REQUEST_ID, trace.request_id),
    ];
    let header = |(name, value): (_, Option<String>)| Some((name, value?.try_into().ok()?));
    named.into_iter().filter_map(header).collect()
}

/// Outermost, so that every answer carries both.
pub async fn accompany(request: Request, next: Next) -> Response {
    let (trace_id, flags) = trace_of(request.headers());
    let request_id = request_id(request.headers());
    // At the highest level, so that no filter removes the ids from the lines that it lets through.
    let span = tracing::error_span!("request", request_id, trace_id);
    let trace = Trace {
        traceparent: Some(format!("00-{trace_id}-{}-{flags:02x}", System.draw_word())),
        request_id: Some(request_id),
    };
    let answered = relay::event::traced(trace.clone(), next.run(request));
    let mut response = answered.instrument(span).await;
    let sent = relay::event::traced(trace, async { headers() }).await;
    response.headers_mut().extend(sent);
    response
}

/// The flags that level 1 of <https://www.w3.org/TR/trace-context/> knows: sampled, and a random trace id. It says to clear others.
const KNOWN_FLAGS: u8 = 0b11;
const RANDOM_ID: u8 = 0b10;

/// Id and flags of the trace that the request is part of, or of a new one. A malformed header is ignored.
fn trace_of(headers: &HeaderMap) -> (String, u8) {
    match only(headers, &TRACEPARENT).and_then(parse) {
        Some((trace_id, flags)) => (trace_id, flags & KNOWN_FLAGS),
        None => (random_id(), RANDOM_ID),
    }
}

/// 32 hex digits.
fn random_id() -> String {
    format!("{}{}", System.draw_word(), System.draw_word())
}

/// Trace id and flags. A later version may add fields; version 255 is not valid.
fn parse(text: &str) -> Option<(String, u8)> {
    let mut fields = text.splitn(5, '-');
    let mut hex = |digits: usize| fields.next().filter(|field| is_hex(field, digits));
    let (version, trace_id, parent_id) = (hex(2)?, hex(32)?, hex(16)?);
    let flags = u8::from_str_radix(hex(2)?, 16).ok()?;
    let ends = fields.next().is_none();
    let is_null = |id: &str| id.bytes().all(|digit| digit == b'0');
    let valid = version != "ff" && (ends || version != "00");
    (valid && !is_null(trace_id) && !is_null(parent_id)).then(|| (trace_id.to_owned(), flags))
}

fn is_hex(field: &str, digits: usize) -> bool {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    field.len() == digits && field.bytes().all(lower)
}

fn request_id(headers: &HeaderMap) -> String {
    let sent = only(headers, &REQUEST_ID).filter(|id| is_request_id(id));
    sent.map_or_else(random_id, str::to_owned)
}

fn is_request_id(text: &str) -> bool {
    (1..=MAX_REQUEST_ID_CHARACTERS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `None` for two: which one is right is unknown.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(one), None) => HeaderValue::to_str(one).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_taken_as_it_is_written_or_not_at_all() {
        let taken = |text: String| parse(&text).map(|(_, flags)| flags);
        assert_eq!(taken(format!("00-{TRACE}-{SPAN}-01")), Some(1));
        assert_eq!(taken(format!("00-{TRACE}-{SPAN}-ff")), Some(255));
        assert_eq!(taken(format!("01-{TRACE}-{SPAN}-00")), Some(0));
        assert_eq!(taken(format!("cc-{TRACE}-{SPAN}-00-what-ever")), Some(0));
        let (zeros, upper) = ("0".repeat(32), TRACE.to_uppercase());
        for bad in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("cc-{TRACE}-{SPAN}-01.more"),
            format!("00-{TRACE}-{SPAN}-0x"),
            format!("00-{TRACE}-{SPAN}-+1"),
            format!("00-{zeros}-{SPAN}-01"),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{upper}-{SPAN}-01"),
            format!("00-{TRACE}0-{SPAN}-01"),
            format!(" 00-{TRACE}-{SPAN}-01"),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn a_request_joins_the_trace_that_it_names_once_and_begins_one_otherwise() {
        let of = |lines: &[String]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(TRACEPARENT, line.parse().unwrap());
            }
            trace_of(&headers)
        };
        let sent = format!("00-{TRACE}-{SPAN}-fd");
        assert_eq!(of(std::slice::from_ref(&sent)), (TRACE.to_owned(), 1));
        for (trace_id, flags) in [
            of(&[]),
            of(&["nonsense".to_owned()]),
            of(&[sent.clone(), sent]),
        ] {
            assert_ne!(trace_id, TRACE);
            assert_eq!(flags, RANDOM_ID);
            assert!(is_hex(&trace_id, 32), "{trace_id}");
        }
    }

    #[test]
    fn a_request_id_is_visible_and_has_an_end() {
        for good in ["1", "a/b?c=d", &"x".repeat(MAX_REQUEST_ID_CHARACTERS)] {
            assert!(is_request_id(good), "{good}");
        }
        for bad in [
            "",
            "a b",
            "é",
            "a\t",
            &"x".repeat(MAX_REQUEST_ID_CHARACTERS + 1),
        ] {
            assert!(!is_request_id(bad), "{bad}");
        }
        let drawn = request_id(&HeaderMap::new());
        assert!(is_request_id(&drawn) && drawn != request_id(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn what_is_sent_on_its_behalf_says_so() {
        assert!(headers().is_empty());
        let trace = Trace {
            traceparent: Some(format!("00-{TRACE}-{SPAN}-01")),
            request_id: Some("r-1".to_owned()),
        };
        let sent = relay::event::traced(trace, async { headers() }).await;
        assert_eq!(sent[TRACEPARENT], format!("00-{TRACE}-{SPAN}-01"));
        assert_eq!(sent[REQUEST_ID], "r-1");
    }
}

//! Causal reads: a write answers its position in the log. A client that sends the position with another request, here or to
//! another service, gets an answer that has seen the write, or a refusal in time.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use relay::consume::ConsumerStatus;
use relay::outbox::Outbox;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::auth::{ANONYMOUS, Principal};
use crate::http::server::{Stopping, shutting_down};
use crate::http::{Problem, codes};
use crate::observe::Monitor;

/// On the answer to a write: the position right after it.
pub(crate) const POSITION: HeaderName = HeaderName::from_static("freehold-position");
const WAIT_FOR: HeaderName = HeaderName::from_static("freehold-wait-for");
const MAX_WAIT_MS: HeaderName = HeaderName::from_static("freehold-max-wait-ms");

/// How long a request waits that does not say for how long.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(5);
/// The longest a request may ask to wait. It leaves the handler some of the time that a request has.
pub const MAX_WAIT: Duration = Duration::from_secs(8);
/// Positions one request may wait for.
const MAX_POSITIONS: usize = 16;

/// A position in a stream as clients see it: `users@1042`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamPosition {
    stream: String,
    seq: u64,
}

/// Waits as the request asks to, lets it be handled, and answers the position of what it wrote.
pub(crate) async fn keep_order(
    State(monitor): State<Monitor>,
    request: Request,
    next: Next,
) -> Response {
    // Health and the operator's commands have no caller: they are answered as things are.
    if let Some(caller) = request.extensions().get::<Principal>() {
        let may_wait = !caller.is(ANONYMOUS);
        let stopping = request.extensions().get().cloned().unwrap_or_default();
        if let Err(problem) = wait(&monitor, request.headers(), may_wait, stopping).await {
            return problem.into_response();
        }
    }
    let mut response = next.run(request).await;
    let headers = response.headers();
    // A stored reply carries the position of the first time.
    let tells = response.status().is_success() && !headers.contains_key(POSITION);
    if let (true, Some(seq)) = (tells, relay::event::written()) {
        let place = StreamPosition::new(monitor.db().stream(), seq);
        response.headers_mut().insert(POSITION, place.header());
    }
    response
}

/// A request without a token does not wait: it is handled at once, or refused.
async fn wait(
    monitor: &Monitor,
    headers: &HeaderMap,
    may_wait: bool,
    Stopping(stop): Stopping,
) -> Result<(), Problem> {
    let (positions, longest) = (positions(headers)?, max_wait(headers)?);
    if positions.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + if may_wait { longest } else { Duration::ZERO };
    let mut awaited = Vec::new();
    for position in positions {
        awaited.extend(sources(monitor, position)?);
    }
    for source in &mut awaited {
        let reached = timeout_at(deadline, source.reached());
        match stop.run_until_cancelled(reached).await {
            Some(Ok(true)) => {}
            Some(Err(_)) => return Err(not_caught_up(&awaited)),
            Some(Ok(false)) | None => return Err(shutting_down()),
        }
    }
    Ok(())
}

/// A position, and what reports its progress towards it: the service's own log, or a consumer of the stream.
enum Source {
    Log(StreamPosition, Outbox),
    Consumer(
        StreamPosition,
        std::sync::Arc<str>,
        watch::Receiver<ConsumerStatus>,
    ),
}

impl Source {
    /// False: the log or the consumer is gone.
    async fn reached(&mut self) -> bool {
        match self {
            Self::Log(wanted, outbox) => outbox.reaches(wanted.seq).await,
            Self::Consumer(wanted, _, status) => {
                let reached = status.wait_for(|status| status.offset >= wanted.seq).await;
                reached.is_ok()
            }
        }
    }

    /// How far it is, when that is not far enough.
    fn behind(&self) -> Option<String> {
        let (wanted, done, at, trouble) = match self {
            Self::Log(wanted, outbox) => (wanted, "committed", outbox.committed(), None),
            Self::Consumer(wanted, name, status) => {
                let status = status.borrow();
                let trouble = status.trouble.as_ref();
                let trouble = trouble.map(|trouble| format!(" ({name}: {trouble})"));
                (wanted, "applied", status.offset, trouble)
            }
        };
        let StreamPosition { stream, seq } = wanted;
        let missing = seq.checked_sub(at).filter(|missing| *missing > 0)?;
        let trouble = trouble.unwrap_or_default();
        Some(format!(
            "has {done} {stream}@{at} of {seq}: {missing} behind{trouble}"
        ))
    }
}

/// Every source here of the position's stream.
fn sources(monitor: &Monitor, wanted: StreamPosition) -> Result<Vec<Source>, Problem> {
    let own = monitor.db().stream().to_lowercase();
    let (mut found, mut known) = (Vec::new(), vec![own]);
    if wanted.stream == known[0] {
        found.push(Source::Log(wanted.clone(), monitor.db().outbox()));
    }
    for (name, stream, status) in monitor.consumers() {
        let stream = stream.unwrap_or_default().to_lowercase();
        if stream == wanted.stream {
            found.push(Source::Consumer(
                wanted.clone(),
                name.clone(),
                status.clone(),
            ));
        }
        if !stream.is_empty() && !known.contains(&stream) {
            known.push(stream);
        }
    }
    if found.is_empty() {
        let (stream, known) = (wanted.stream, known.join(", "));
        let detail = format!("this service does not follow {stream}; it knows {known}");
        return Err(invalid(detail));
    }
    Ok(found)
}

/// All of them, comma separated or one a line.
fn positions(headers: &HeaderMap) -> Result<Vec<StreamPosition>, Problem> {
    let mut positions = Vec::new();
    for line in headers.get_all(WAIT_FOR) {
        let line = line.to_str().map_err(|_| invalid("it is no text"))?;
        for word in line.split(',') {
            positions.push(word.trim().parse().map_err(invalid::<String>)?);
        }
    }
    match positions.len() > MAX_POSITIONS {
        true => Err(invalid(format!(
            "wait for at most {MAX_POSITIONS} positions"
        ))),
        false => Ok(positions),
    }
}

fn max_wait(headers: &HeaderMap) -> Result<Duration, Problem> {
    let mut sent = headers.get_all(MAX_WAIT_MS).iter();
    let wait = match (sent.next(), sent.next()) {
        (None, _) => Some(DEFAULT_WAIT),
        (Some(ms), None) => ms.to_str().ok().and_then(number).map(Duration::from_millis),
        (Some(_), Some(_)) => None,
    };
    wait.filter(|wait| *wait <= MAX_WAIT).ok_or_else(|| {
        let limit = MAX_WAIT.as_millis();
        invalid(format!(
            "Freehold-Max-Wait-Ms is a number from 0 to {limit}, sent once"
        ))
    })
}

/// Digits only, in their one spelling.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn invalid<T: Into<String>>(detail: T) -> Problem {
    Problem::new(codes::INVALID_WAIT_FOR, detail)
}

fn not_caught_up(awaited: &[Source]) -> Problem {
    let behind: Vec<String> = awaited.iter().filter_map(Source::behind).collect();
    let detail = match behind.is_empty() {
        true => "it has just reached the position; try again".to_owned(),
        false => format!("this service {}", behind.join("; it ")),
    };
    Problem::new(codes::NOT_CAUGHT_UP, detail).retry_later()
}

impl StreamPosition {
    pub(crate) fn new(stream: &str, seq: u64) -> Self {
        Self {
            stream: stream.to_lowercase(),
            seq,
        }
    }

    pub(crate) fn header(&self) -> HeaderValue {
        let header = HeaderValue::try_from(self.to_string());
        header.expect("a stream's name and a number make a header")
    }
}

impl fmt::Display for StreamPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.stream, self.seq)
    }
}

impl FromStr for StreamPosition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (stream, seq) = text.split_once('@')?;
            let of_name = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
            };
            let named = !stream.is_empty() && stream.bytes().all(of_name);
            let seq = number(seq)?;
            named.then(|| Self::new(stream, seq))
        };
        parse().ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            format!("{shown:?} is no position in a stream, such as users@1042")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_str(line).unwrap());
        }
        headers
    }

    #[test]
    fn a_position_has_one_spelling() {
        for good in ["users@1042", "users@0", "a_b-2@18446744073709551615"] {
            assert_eq!(good.parse::<StreamPosition>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "users",
            "@1",
            "users@",
            "users@-1",
            "users@+1",
            "users@01",
            "USERS@1",
            "users@1 ",
            "users@1@2",
            "users@18446744073709551616",
            "us ers@1",
            "users@1.0",
        ] {
            assert!(bad.parse::<StreamPosition>().is_err(), "{bad}");
        }
        assert_eq!(StreamPosition::new("USERS", 7).header(), "users@7");
    }

    #[test]
    fn several_positions_come_comma_separated_or_one_a_line() {
        let read = |lines: &[&str]| {
            let positions = positions(&with(WAIT_FOR, lines)).map_err(|problem| problem.code());
            positions.map(|found| {
                found
                    .iter()
                    .map(StreamPosition::to_string)
                    .collect::<Vec<_>>()
            })
        };
        assert_eq!(read(&[]), Ok(vec![]));
        let three = ["a@1", "b@2", "c@3"].map(str::to_owned).to_vec();
        assert_eq!(read(&["a@1, b@2", "c@3"]), Ok(three));
        let many = vec!["a@1"; MAX_POSITIONS + 1].join(",");
        for bad in ["", "a@1,", "a@1 b@2", "a@x", &many] {
            assert_eq!(read(&[bad]), Err(codes::INVALID_WAIT_FOR), "{bad}");
        }
    }

    #[test]
    fn a_wait_has_its_limits() {
        let ms = |lines: &[&str]| max_wait(&with(MAX_WAIT_MS, lines)).ok();
        assert_eq!(ms(&[]), Some(DEFAULT_WAIT));
        assert_eq!(ms(&["0"]), Some(Duration::ZERO));
        assert_eq!(ms(&["8000"]), Some(MAX_WAIT));
        for bad in ["", "8001", "-1", "+1", "1.5", "1 s", "007"] {
            assert_eq!(ms(&[bad]), None, "{bad}");
        }
        assert_eq!(ms(&["1", "1"]), None);
    }
}

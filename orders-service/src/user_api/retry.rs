//! Whether to call again, and when. Pure but for the jitter.

use std::time::Duration;

use backon::ExponentialBuilder;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::StatusCode;

/// The pauses between the calls of one question: three at most, from 50 ms, doubling. Jitter keeps clients that failed
/// together from coming back together.
pub(super) fn pauses() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(400))
        .with_max_times(3)
        .with_jitter()
}

/// A call with less time than this would only count as a failure.
pub(super) const MIN_CALL_TIME: Duration = Duration::from_millis(20);

/// The pause before the next call: as drawn, and not shorter than the server asks for. `None` if there are no more, or if no
/// time would be left for the call.
pub(super) fn pause(
    drawn: Option<Duration>,
    retry_after: Option<Duration>,
    left: Duration,
) -> Option<Duration> {
    let pause = drawn?.max(retry_after.unwrap_or_default());
    (left.saturating_sub(pause) >= MIN_CALL_TIME).then_some(pause)
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3). Ignores anything else.
pub(super) fn after(value: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// "Not now" rather than "no".
pub(super) fn is_transient(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

#[cfg(test)]
mod tests {
    use backon::BackoffBuilder;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_pause_is_as_drawn_or_as_the_server_asks_if_there_is_time() {
        assert_eq!(pause(Some(MS(50)), None, MS(100)), Some(MS(50)));
        assert_eq!(pause(Some(MS(50)), Some(MS(80)), MS(100)), Some(MS(80)));
        assert_eq!(pause(Some(MS(50)), Some(MS(0)), MS(100)), Some(MS(50)));
        assert_eq!(pause(Some(MS(50)), Some(MS(81)), MS(100)), None);
        assert_eq!(pause(Some(MS(50)), Some(Duration::MAX), MS(100)), None);
        assert_eq!(pause(Some(MS(50)), None, MS(0)), None);
        assert_eq!(pause(None, Some(MS(0)), MS(100)), None);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(after("2", now), Some(MS(2000)));
        let date = "Thu, 01 Jan 2026 00:00:07 GMT";
        assert_eq!(after(date, now), Some(MS(7000)));
        let gone = "Wed, 31 Dec 2025 23:59:59 GMT";
        assert_eq!(after(gone, now), Some(MS(0)));
        for nothing in ["", "soon", "-1", "1.5"] {
            assert_eq!(after(nothing, now), None, "{nothing}");
        }
    }

    #[test]
    fn three_pauses_grow_and_end() {
        let drawn: Vec<Duration> = pauses().build().collect();
        assert_eq!(drawn.len(), 3);
        assert!(drawn[0] >= MS(50) && drawn[2] >= MS(200), "{drawn:?}");
    }
}

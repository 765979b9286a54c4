//! Whether to ask once more, and when. Pure but for the jitter.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::StatusCode;

use super::Why;

/// Between the calls of one question: from 50 ms, doubling, with jitter, so that those who failed together do not come
/// back together. Three at most; then the owner is not only tired.
pub(super) fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_millis(400))
        .with_max_times(3)
        .with_jitter()
        .build()
}

/// A call with less time than this would only be counted as a failure.
pub(super) const MIN_CALL_TIME: Duration = Duration::from_millis(20);

/// How long to wait before the next call: what was drawn, and not less than the owner asked for. `None` when nothing was
/// drawn, or when no time would be left to call in.
pub(super) fn pause(
    drawn: Option<Duration>,
    retry_after: Option<Duration>,
    left: Duration,
) -> Option<Duration> {
    let pause = drawn?.max(retry_after.unwrap_or_default());
    (left.saturating_sub(pause) >= MIN_CALL_TIME).then_some(pause)
}

/// What `Retry-After` says: seconds, or a date (RFC 9110, section 10.2.3). What cannot be read says nothing.
pub(super) fn after(said: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = said.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTimeParser::new().parse_timestamp(said).ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

/// A status that says "not now" rather than "no".
pub(super) fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

impl Why {
    /// Whether the same question may be answered in a moment.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Silent(_) | Self::NotNow { .. })
    }

    /// Whether it is the owner who is not well. One that says no to this very question is well; what something else says
    /// in its place does not show that it is.
    pub(super) fn is_illness(&self) -> bool {
        match self {
            Self::Silent(_) | Self::NotNow { .. } | Self::Foreign(_) => true,
            Self::Unclear(status) => status.is_server_error(),
            Self::Shut | Self::OutOfTime | Self::LeftAlone => false,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NotNow { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_pause_is_what_was_drawn_or_what_the_owner_wants_if_there_is_time_for_it() {
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
        let drawn: Vec<Duration> = pauses().collect();
        assert_eq!(drawn.len(), 3);
        assert!(drawn[0] >= MS(50) && drawn[2] >= MS(200), "{drawn:?}");
    }
}

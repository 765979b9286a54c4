//! How fresh a cache is. Pure.

use std::time::Duration;

use jiff::Timestamp;
use relay::consume::ConsumerStatus;
use serde::Serialize;
use utoipa::ToSchema;

/// How fresh the users in an answer are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsersFreshness {
    /// The last event in the cache, `users@1040`.
    pub position: String,
    /// When the cache last had every event of the owner's stream, RFC 3339 in UTC; null if not since the start.
    pub as_of: Option<String>,
    /// Known events that are not in the cache yet.
    pub behind: u64,
    /// Whether the owner may have newer data. Data that is not stale is at most [`MAX_QUIET`] old.
    pub stale: bool,
    /// The same time as `as_of`, where the data is stale.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A consumer compares itself with its stream every 2 s, also when no event comes. After so much longer it is stuck.
pub const MAX_QUIET: Duration = Duration::from_secs(10);

impl UsersFreshness {
    /// `offset` is the cache's when it was read; `status` is its consumer's from just before that.
    pub fn of(stream: &str, offset: u64, status: &ConsumerStatus, now_ms: u64) -> Self {
        let behind = status.stream_head.unwrap_or(0).saturating_sub(offset);
        let why = why(stream, behind, status, now_ms);
        let as_of = status.caught_up_at_ms.map(rfc3339);
        Self {
            position: format!("{}@{offset}", stream.to_lowercase()),
            behind,
            stale: why.is_some(),
            stale_since: as_of.clone().filter(|_| why.is_some()),
            as_of,
            why,
        }
    }
}

/// Why the cache may lack events. The consumer's own error is for the operator alone: `status` prints it.
fn why(stream: &str, behind: u64, status: &ConsumerStatus, now_ms: u64) -> Option<String> {
    let quiet_ms = status.caught_up_at_ms.map(|at| now_ms.saturating_sub(at));
    let is_stuck = quiet_ms.is_some_and(|ms| Duration::from_millis(ms) > MAX_QUIET);
    let count = status.dead_letters;
    let why = match quiet_ms {
        _ if status.trouble.is_some() => format!("stream {stream} cannot be followed now"),
        _ if behind > 0 => format!("events of stream {stream} are not applied yet"),
        None => format!("stream {stream} has not been reached since this service started"),
        Some(_) if is_stuck => format!("stream {stream} was not looked at for a while"),
        Some(_) if count > 0 => {
            format!("{count} events of stream {stream} are dead letters and wait for an operator")
        }
        Some(_) => return None,
    };
    Some(why)
}

fn rfc3339(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;
    const NOW: &str = "2026-01-01T00:00:00Z";

    /// Caught up at this moment.
    fn well() -> ConsumerStatus {
        ConsumerStatus {
            offset: 7,
            stream_head: Some(7),
            caught_up_at_ms: Some(NOW_MS),
            ..ConsumerStatus::default()
        }
    }

    fn stale(status: &ConsumerStatus, now_ms: u64) -> (bool, Option<String>, Option<String>) {
        let of = UsersFreshness::of("USERS", 7, status, now_ms);
        assert_eq!(of.why.is_some(), of.stale);
        (of.stale, of.as_of, of.stale_since)
    }

    #[test]
    fn a_cache_that_has_just_been_compared_is_fresh() {
        let fresh = UsersFreshness::of("USERS", 7, &well(), NOW_MS + 10_000);
        let expected = UsersFreshness {
            position: "users@7".to_owned(),
            as_of: Some(NOW.to_owned()),
            behind: 0,
            stale: false,
            stale_since: None,
            why: None,
        };
        assert_eq!(fresh, expected);
        let set_back = stale(&well(), NOW_MS - 1);
        assert_eq!(set_back, (false, Some(NOW.to_owned()), None));
    }

    #[test]
    fn a_cache_that_may_lack_events_is_stale_since_it_was_last_complete() {
        let since = (true, Some(NOW.to_owned()), Some(NOW.to_owned()));
        let trouble = ConsumerStatus {
            trouble: Some("no broker at 10.0.0.1".to_owned()),
            ..well()
        };
        let behind = ConsumerStatus {
            stream_head: Some(9),
            ..well()
        };
        let set_aside = ConsumerStatus {
            dead_letters: 1,
            ..well()
        };
        for status in [&trouble, &behind, &set_aside] {
            assert_eq!(stale(status, NOW_MS), since, "{status:?}");
        }
        assert_eq!(
            stale(&well(), NOW_MS + 10_001),
            since,
            "the consumer is stuck"
        );
        assert_eq!(UsersFreshness::of("USERS", 7, &behind, NOW_MS).behind, 2);
        let why = UsersFreshness::of("USERS", 7, &trouble, NOW_MS)
            .why
            .unwrap();
        assert!(!why.contains("10.0.0.1"), "{why}");
    }

    #[test]
    fn before_the_first_contact_nothing_is_known() {
        let never = ConsumerStatus::default();
        let of = UsersFreshness::of("USERS", 0, &never, NOW_MS);
        assert_eq!((of.position.as_str(), of.stale), ("users@0", true));
        assert_eq!((of.as_of, of.stale_since), (None, None));
    }
}

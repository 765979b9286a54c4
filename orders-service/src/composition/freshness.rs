//! How new a cache is: beside every answer that uses one. Pure.

use std::time::Duration;

use jiff::Timestamp;
use relay::ConsumerStatus;
use serde::Serialize;
use utoipa::ToSchema;

/// The caches that an answer has used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Freshness {
    pub users: UsersFreshness,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsersFreshness {
    /// The last event in the cache, `users@1040`.
    pub position: String,
    /// When the owner's log was last seen to hold nothing but what is in the cache by now, RFC 3339 in UTC; null while
    /// that is not known since the start.
    pub as_of: Option<String>,
    /// Events that are known and not in the cache yet.
    pub behind: u64,
    /// Whether the owner may know more than is shown here. What is not stale is at most [`MAX_QUIET`] old.
    pub stale: bool,
    /// The last moment from which we know that nothing was amiss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stale_since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// A consumer looks at its stream every 2 s, also when nothing comes. One that has not done so for so long is stuck.
pub const MAX_QUIET: Duration = Duration::from_secs(10);

impl UsersFreshness {
    /// `offset` is where the cache stood when it was read; `status` is what its consumer knew just before that.
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

/// Why the cache may lack something. The consumer's own words stay inside: they are for the operator, who finds them in
/// `status`.
fn why(stream: &str, behind: u64, status: &ConsumerStatus, now_ms: u64) -> Option<String> {
    let quiet_ms = status.caught_up_at_ms.map(|at| now_ms.saturating_sub(at));
    let is_stuck = quiet_ms.is_some_and(|ms| Duration::from_millis(ms) > MAX_QUIET);
    let count = status.dead_letters;
    match quiet_ms {
        _ if status.trouble.is_some() => Some(format!("stream {stream} cannot be followed now")),
        _ if behind > 0 => Some(format!("events of stream {stream} are still to be applied")),
        None => Some(format!(
            "stream {stream} was not met since this service has started"
        )),
        Some(_) if is_stuck => Some(format!("stream {stream} was not looked at for a while")),
        Some(_) if count > 0 => Some(format!(
            "{count} events of stream {stream} are set aside and wait for a person"
        )),
        Some(_) => None,
    }
}

/// A time that no calendar has is shown as the last one it has.
pub(super) fn rfc3339(unix_ms: u64) -> String {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let at = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;
    const NOW: &str = "2026-01-01T00:00:00Z";

    /// All is well, and was looked at just now.
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
    fn whatever_may_be_lacking_makes_it_stale_since_it_was_last_known_to_be_whole() {
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
            "nobody looks any more"
        );
        assert_eq!(UsersFreshness::of("USERS", 7, &behind, NOW_MS).behind, 2);
        let told = UsersFreshness::of("USERS", 7, &trouble, NOW_MS)
            .why
            .unwrap();
        assert!(!told.contains("10.0.0.1"), "{told}");
    }

    #[test]
    fn before_the_first_look_nothing_is_known() {
        let never = ConsumerStatus::default();
        let of = UsersFreshness::of("USERS", 0, &never, NOW_MS);
        assert_eq!((of.position.as_str(), of.stale), ("users@0", true));
        assert_eq!((of.as_of, of.stale_since), (None, None));
    }
}

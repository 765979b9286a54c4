//! The statements of `kit_reply`, and its limits.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};

use super::{Asked, Kept, Slot};
use crate::http::{Problem, Reply};
use crate::row::unreadable;

/// The kit's table. A service that takes `Idempotency-Key` has it among its migrations.
pub const IDEMPOTENCY_MIGRATION: &str = include_str!("../../migrations/idempotency.sql");
/// Updates a table of an earlier version, in which replies aged by the wall clock. It follows
/// [`IDEMPOTENCY_MIGRATION`] among the service's.
pub const IDEMPOTENCY_AGES_MIGRATION: &str = include_str!("../../migrations/idempotency_ages.sql");
/// How long a reply is kept while its service runs, whatever the clock says.
pub const REPLIES_KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);
/// How many are kept. Beyond it the oldest are deleted early, so that the table does not fill the disk.
pub const MAX_KEPT_REPLIES: u64 = 1_000_000;
/// The largest body of a reply that can be kept.
pub const MAX_KEPT_REPLY_BYTES: usize = 64 * 1024;
/// The most replies that one write deletes. It stores one, so the table shrinks as long as there are old ones.
const FORGOTTEN_AT_ONCE: u64 = 8;

/// The clock by which replies age. It starts at the newest reply's time and counts the time in which this process runs, so
/// neither a wall clock that leaps nor a restart makes a reply old. While the service is down none ages.
pub(super) struct Age {
    started: Instant,
    /// Its time when the process started: the newest reply's or, without one, the wall clock's.
    from_ms: OnceLock<u64>,
}

impl Age {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            from_ms: OnceLock::new(),
        }
    }

    pub(super) fn now_ms(&self, rows: &Connection, wall_ms: u64) -> rusqlite::Result<u64> {
        self.after(self.started.elapsed(), rows, wall_ms)
    }

    fn after(&self, runs: Duration, rows: &Connection, wall_ms: u64) -> rusqlite::Result<u64> {
        let from_ms = match self.from_ms.get() {
            Some(known) => *known,
            None => {
                let newest = "select max(stored_at_ms) from kit_reply";
                let newest: Option<u64> = rows.query_row(newest, [], |row| row.get(0))?;
                *self.from_ms.get_or_init(|| newest.unwrap_or(wall_ms))
            }
        };
        Ok(from_ms.saturating_add(millis(runs)))
    }
}

/// A reply that could not be sent again. That is our fault, so the effect is rolled back.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unkeepable {
    #[error("a reply of {0} bytes is too large to be kept for its Idempotency-Key")]
    TooLarge(usize),
    #[error("a reply has a header {0} that is no text, and cannot be kept for its Idempotency-Key")]
    NoText(HeaderName),
    #[error("a reply with status {0} cannot be kept for its Idempotency-Key")]
    NoSuccess(StatusCode),
}

/// The stored reply of the slot, unless it is too old.
pub(super) fn find(rows: &Connection, slot: &Slot, now_ms: u64) -> rusqlite::Result<Option<Kept>> {
    rows.prepare_cached(
        "select request, status, headers, body from kit_reply
         where caller = ?1 and route = ?2 and key = ?3 and stored_at_ms > ?4",
    )?
    .query_row(
        (&slot.caller, &slot.route, &slot.key, kept_since(now_ms)),
        kept,
    )
    .optional()
}

/// Replaces one that was too old.
pub(super) fn keep(
    rows: &Connection,
    Asked { slot, request }: &Asked,
    reply: &Reply,
    now_ms: u64,
) -> Result<(), Problem> {
    let headers = to_text(reply).map_err(|error| Problem::internal(&error))?;
    rows.prepare_cached(
        "insert or replace into kit_reply (caller, route, key, request, status, headers, body, stored_at_ms)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?
    .execute((
        &slot.caller,
        &slot.route,
        &slot.key,
        request,
        reply.status.as_u16(),
        headers,
        &reply.body[..],
        now_ms,
    ))?;
    Ok(())
}

pub(super) fn has_table(rows: &Connection) -> rusqlite::Result<bool> {
    rows.table_exists(None, "kit_reply")
}

/// Deletes a few of those that are too old, or too many.
pub(super) fn forget_some(rows: &Connection, now_ms: u64) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "delete from kit_reply where id in (
           select id from kit_reply where stored_at_ms <= ?1 order by stored_at_ms limit ?2)",
    )?
    .execute((kept_since(now_ms), FORGOTTEN_AT_ONCE))?;
    forget_beyond(rows, MAX_KEPT_REPLIES)
}

/// Ids are consecutive, so at most `limit` rows lie within `limit` of the last.
fn forget_beyond(rows: &Connection, limit: u64) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "delete from kit_reply where id in (
           select id from kit_reply where id <= (select max(id) from kit_reply) - ?1 order by id limit ?2)",
    )?
    .execute((limit, FORGOTTEN_AT_ONCE))?;
    Ok(())
}

fn kept_since(now_ms: u64) -> u64 {
    now_ms.saturating_sub(millis(REPLIES_KEPT_FOR))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn to_text(reply: &Reply) -> Result<String, Unkeepable> {
    if !reply.status.is_success() {
        return Err(Unkeepable::NoSuccess(reply.status));
    }
    if reply.body.len() > MAX_KEPT_REPLY_BYTES {
        return Err(Unkeepable::TooLarge(reply.body.len()));
    }
    let pair = |(name, value): (&HeaderName, &HeaderValue)| match value.to_str() {
        Ok(text) => Ok((name.to_string(), text.to_owned())),
        Err(_) => Err(Unkeepable::NoText(name.clone())),
    };
    let headers = reply.headers.iter().map(pair);
    let headers = headers.collect::<Result<Vec<_>, _>>()?;
    Ok(serde_json::to_string(&headers).expect("pairs of texts are JSON"))
}

fn kept(row: &Row<'_>) -> rusqlite::Result<Kept> {
    let status = StatusCode::from_u16(row.get(1)?).map_err(|error| unreadable(1, error))?;
    let reply = Reply {
        status,
        headers: headers(&row.get::<_, String>(2)?)?,
        body: row.get::<_, Vec<u8>>(3)?.into(),
    };
    Ok((row.get(0)?, reply))
}

fn headers(text: &str) -> rusqlite::Result<HeaderMap> {
    let pairs: Vec<(String, String)> =
        serde_json::from_str(text).map_err(|error| unreadable(2, error))?;
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().map_err(|error| unreadable(2, error))?;
        let value: HeaderValue = value.parse().map_err(|error| unreadable(2, error))?;
        headers.append(name, value);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Connection {
        let rows = Connection::open_in_memory().unwrap();
        rows.execute_batch(IDEMPOTENCY_MIGRATION).unwrap();
        rows
    }

    fn asked(key: impl ToString) -> Asked {
        Asked {
            slot: Slot {
                caller: "anonymous".to_owned(),
                route: "POST /users".to_owned(),
                key: key.to_string(),
            },
            request: [7; 32],
        }
    }

    fn reply() -> Reply {
        Reply::json(StatusCode::CREATED, &"ü")
    }

    fn count(rows: &Connection) -> u64 {
        let sql = "select count(*) from kit_reply";
        rows.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    const DAY_MS: u64 = 24 * 60 * 60 * 1000;

    #[test]
    fn a_reply_is_kept_byte_for_byte_for_a_day() {
        let (rows, now) = (rows(), 10 * DAY_MS);
        keep(&rows, &asked("a"), &reply(), now).unwrap();
        let found = |asked: &Asked, at: u64| find(&rows, &asked.slot, at).unwrap();
        for at in [now, now + DAY_MS - 1, now - DAY_MS] {
            let kept = found(&asked("a"), at).unwrap();
            assert_eq!(kept, ([7; 32], reply()));
        }
        assert!(found(&asked("a"), now + DAY_MS).is_none());
        assert!(found(&asked("b"), now).is_none());
        for other in [
            |slot: &mut Slot| slot.caller.push('x'),
            |slot: &mut Slot| slot.route.push('x'),
        ] {
            let mut asked = asked("a");
            other(&mut asked.slot);
            assert!(found(&asked, now).is_none());
        }
        keep(&rows, &asked("a"), &reply(), now + DAY_MS).unwrap();
        assert_eq!(count(&rows), 1);
    }

    #[test]
    fn a_reply_ages_while_its_service_runs_and_by_no_clock() {
        let (rows, hour) = (rows(), Duration::from_secs(3_600));
        let wall = |days| days * DAY_MS;
        let first = Age::new();
        let stored = first.after(hour, &rows, wall(10)).unwrap();
        assert_eq!(stored, wall(10) + DAY_MS / 24);
        keep(&rows, &asked("a"), &reply(), stored).unwrap();
        let again = Age::new();
        for (runs, clock, known) in [
            (hour, wall(110), true),
            (hour, wall(0), true),
            (23 * hour, wall(110), true),
            (24 * hour, wall(10), false),
        ] {
            let now = again.after(runs, &rows, clock).unwrap();
            let found = find(&rows, &asked("a").slot, now).unwrap();
            assert_eq!(found.is_some(), known, "{runs:?} {clock}");
        }
    }

    #[test]
    fn a_clock_that_was_ahead_before_the_upgrade_makes_no_reply_old() {
        let rows = rows();
        keep(&rows, &asked("ahead"), &reply(), 110 * DAY_MS).unwrap();
        keep(&rows, &asked("a"), &reply(), 10 * DAY_MS).unwrap();
        rows.execute_batch(IDEMPOTENCY_AGES_MIGRATION).unwrap();
        let age = Age::new();
        for (runs, known) in [(0, true), (23, true), (24, false)] {
            let runs = Duration::from_secs(runs * 3_600);
            let now = age.after(runs, &rows, 10 * DAY_MS).unwrap();
            let found = find(&rows, &asked("a").slot, now).unwrap();
            assert_eq!(found.is_some(), known, "{runs:?}");
        }
    }

    #[test]
    fn old_ones_are_forgotten_a_few_at_a_time_and_young_ones_are_not() {
        let rows = rows();
        for n in 0..20 {
            keep(&rows, &asked(n), &reply(), 1).unwrap();
        }
        keep(&rows, &asked("young"), &reply(), 2).unwrap();
        for left in [13, 5, 1, 1] {
            forget_some(&rows, DAY_MS + 1).unwrap();
            assert_eq!(count(&rows), left);
        }
        assert!(
            find(&rows, &asked("young").slot, DAY_MS + 1)
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn beyond_a_number_the_oldest_go() {
        let rows = rows();
        for n in 0..12 {
            keep(&rows, &asked(n), &reply(), 1).unwrap();
        }
        for left in [4, 3, 3] {
            forget_beyond(&rows, 3).unwrap();
            assert_eq!(count(&rows), left);
        }
        assert!(find(&rows, &asked(11).slot, 1).unwrap().is_some());
    }

    #[test]
    fn what_cannot_be_given_again_is_not_kept() {
        let rows = rows();
        let large = "x".repeat(MAX_KEPT_REPLY_BYTES);
        let no_text = HeaderValue::from_bytes(b"\xff").unwrap();
        for unkeepable in [
            Reply::json(StatusCode::OK, &large),
            Reply::json(StatusCode::CONFLICT, &1),
            reply().with(HeaderName::from_static("x-any"), no_text),
        ] {
            let refused = keep(&rows, &asked("a"), &unkeepable, 1).unwrap_err();
            assert_eq!(refused.code(), crate::http::codes::INTERNAL);
        }
        assert_eq!(count(&rows), 0);
    }

    #[test]
    fn the_oldest_are_found_by_their_index() {
        let rows = rows();
        let sql = "explain query plan select id from kit_reply where stored_at_ms <= 1 order by stored_at_ms limit 8";
        let plan: String = rows.query_row(sql, [], |row| row.get(3)).unwrap();
        assert!(plan.contains("kit_reply_by_age"), "{plan}");
    }
}

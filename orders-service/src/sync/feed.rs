//! The feed: what changed for a driver after a position in the log, or a snapshot if the position is unusable.
//!
//! Rows are sent in their current state, not once per change, so a page is small however much has happened. A snapshot takes
//! several pages while orders go on changing: it ends with the changes since it began, and only then is the checkpoint
//! complete.

use event_schema::DriverId;
use event_schema::sync::{FeedItem, FeedPage};
use relay::outbox;
use relay::rusqlite::{self, Connection};

use super::FeedToken;
use crate::store::intents::FeedDecision;
use crate::store::scopes::Entry;
use crate::store::{intents, scopes};

/// How many events a device may be behind before it gets a snapshot, which is then shorter than the changes.
pub const DEFAULT_TAIL: u64 = 100_000;

/// Finished orders are shown for a week.
const SHOWN_MS: i64 = 7 * 86_400_000;
/// Decisions in a snapshot.
const MAX_DECISIONS: u32 = 1000;

/// The page after `after`, read in one transaction. Without a position, or with one that is no longer in this log, a snapshot
/// begins.
pub fn page(
    rows: &Connection,
    driver_id: DriverId,
    after: Option<FeedToken>,
    limit: u32,
    tail: u64,
    now_ms: i64,
) -> rusqlite::Result<FeedPage> {
    let (here, shown_since_ms) = (here(rows, driver_id)?, now_ms - SHOWN_MS);
    match after {
        Some(token) if is_in_log(rows, &token, here.seq, tail)? => match token.snapshot_after {
            None => tail_page(rows, token, &here, limit),
            Some(_) => snapshot_page(rows, token, limit, None, shown_since_ms),
        },
        _ => {
            let known_since = here.seq.saturating_sub(tail);
            snapshot_page(rows, here, limit, Some(known_since), shown_since_ms)
        }
    }
}

fn here(rows: &Connection, driver_id: DriverId) -> rusqlite::Result<FeedToken> {
    let (seq, event_id) = outbox::head(rows)?;
    Ok(FeedToken {
        driver_id,
        seq,
        event_id,
        snapshot_after: None,
    })
}

/// Whether the event with that sequence is the same, and near enough to the head.
fn is_in_log(rows: &Connection, token: &FeedToken, head: u64, tail: u64) -> rusqlite::Result<bool> {
    // A device may send any number: one out of range is not looked up.
    if token.seq > head || head - token.seq > tail {
        return Ok(false);
    }
    Ok(match token.seq {
        0 => token.event_id.is_none(),
        seq => token.event_id.is_some() && outbox::event_id(rows, seq)? == token.event_id,
    })
}

/// Up to `limit` changes and `limit` decisions. The one that reaches its limit first ends the page.
fn tail_page(
    rows: &Connection,
    after: FeedToken,
    here: &FeedToken,
    limit: u32,
) -> rusqlite::Result<FeedPage> {
    let mut entries = scopes::after(rows, after.driver_id, after.seq, limit + 1)?;
    let mut decided = intents::decided_after(rows, after.driver_id, after.seq, limit + 1)?;
    let ends = [
        last_of(&entries, limit, |entry| entry.seq),
        last_of(&decided, limit, |decided| decided.seq),
    ];
    let end = ends.into_iter().flatten().min();
    if let Some(end) = end {
        entries.retain(|entry| entry.seq <= end);
        decided.retain(|decided| decided.seq <= end);
    }
    let next = match end {
        None => here.clone(),
        Some(seq) => FeedToken {
            seq,
            event_id: outbox::event_id(rows, seq)?,
            ..after
        },
    };
    Ok(FeedPage {
        complete: end.is_none(),
        ..feed_page(&next, entries, decided)
    })
}

/// The sequence of the last one that fits on the page, if not all fit.
fn last_of<T>(found: &[T], limit: u32, seq: impl Fn(&T) -> u64) -> Option<u64> {
    let limit = limit as usize;
    match found.len() > limit {
        true => found.get(limit - 1).map(seq),
        false => None,
    }
}

/// Never complete: the changes since it began follow its last page. `decided_since` is set on its first page, which has the
/// decisions that a device may have missed.
fn snapshot_page(
    rows: &Connection,
    from: FeedToken,
    limit: u32,
    decided_since: Option<u64>,
    shown_since_ms: i64,
) -> rusqlite::Result<FeedPage> {
    let (driver_id, after) = (from.driver_id, from.snapshot_after);
    let entries = scopes::present(rows, driver_id, after, shown_since_ms, limit)?;
    let full = entries.len() == limit as usize;
    let decided = match decided_since {
        Some(since) => intents::decided_after(rows, driver_id, since, MAX_DECISIONS)?,
        None => Vec::new(),
    };
    let next = FeedToken {
        snapshot_after: entries.last().filter(|_| full).map(|last| last.order_id),
        ..from
    };
    Ok(FeedPage {
        snapshot: decided_since.is_some(),
        ..feed_page(&next, entries, decided)
    })
}

fn feed_page(next: &FeedToken, entries: Vec<Entry>, decided: Vec<FeedDecision>) -> FeedPage {
    let item = |entry: Entry| match entry.delivery {
        Some(delivery) => FeedItem::Put { delivery },
        None => FeedItem::Remove {
            order_id: entry.order_id,
        },
    };
    FeedPage {
        snapshot: false,
        items: entries.into_iter().map(item).collect(),
        next: next.to_string(),
        at: next.seq,
        complete: false,
        judged: decided.into_iter().map(|of| of.decision).collect(),
    }
}

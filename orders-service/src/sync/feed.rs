//! The way down: what changed for a driver after a place in the log, or all there is when that place is of no use.
//!
//! The rows are what they are now, not what they were at each change, so a page is small however much has happened. A
//! snapshot takes several pages while orders go on changing: it ends with the tail from where it began, and only then is
//! the checkpoint complete.

use event_schema::DriverId;
use event_schema::sync::{FeedItem, FeedPage, Judged};
use jiff::Timestamp;
use relay::outbox;
use relay::rusqlite::{self, Connection};

use super::{FeedToken, delivery};
use crate::store::scopes::Entry;
use crate::store::{intents, scopes};

/// How many events a device may be behind before it gets a snapshot, which is less than all that has left its driver
/// meanwhile.
pub const DEFAULT_TAIL: u64 = 100_000;

/// What a driver has finished is shown for a week.
const SHOWN_MS: i64 = 7 * 86_400_000;
/// Decisions that a snapshot tells, at most: about conflicts of the last weeks, not of all times.
const MAX_DECISIONS: u32 = 1000;

/// The page after `after`, all of one moment. Without a place, or with one that does not lie in this log any more, a
/// snapshot begins.
pub fn page(
    rows: &Connection,
    driver_id: DriverId,
    after: Option<FeedToken>,
    limit: u32,
    tail: u64,
) -> rusqlite::Result<FeedPage> {
    let here = here(rows, driver_id)?;
    match after {
        Some(place) if is_on_the_log(rows, &place, here.seq, tail)? => match place.snapshot_after {
            None => tail_page(rows, place, &here, limit),
            Some(_) => snapshot_page(rows, place, limit, None),
        },
        _ => {
            let known_since = here.seq.saturating_sub(tail);
            snapshot_page(rows, here, limit, Some(known_since))
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

/// The event at that number is the one it was, and what happened since is still known.
fn is_on_the_log(
    rows: &Connection,
    place: &FeedToken,
    head: u64,
    tail: u64,
) -> rusqlite::Result<bool> {
    let near = place.seq <= head && head - place.seq <= tail;
    if !near {
        return Ok(false);
    }
    Ok(match place.seq {
        0 => place.event_id.is_none(),
        seq => place.event_id.is_some() && outbox::event_id(rows, seq)? == place.event_id,
    })
}

/// Up to `limit` changes and as many decisions: what there is more of ends the page.
fn tail_page(
    rows: &Connection,
    after: FeedToken,
    here: &FeedToken,
    limit: u32,
) -> rusqlite::Result<FeedPage> {
    let mut entries = scopes::after(rows, after.driver_id, after.seq, limit + 1)?;
    let mut judged = intents::decided_after(rows, after.driver_id, after.seq, limit + 1)?;
    let ends = [
        last_of(&entries, limit, |entry| entry.seq),
        last_of(&judged, limit, |judged| judged.decided_seq.unwrap_or(0)),
    ];
    let end = ends.into_iter().flatten().min();
    if let Some(end) = end {
        entries.retain(|entry| entry.seq <= end);
        judged.retain(|judged| judged.decided_seq <= Some(end));
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
        snapshot: false,
        items: items(rows, entries)?,
        at: next.seq,
        next: next.to_string(),
        complete: end.is_none(),
        judged: judged.into_iter().map(decided).collect(),
    })
}

/// The place of the last one that has room on the page, when not all have.
fn last_of<T>(found: &[T], limit: u32, place: impl Fn(&T) -> u64) -> Option<u64> {
    let limit = limit as usize;
    match found.len() > limit {
        true => found.get(limit - 1).map(place),
        false => None,
    }
}

/// Never complete: after its last page comes the tail from where it began. The page it begins with tells what was decided
/// since a place that a device can still have been at.
fn snapshot_page(
    rows: &Connection,
    from: FeedToken,
    limit: u32,
    begins: Option<u64>,
) -> rusqlite::Result<FeedPage> {
    let since_ms = Timestamp::now().as_millisecond() - SHOWN_MS;
    let entries = scopes::present(rows, from.driver_id, from.snapshot_after, since_ms, limit)?;
    let full = entries.len() == limit as usize;
    let judged = match begins {
        Some(since) => intents::decided_after(rows, from.driver_id, since, MAX_DECISIONS)?,
        None => Vec::new(),
    };
    let next = FeedToken {
        snapshot_after: entries.last().filter(|_| full).map(|last| last.order_id),
        ..from
    };
    Ok(FeedPage {
        snapshot: begins.is_some(),
        items: items(rows, entries)?,
        at: next.seq,
        next: next.to_string(),
        complete: false,
        judged: judged.into_iter().map(decided).collect(),
    })
}

fn items(rows: &Connection, entries: Vec<Entry>) -> rusqlite::Result<Vec<FeedItem>> {
    let item = |entry: Entry| match entry.order {
        Some(order) => Ok(FeedItem::Put {
            delivery: delivery(rows, order)?,
        }),
        None => Ok(FeedItem::Remove {
            order_id: entry.order_id,
        }),
    };
    entries.into_iter().map(item).collect()
}

fn decided(judged: intents::Judged) -> Judged {
    Judged {
        intent_id: judged.id,
        order_id: judged.lane,
        decision: judged.decision.unwrap_or_default(),
        by: judged.decided_by.unwrap_or_default(),
    }
}

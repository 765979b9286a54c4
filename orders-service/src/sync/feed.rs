//! The way down: what changed for a driver after a place in the log, or all there is when that place is of no use.
//!
//! The rows are what they are now, not what they were at each change, so a page is small however much has happened. A
//! snapshot takes several pages while orders go on changing: it ends with the tail from where it began, and only then is
//! the checkpoint complete.

use event_schema::DriverId;
use event_schema::sync::{FeedItem, FeedPage, Judged};
use relay::outbox;
use relay::rusqlite::{self, Connection};

use super::{FeedToken, delivery};
use crate::store::scopes::Entry;
use crate::store::{intents, scopes};

/// How many events a device may be behind before it gets a snapshot, which is less than all that has left its driver
/// meanwhile.
pub const DEFAULT_TAIL: u64 = 100_000;

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
            Some(_) => snapshot_page(rows, place, limit, false),
        },
        _ => snapshot_page(rows, here, limit, true),
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
    // Nothing is asked about a place that cannot be: a device may send any number.
    let near = place.seq <= head && head - place.seq <= tail;
    Ok(near
        && match place.seq {
            0 => place.event_id.is_none(),
            seq => place.event_id.is_some() && outbox::event_id(rows, seq)? == place.event_id,
        })
}

fn tail_page(
    rows: &Connection,
    after: FeedToken,
    here: &FeedToken,
    limit: u32,
) -> rusqlite::Result<FeedPage> {
    let mut entries = scopes::after(rows, after.driver_id, after.seq, limit + 1)?;
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = match entries.last().filter(|_| more) {
        None => here.clone(),
        Some(last) => FeedToken {
            seq: last.seq,
            event_id: outbox::event_id(rows, last.seq)?,
            ..after
        },
    };
    // Decisions between the two places: a page that is not complete leaves later ones to the next.
    let judged = intents::decided_after(rows, after.driver_id, after.seq, u32::MAX)?;
    Ok(FeedPage {
        snapshot: false,
        items: items(rows, entries)?,
        at: next.seq,
        next: next.to_string(),
        complete: !more,
        judged: judged.into_iter().map(decided).collect(),
    })
}

/// Never complete: after its last page comes the tail from where it began.
fn snapshot_page(
    rows: &Connection,
    from: FeedToken,
    limit: u32,
    begins: bool,
) -> rusqlite::Result<FeedPage> {
    let entries = scopes::present(rows, from.driver_id, from.snapshot_after, limit)?;
    let full = entries.len() == limit as usize;
    let next = FeedToken {
        snapshot_after: entries.last().filter(|_| full).map(|last| last.order_id),
        ..from
    };
    Ok(FeedPage {
        snapshot: begins,
        items: items(rows, entries)?,
        at: next.seq,
        next: next.to_string(),
        complete: false,
        judged: match begins {
            true => all_decided(rows, next.driver_id)?,
            false => Vec::new(),
        },
    })
}

fn all_decided(rows: &Connection, driver_id: DriverId) -> rusqlite::Result<Vec<Judged>> {
    let judged = intents::decided_after(rows, driver_id, 0, u32::MAX)?;
    Ok(judged.into_iter().map(decided).collect())
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

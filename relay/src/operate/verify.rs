//! Verifying: is the stream the outbox, byte for byte, and is a cache what its producer shares?

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde_json::value::RawValue;

use crate::consume::Consumer;
use crate::error::LogError;
use crate::log::{Connect, Line, Lines, Log, Position, Record, Share, read_now};
use crate::operate::ReadOnly;
use crate::outbox;

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// All events or rows are the same on both sides.
    Equal {
        /// How many.
        compared: u64,
    },
    /// The first difference.
    Differs(String),
    /// Nothing was compared, and why: one side has not come as far as the other.
    NotYet(String),
}

const BATCH: usize = 1000;

/// Compares the outbox with the stream: subject and bytes of every sequence that both keep.
///
/// # Errors
///
/// [`LogError`] when the broker cannot be reached or refuses the read. A difference is no error.
pub async fn verify_stream(db: &ReadOnly, to: &impl Connect) -> Result<Verified, LogError> {
    let name = to.stream();
    let mut stream = to.connect().await?;
    let Some(head) = stream.head().await? else {
        return Ok(Verified::Differs(format!("there is no stream {name}")));
    };
    let own = db.read(outbox::ends).await?;
    if head.origin != own.origin {
        let (theirs, ours) = (&head.origin, &own.origin);
        let why = format!("stream {name} belongs to {theirs}, this is {ours}");
        return Ok(Verified::Differs(why));
    }
    let (first, last) = (head.first.max(own.first), head.seq.min(own.seq));
    let mut from = first;
    while from <= last {
        let to = last.min(from + BATCH as u64 - 1);
        let ours = records(from, to, async |after| {
            Ok(db
                .read(move |rows| outbox::rows_after(rows, after, BATCH))
                .await?)
        });
        let ours = ours.await?;
        let theirs = records(from, to, async |after| {
            read_now(&mut stream, after, BATCH).await
        });
        let theirs = theirs.await?;
        if let Some(difference) = (from..=to).find_map(|seq| compare(seq, &ours, &theirs)) {
            return Ok(Verified::Differs(difference));
        }
        from = to + 1;
    }
    let ends = format!("the outbox ends at {}, the stream at {}", own.seq, head.seq);
    Ok(match first > last && own.seq > 0 {
        _ if head.seq > own.seq => Verified::Differs(ends),
        true => Verified::NotYet(format!("there is no event that both keep: {ends}")),
        false => Verified::Equal {
            compared: (last + 1).saturating_sub(first),
        },
    })
}

type Records = BTreeMap<u64, Record>;

/// The records of these sequences, as far as `read` finds them.
async fn records(
    from: u64,
    to: u64,
    mut read: impl AsyncFnMut(u64) -> Result<Vec<Record>, LogError>,
) -> Result<Records, LogError> {
    let (mut found, mut after) = (Records::new(), from - 1);
    while after < to {
        let some = read(after).await?;
        let Some(last) = some.last() else { break };
        after = last.seq;
        found.extend(some.into_iter().map(|record| (record.seq, record)));
    }
    Ok(found)
}

fn compare(seq: u64, ours: &Records, theirs: &Records) -> Option<String> {
    let name = |record: &Record| {
        let id = record.event_id();
        id.map_or("no event of ours".to_owned(), |id| id.to_string())
    };
    let why = match (ours.get(&seq), theirs.get(&seq)) {
        (Some(own), Some(their)) if own == their => return None,
        (Some(own), Some(their)) if own.event_id() == their.event_id() => {
            "has other bytes in the stream than in the outbox".to_owned()
        }
        (Some(own), Some(their)) => {
            format!(
                "is {} in the outbox and {} in the stream",
                name(own),
                name(their)
            )
        }
        (Some(own), None) => format!("({}) is missing in the stream", name(own)),
        (None, Some(their)) => format!("({}) is missing in the outbox", name(their)),
        (None, None) => "is missing on both sides".to_owned(),
    };
    Some(format!("event {seq} {why}"))
}

/// Compares a cache with a snapshot of its producer, row by row as they arrive: both have the same order. Both must be as of
/// the same event: a cache that moves on meanwhile is not compared, and the caller may try again.
///
/// # Errors
///
/// [`LogError`] when the producer does not answer, or the database cannot be read.
pub async fn verify_cache(db: &ReadOnly, consumer: &Consumer) -> Result<Verified, LogError> {
    let (Some(share), Some(producer)) = (consumer.share(), consumer.producer()) else {
        let why = "it has no producer to compare with";
        return Ok(Verified::NotYet(why.to_owned()));
    };
    let mut lines = producer.snapshot(None).await?;
    let Some(Line::Position { at, .. }) = lines.recv().await.transpose()? else {
        return Err(cut_off());
    };
    let known = consumer.clone();
    let read = db.read(move |rows| {
        let tx = rows.unchecked_transaction()?;
        let here = known.position(&tx)?;
        if here != at {
            let (here, there) = (name(here), name(at));
            let why = format!("it has applied {here}, and its producer is at {there}");
            return Ok(Ok(Verified::NotYet(why)));
        }
        compare_rows(&tx, share, &mut lines)
    });
    read.await?
}

/// On the database's own thread: it waits for the producer's lines as it goes.
fn compare_rows(
    rows: &Connection,
    share: Share,
    lines: &mut Lines,
) -> rusqlite::Result<Result<Verified, LogError>> {
    let (mut compared, mut found) = (0, None);
    share(rows, &mut |our| {
        found = match next_row(lines) {
            Ok(Some(their)) if their.get() == our.get() => None,
            Ok(their) => Some(Ok(differs(Some(&our), their.as_deref()))),
            Err(error) => Some(Err(error)),
        };
        compared += u64::from(found.is_none());
        found.is_none()
    })?;
    Ok(found.unwrap_or_else(|| {
        Ok(match next_row(lines)? {
            Some(their) => differs(None, Some(&their)),
            None => Verified::Equal { compared },
        })
    }))
}

/// The producer's next row; `None` after the last.
fn next_row(lines: &mut Lines) -> Result<Option<Box<RawValue>>, LogError> {
    match lines.blocking_recv().transpose()? {
        Some(Line::Row(row)) => Ok(Some(row)),
        Some(Line::End { .. }) => Ok(None),
        Some(Line::Position { .. }) | None => Err(cut_off()),
    }
}

fn cut_off() -> LogError {
    LogError::disconnected("the snapshot was cut off before its end")
}

fn differs(ours: Option<&RawValue>, theirs: Option<&RawValue>) -> Verified {
    let text = |row: Option<&RawValue>| row.map_or("no more rows".to_owned(), RawValue::to_string);
    let (ours, theirs) = (text(ours), text(theirs));
    Verified::Differs(format!(
        "where the producer shares {theirs}, the cache has {ours}; rebuild the cache"
    ))
}

fn name(at: Option<Position>) -> String {
    at.map_or("nothing".to_owned(), |at| format!("{} ({})", at.seq, at.id))
}

//! Verifying: is the stream the outbox, byte for byte, and is a cache what its producer shares?

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;
use serde_json::value::RawValue;

use crate::consume::Consumer;
use crate::error::{LogError, chain};
use crate::log::{Connect, Line, Lines, Log, Position, Record, Share, record_at};
use crate::operate::ReadOnly;
use crate::outbox;

/// What a comparison found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verified {
    /// So many events or rows are the same on both sides.
    Equal { compared: u64 },
    /// The first that is not.
    Differs(String),
    /// Nothing was compared, and why: one side has not come as far as the other.
    NotYet(String),
}

const BATCH: u64 = 1000;

/// Compares the outbox with the stream: every number that both keep, subject and bytes.
pub async fn verify_stream<C: Connect>(db: &ReadOnly, to: &C) -> Result<Verified, LogError> {
    let name = to.stream();
    let mut stream = to.connect().await?;
    let Some(head) = stream.head().await? else {
        return Ok(Verified::Differs(format!("there is no stream {name}")));
    };
    let own = db.read(outbox::ends).await.map_err(unreadable)?;
    if head.origin != own.origin {
        return Ok(Verified::Differs(format!(
            "stream {name} is of database {} in epoch {}, this is {} in epoch {}",
            head.origin.database_id, head.origin.epoch, own.origin.database_id, own.origin.epoch
        )));
    }
    let (first, last) = (head.first.max(own.first), head.seq.min(own.seq));
    let mut from = first;
    while from <= last {
        let to = last.min(from + BATCH - 1);
        let ours = db.read(move |rows| rows_between(rows, from, to)).await;
        let ours = ours.map_err(unreadable)?;
        let theirs = read_between(&mut stream, from, to).await?;
        if let Some(difference) = (from..=to).find_map(|seq| compare(seq, &ours, &theirs)) {
            return Ok(Verified::Differs(difference));
        }
        from = to + 1;
    }
    if head.seq > own.seq {
        let why = format!("the stream ends at {}, the outbox at {}", head.seq, own.seq);
        return Ok(Verified::Differs(why));
    }
    if first > last && own.seq > 0 {
        let why = format!(
            "there is no event that both keep: the outbox ends at {}, the stream at {}",
            own.seq, head.seq
        );
        return Ok(Verified::NotYet(why));
    }
    Ok(Verified::Equal {
        compared: (last + 1).saturating_sub(first),
    })
}

type Records = BTreeMap<u64, Record>;

fn rows_between(rows: &Connection, from: u64, to: u64) -> rusqlite::Result<Records> {
    let (mut found, mut after) = (Records::new(), from - 1);
    loop {
        let some = outbox::rows_after(rows, after, BATCH as usize)?;
        let Some(last) = some.last() else { break };
        after = last.seq;
        found.extend(
            some.into_iter()
                .filter(|row| row.seq <= to)
                .map(|row| (row.seq, row)),
        );
        if after >= to {
            break;
        }
    }
    Ok(found)
}

async fn read_between(stream: &mut impl Log, from: u64, to: u64) -> Result<Records, LogError> {
    let (mut found, mut after) = (Records::new(), from - 1);
    while after < to {
        let limit = usize::try_from(to - after).unwrap_or(BATCH as usize);
        let mut some = stream.read_after(after, limit, Duration::ZERO).await?;
        if some.is_empty() {
            // Of several nodes one may lag behind. The one that leads is asked, for as long as it may take.
            some.extend(record_at(stream, after + 1).await?);
        }
        let Some(last) = some.last() else { break };
        after = last.seq;
        found.extend(
            some.into_iter()
                .filter(|record| record.seq <= to)
                .map(|record| (record.seq, record)),
        );
    }
    Ok(found)
}

fn compare(seq: u64, ours: &Records, theirs: &Records) -> Option<String> {
    match (ours.get(&seq), theirs.get(&seq)) {
        (Some(own), Some(their)) if own == their => None,
        (Some(own), Some(their)) if own.event_id() == their.event_id() => Some(format!(
            "event {seq} has other bytes in the stream than in the outbox"
        )),
        (Some(own), Some(their)) => {
            let (own, their) = (id(own), id(their));
            Some(format!(
                "event {seq} is {own} in the outbox and {their} in the stream"
            ))
        }
        (Some(own), None) => Some(format!(
            "event {seq} ({}) is missing in the stream",
            id(own)
        )),
        (None, Some(their)) => Some(format!(
            "event {seq} ({}) is missing in the outbox",
            id(their)
        )),
        (None, None) => Some(format!("event {seq} is missing on both sides")),
    }
}

fn id(record: &Record) -> String {
    record
        .event_id()
        .map_or("no event of ours".to_owned(), |id| id.to_string())
}

/// Compares a cache with a snapshot of its producer, row by row as they come: both are read in the same order. They must be
/// of the same event: a cache that moves on meanwhile is not compared, and the caller may ask again.
pub async fn verify_cache(db: &ReadOnly, consumer: &Consumer) -> Result<Verified, LogError> {
    let (Some(share), Some(producer)) = (consumer.share(), consumer.producer()) else {
        return Ok(Verified::NotYet(
            "it has no producer to compare with".to_owned(),
        ));
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
            let (here, there) = (place(here), place(at));
            let why = format!("it has applied {here}, and its producer is at {there}");
            return Ok(Ok(Verified::NotYet(why)));
        }
        compare_rows(&tx, share, &mut lines)
    });
    read.await.map_err(unreadable)?
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
    LogError::lost("the snapshot was cut off before its end")
}

fn differs(ours: Option<&RawValue>, theirs: Option<&RawValue>) -> Verified {
    let text =
        |row: Option<&RawValue>| row.map_or("no more rows".to_owned(), |row| row.to_string());
    let (ours, theirs) = (text(ours), text(theirs));
    Verified::Differs(format!(
        "where the producer shares {theirs}, the cache has {ours}; a rebuild loads it anew"
    ))
}

fn place(at: Option<Position>) -> String {
    at.map_or("nothing".to_owned(), |at| format!("{} ({})", at.seq, at.id))
}

fn unreadable(error: crate::error::ReadError<rusqlite::Error>) -> LogError {
    LogError::lost(format!("the database cannot be read: {}", chain(&error)))
}

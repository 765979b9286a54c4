//! Verifying: is the stream the outbox, byte for byte, and is a cache what its producer shares?

use std::collections::BTreeMap;
use std::time::Duration;

use rusqlite::Connection;

use crate::beside::ReadOnly;
use crate::consumer::Consumer;
use crate::error::{LogError, chain};
use crate::log::{Connect, Log, Record};
use crate::outbox;
use crate::snapshot::{Line, Position};

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
        let some = stream.read_after(after, limit, Duration::ZERO).await?;
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

/// Compares a cache with a snapshot of its producer, row by row. It must have been read at the same event: a cache that
/// moves on meanwhile is not compared, and whoever asks may ask again.
pub async fn verify_cache(db: &ReadOnly, consumer: &Consumer) -> Result<Verified, LogError> {
    let (Some(share), Some(producer)) = (consumer.share(), consumer.producer()) else {
        return Ok(Verified::NotYet(
            "it has no producer to compare with".to_owned(),
        ));
    };
    let mut lines = producer.snapshot(None).await?;
    let (mut theirs, mut at) = (Vec::new(), None);
    loop {
        let cut = || LogError::lost("the snapshot was cut off before its end");
        match lines.recv().await.ok_or_else(cut)?? {
            Line::Position { at: position, .. } => at = position,
            Line::Row(row) => theirs.push(row.get().to_owned()),
            Line::End { .. } => break,
        }
    }
    let known = consumer.clone();
    let read = db.read(move |rows| {
        let tx = rows.unchecked_transaction()?;
        let mut ours = Vec::new();
        share(&tx, &mut |row| {
            ours.push(row.get().to_owned());
            true
        })?;
        Ok((known.position(&tx)?, ours))
    });
    let (here, ours) = read.await.map_err(unreadable)?;
    if here != at {
        return Ok(Verified::NotYet(format!(
            "it has applied {}, and its producer is at {}",
            place(here),
            place(at)
        )));
    }
    Ok(compare_rows(&ours, &theirs))
}

fn compare_rows(ours: &[String], theirs: &[String]) -> Verified {
    let count = |rows: &[String]| {
        let mut counted = BTreeMap::new();
        for row in rows {
            *counted.entry(row.clone()).or_insert(0) += 1;
        }
        counted
    };
    let (here, there) = (count(ours), count(theirs));
    for (row, times) in &there {
        if here.get(row) != Some(times) {
            return Verified::Differs(format!(
                "the producer shares {row}, and the cache has no such row; a rebuild loads it anew"
            ));
        }
    }
    match here.keys().find(|row| !there.contains_key(*row)) {
        Some(row) => Verified::Differs(format!(
            "the cache has {row}, and the producer shares no such row; a rebuild loads it anew"
        )),
        None => Verified::Equal {
            compared: ours.len() as u64,
        },
    }
}

fn place(at: Option<Position>) -> String {
    at.map_or("nothing".to_owned(), |at| format!("{} ({})", at.seq, at.id))
}

fn unreadable(error: crate::error::ReadError<rusqlite::Error>) -> LogError {
    LogError::lost(format!("the database cannot be read: {}", chain(&error)))
}

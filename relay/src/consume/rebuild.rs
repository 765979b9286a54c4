//! The rebuild: a cache that cannot follow its stream any more is loaded anew from the producer's snapshot.
//!
//! Rows wait in a table of the library until all have come. Then one transaction empties the cache, loads it, and moves
//! the offset: readers see the old cache until they see the whole new one.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::follow::{Trouble, of_producer};
use super::position;
use super::{Consumer, dead_letter, start};
use crate::database::{self, Database, Rows, Tx};
use crate::error::{ApplyError, LogError, WriteError};
use crate::log::{Holds, Line, Lines, Position, Producer, Share};
use crate::outbox::quarantine;

/// Rows one transaction stores while they come, at most.
const STORE_BATCH: usize = 500;

/// In the audit.
const LOADED: &str = "snapshot loaded";

/// The tables of a projection, as the rows of a snapshot.
#[derive(Clone)]
pub(super) struct Cache {
    tables: &'static [&'static str],
    load: Arc<Load>,
    pub(super) share: Share,
}

type Load = dyn Fn(&Rows<'_>, &RawValue) -> Result<(), ApplyError> + Send + Sync;

/// What a rebuild came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rebuilt {
    pub(super) rows: u64,
    pub(super) offset: u64,
}

impl Cache {
    pub(super) fn new<S: DeserializeOwned>(
        tables: &'static [&'static str],
        load: impl Fn(&Rows<'_>, &S) -> Result<(), ApplyError> + Send + Sync + 'static,
        share: Share,
    ) -> Self {
        let load = move |rows: &Rows<'_>, row: &RawValue| {
            let row = serde_json::from_str(row.get());
            let row = row.map_err(|error| ApplyError::Rejected(format!("undecodable: {error}")))?;
            load(rows, &row)
        };
        Self {
            tables,
            load: Arc::new(load),
            share,
        }
    }
}

/// Loads the snapshot and swaps it in.
pub(super) async fn rebuild(
    db: &Database,
    consumer: &Consumer,
    cache: &Cache,
    producer: &dyn Producer,
    why: &str,
) -> Result<Rebuilt, Trouble> {
    let name = consumer.name;
    let here = db.read(move |rows| position::load(rows, name)).await?;
    let mut lines = producer.snapshot(here).await.map_err(of_producer)?;
    let head = begin(&mut lines, consumer).await.map_err(of_producer)?;
    let stored = store(db, consumer, &mut lines).await;
    let rows = stored.map_err(of_producer)?;
    let (consumer, cache, why) = (consumer.clone(), cache.clone(), why.to_owned());
    let swapped = db.apply(move |tx| swap(tx, &consumer, &cache, here, &head, &why));
    let offset = swapped.await.map_err(|error| match error {
        WriteError::Work(ApplyError::Fatal(why)) => Trouble::Fatal(why),
        other => of_producer(unwritten(other)),
    })?;
    Ok(Rebuilt { rows, offset })
}

/// What a snapshot says of itself.
struct Head {
    at: Option<Position>,
    epoch: u32,
    holds: Option<Holds>,
}

async fn begin(lines: &mut Lines, consumer: &Consumer) -> Result<Head, LogError> {
    match next(lines).await? {
        Line::Position { stream, .. } if stream != consumer.stream => {
            let why = format!("the snapshot is of stream {stream}");
            Err(LogError::Misconfigured(why))
        }
        Line::Position {
            at, epoch, holds, ..
        } => Ok(Head { at, epoch, holds }),
        _ => Err(LogError::lost(
            "the snapshot does not begin with its position",
        )),
    }
}

async fn next(lines: &mut Lines) -> Result<Line, LogError> {
    let cut = || LogError::lost("the snapshot was cut off before its end");
    lines.recv().await.ok_or_else(cut)?
}

/// Stores the rows as they come; answers how many.
async fn store(db: &Database, consumer: &Consumer, lines: &mut Lines) -> Result<u64, LogError> {
    let name = consumer.name;
    let clear = db.apply(move |tx| forget(tx, name)).await;
    clear.map_err(unwritten)?;
    let (mut stored, mut waiting) = (0, Vec::new());
    loop {
        let line = next(lines).await?;
        let ended = matches!(line, Line::End { .. });
        match line {
            Line::Row(row) => waiting.push(row),
            Line::End { rows } if rows == stored + waiting.len() as u64 => {}
            _ => return Err(LogError::lost("the snapshot is not whole")),
        }
        if ended || waiting.len() == STORE_BATCH {
            let (from, batch) = (stored, std::mem::take(&mut waiting));
            stored += batch.len() as u64;
            let write = db.apply(move |tx| insert(tx, name, from, &batch)).await;
            write.map_err(unwritten)?;
            let status = &consumer.status;
            status.send_modify(|status| status.rebuilding = Some(stored));
        }
        if ended {
            return Ok(stored);
        }
    }
}

/// One transaction: the old cache out, the new one in, the offset moved.
fn swap(
    tx: &Tx<'_>,
    consumer: &Consumer,
    cache: &Cache,
    here: Option<Position>,
    head: &Head,
    why: &str,
) -> Result<u64, ApplyError> {
    if position::load(tx, consumer.name)? != here {
        let moved = "the offset has moved meanwhile".to_owned();
        return Err(ApplyError::Transient(moved));
    }
    for table in cache.tables.iter().rev() {
        tx.execute(&format!("delete from {table}"), [])?;
    }
    let mut staged =
        tx.prepare("select line from relay_snapshot where consumer = ?1 order by n")?;
    let mut lines = staged.query([consumer.name])?;
    while let Some(line) = lines.next()? {
        let line: Vec<u8> = line.get(0)?;
        let row: &RawValue = serde_json::from_slice(&line)
            .map_err(|error| ApplyError::Rejected(error.to_string()))?;
        (cache.load)(tx.rows(), row)?;
    }
    drop(lines);
    drop(staged);
    forget(tx, consumer.name)?;
    dead_letter::superseded(tx, consumer.name)?;
    if let (Some(here), Some(Holds::No)) = (here, head.holds) {
        let reason = "it was applied here, and its producer's log does not hold it";
        quarantine::id_only(tx, consumer.stream, here.seq, here.id, reason)?;
    }
    match head.at {
        Some(at) => position::store(tx, consumer.name, consumer.stream, at, head.epoch)?,
        None => start::begin(tx, consumer, None)?,
    }
    let offset = head.at.map_or(0, |at| at.seq);
    let detail = format!(
        "{}: from {} to {offset}, because {why}",
        consumer.name,
        start::words(here),
    );
    if is_news(tx, &detail)? {
        database::audit(tx, tx.now_ms(), LOADED, &detail)?;
    }
    Ok(offset)
}

fn unwritten<E: std::error::Error + Send + Sync + 'static>(error: WriteError<E>) -> LogError {
    LogError::lost_because("the snapshot cannot be stored", error)
}

// The statements.

/// A load that only repeats the last one needs no second row.
fn is_news(rows: &Connection, detail: &str) -> rusqlite::Result<bool> {
    let sql = "select action <> ?1 or detail <> ?2 from relay_audit order by id desc limit 1";
    let last = rows.query_row(sql, (LOADED, detail), |row| row.get(0));
    Ok(last.optional()?.unwrap_or(true))
}

fn forget(rows: &Connection, consumer: &str) -> rusqlite::Result<()> {
    rows.execute("delete from relay_snapshot where consumer = ?1", [consumer])?;
    Ok(())
}

fn insert(
    rows: &Connection,
    consumer: &str,
    from: u64,
    batch: &[Box<RawValue>],
) -> rusqlite::Result<()> {
    let sql = "insert into relay_snapshot (consumer, n, line) values (?1, ?2, ?3)";
    let mut insert = rows.prepare_cached(sql)?;
    for (row, n) in batch.iter().zip(from..) {
        insert.execute((consumer, n, row.get().as_bytes()))?;
    }
    Ok(())
}

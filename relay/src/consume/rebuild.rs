//! The rebuild: a cache that cannot follow its stream any more is loaded from a snapshot of its producer.
//!
//! Rows wait in a table of the library until all have come. Then one transaction empties the cache, loads it, and moves
//! the offset: readers see the old cache until they see the whole new one.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::position;
use super::resume::NOT_HELD;
use super::start::{self, Point};
use super::step::Trouble;
use super::{Consumer, dead_letter};
use crate::database::{Database, Rows, Tx};
use crate::error::{ApplyError, LogError};
use crate::log::{Holds, Line, Lines, Position, Share};
use crate::outbox::quarantine;

/// Rows one transaction stores while they come, at most.
const STORE_BATCH: usize = 500;

/// In the audit.
const LOADED: &str = "snapshot loaded";

/// The tables of a projection, as the rows of a snapshot.
#[derive(Clone)]
pub(super) struct Cache {
    pub(super) tables: Arc<[String]>,
    load: Arc<Load>,
    pub(super) share: Share,
}

type Load = dyn Fn(&Rows<'_>, &RawValue) -> Result<(), ApplyError> + Send + Sync;

impl Cache {
    pub(super) fn new<S: DeserializeOwned>(
        tables: &[&str],
        load: impl Fn(&Rows<'_>, &S) -> Result<(), ApplyError> + Send + Sync + 'static,
        share: Share,
    ) -> Self {
        let load = move |rows: &Rows<'_>, row: &RawValue| {
            let row = serde_json::from_str(row.get());
            let row = row.map_err(|error| ApplyError::Rejected(format!("undecodable: {error}")))?;
            load(rows, &row)
        };
        Self {
            tables: tables.iter().map(|table| (*table).to_owned()).collect(),
            load: Arc::new(load),
            share,
        }
    }
}

/// Loads the snapshot and swaps it in; returns how many rows it has and the new offset.
pub(super) async fn rebuild(
    db: &Database,
    consumer: &Consumer,
    why: &str,
) -> Result<(u64, u64), Trouble> {
    let name = consumer.name.clone();
    let (Some(cache), Some(producer)) = (consumer.cache.clone(), &consumer.producer) else {
        let why = format!("{name} cannot be rebuilt: it does not say how to load a snapshot");
        return Err(Trouble::Again(why));
    };
    let here = consumer.read(db, position::load).await?;
    let mut lines = producer.snapshot(here).await?;
    let Line::Position {
        stream,
        epoch,
        at,
        holds,
    } = next(&mut lines).await?
    else {
        return Err(LogError::disconnected("the snapshot does not begin with its position").into());
    };
    if stream != consumer.stream {
        let why = format!("the snapshot is of stream {stream}");
        return Err(Trouble::Again(why));
    }
    let rows = store(db, consumer, &mut lines).await?;
    let (consumer, why, to) = (consumer.clone(), why.to_owned(), at.map(|at| (at, epoch)));
    let lost = here.filter(|_| holds == Some(Holds::No));
    let work = move |tx: &Tx<'_>| swap(tx, &consumer, &cache, (here, to), lost, &why);
    Ok((rows, db.write_past_gate(work).await?))
}

async fn next(lines: &mut Lines) -> Result<Line, LogError> {
    let cut = || LogError::disconnected("the snapshot was cut off before its end");
    lines.recv().await.ok_or_else(cut)?
}

/// Stores the rows as they come; returns how many.
async fn store(db: &Database, consumer: &Consumer, lines: &mut Lines) -> Result<u64, Trouble> {
    let name = consumer.name.clone();
    db.write_past_gate(move |tx| forget(tx, &name)).await?;
    let (mut stored, mut waiting) = (0, Vec::new());
    loop {
        let line = next(lines).await?;
        let ended = matches!(line, Line::End { .. });
        match line {
            Line::Row(row) => waiting.push(row),
            Line::End { rows } if rows == stored + waiting.len() as u64 => {}
            _ => return Err(LogError::disconnected("the snapshot is not whole").into()),
        }
        if ended || waiting.len() == STORE_BATCH {
            let (name, n) = (consumer.name.clone(), stored);
            let batch = serde_json::to_vec(&waiting);
            let batch = batch.map_err(|error| LogError::disconnected(error.to_string()))?;
            db.write_past_gate(move |tx| insert(tx, &name, n, &batch))
                .await?;
            stored += waiting.len() as u64;
            waiting.clear();
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
    (here, to): (Option<Position>, Point),
    lost: Option<Position>,
    why: &str,
) -> Result<u64, ApplyError> {
    let (name, stream) = (&consumer.name, consumer.stream);
    position::check(tx, name, here)?;
    load(tx, cache, name)?;
    forget(tx, name)?;
    dead_letter::superseded(tx, name)?;
    if let Some(lost) = lost {
        quarantine::id_only(tx, stream, lost.seq, lost.id, NOT_HELD)?;
    }
    match to {
        Some((at, epoch)) => position::store(tx, name, stream, at, epoch)?,
        None => start::begin(tx, consumer, None)?,
    }
    let offset = to.map_or(0, |(at, _)| at.seq);
    let from = start::words(here);
    let detail = format!("{name}: from {from} to {offset}, because {why}");
    if is_news(tx, &detail)? {
        tx.audit(LOADED, &detail)?;
    }
    Ok(offset)
}

/// Replaces the rows of the cache with those that have come.
fn load(tx: &Tx<'_>, cache: &Cache, consumer: &str) -> Result<(), ApplyError> {
    for table in cache.tables.iter().rev() {
        tx.execute(&format!("delete from {table}"), [])?;
    }
    let mut lines = tx.prepare("select line from relay_snapshot where consumer = ?1 order by n")?;
    let mut lines = lines.query([consumer])?;
    while let Some(line) = lines.next()? {
        let batch: Vec<u8> = line.get(0)?;
        let batch = serde_json::from_slice::<Vec<&RawValue>>(&batch);
        for row in batch.map_err(|error| ApplyError::Rejected(error.to_string()))? {
            (cache.load)(tx.rows(), row)?;
        }
    }
    Ok(())
}

// The statements.

/// A load that only repeats the last one needs no second row.
fn is_news(rows: &Connection, detail: &str) -> rusqlite::Result<bool> {
    let sql = "select action <> ?1 or detail <> ?2 from relay_audit order by id desc limit 1";
    let last = rows.query_row(sql, (LOADED, detail), |row| row.get(0));
    Ok(last.optional()?.unwrap_or(true))
}

fn forget(rows: &Connection, consumer: &str) -> Result<(), ApplyError> {
    rows.execute("delete from relay_snapshot where consumer = ?1", [consumer])?;
    Ok(())
}

/// One row for each batch, as a JSON array.
fn insert(rows: &Connection, consumer: &str, n: u64, batch: &[u8]) -> Result<(), ApplyError> {
    let sql = "insert into relay_snapshot (consumer, n, line) values (?1, ?2, ?3)";
    rows.execute(sql, (consumer, n, batch))?;
    Ok(())
}

//! The events that a reaction has answered, according to its service's own log (see [`Causation`]).

use std::collections::HashSet;

use rusqlite::Connection;

use super::dead_letter::{self, LAST};
use super::{position, start};
use crate::database::Tx;
use crate::event::{Causation, Envelope, EventId};
use crate::log::Position;

/// An event with this causation was imported. If it is the last of its answer, the event that it answers needs no second
/// answer: the reaction will skip it, and if it is a dead letter, that is resolved.
pub(crate) fn imported(tx: &Tx<'_>, causation: &Causation) -> rusqlite::Result<()> {
    let (consumer, answered) = (&causation.consumer, at(causation));
    if causation.more {
        return Ok(());
    }
    dead_letter::answered(tx, consumer, answered.seq)?;
    match position::load(tx, consumer)? {
        Some(known) if known.seq >= answered.seq => Ok(()),
        _ => skip(tx, consumer, answered),
    }
}

pub(super) fn at(causation: &Causation) -> Position {
    Position {
        seq: causation.seq,
        id: causation.id,
    }
}

/// The events up to this sequence that a reaction skips, since their answers are in the log. A batch reads no more of them,
/// and removes them once it has skipped them.
pub(super) fn answered(
    rows: &Connection,
    consumer: &str,
    upto: u64,
) -> rusqlite::Result<HashSet<EventId>> {
    let sql = "select event_id from relay_answered where consumer = ?1 and seq <= ?2";
    rows.prepare_cached(sql)?
        .query_map((consumer, upto), |row| row.get(0))?
        .collect()
}

/// The first event that a reaction has yet to skip, since its answer is in the log.
pub(super) fn first_answered(rows: &Connection, consumer: &str) -> rusqlite::Result<Option<u64>> {
    let sql = "select min(seq) from relay_answered where consumer = ?1";
    rows.query_row(sql, [consumer], |row| row.get(0))
}

/// Every whole answer of a reaction in its service's log, in order.
pub(super) fn answers(rows: &Connection, consumer: &str) -> rusqlite::Result<Vec<Causation>> {
    let sql = "select envelope from relay_outbox where instr(envelope, cast(?1 as blob)) > 0 order by seq";
    let mut statement = rows.prepare(sql)?;
    let mut found = statement.query([consumer])?;
    let mut answers = Vec::new();
    while let Some(row) = found.next()? {
        let envelope: Vec<u8> = row.get(0)?;
        let envelope = Envelope::parse(&envelope).ok();
        let causation = envelope.and_then(|envelope| Causation::of(&envelope));
        answers.extend(causation.filter(|of| of.consumer == consumer && !of.more));
    }
    Ok(answers)
}

fn skip(rows: &Connection, consumer: &str, at: Position) -> rusqlite::Result<()> {
    let sql = "insert or replace into relay_answered (consumer, seq, event_id) values (?1, ?2, ?3)";
    rows.prepare_cached(sql)?
        .execute((consumer, at.seq, at.id))
        .map(drop)
}

/// Events that the reaction has skipped need no second look.
pub(super) fn forget(rows: &Connection, consumer: &str, upto: u64) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from relay_answered where consumer = ?1 and seq <= ?2")?
        .execute((consumer, upto))
        .map(drop)
}

/// A consumer that goes back reads the events after this sequence again, except those that it has answered.
pub(super) fn read_again(tx: &Tx<'_>, consumer: &str, after: u64) -> rusqlite::Result<()> {
    dead_letter::read_again(tx, consumer, after)?;
    forget(tx, consumer, LAST)?;
    let mut answers = answers(tx, consumer)?;
    answers.retain(|answer| answer.seq > after);
    let mut answered = answers.iter().map(at);
    answered.try_for_each(|at| skip(tx, consumer, at))
}

/// Takes a reaction back whose later answers no log holds any more: to the event of its last answer, or to where it began.
pub(crate) fn take_back(tx: &Tx<'_>, consumer: &str) -> rusqlite::Result<()> {
    let began = start::begun(tx, consumer)?.flatten();
    let began = began.map_or(0, |began| began.seq);
    let last = answers(tx, consumer)?.pop();
    let last = last.filter(|last| last.seq >= began);
    match &last {
        Some(last) => position::store(tx, consumer, &last.stream, at(last), last.epoch)?,
        None => start::go_back(tx, consumer)?,
    }
    read_again(tx, consumer, last.map_or(began, |last| last.seq))
}

//! The events that a reaction has answered, as its service's own log says (see [`Causation`]).

use std::collections::HashSet;

use rusqlite::Connection;

use super::dead_letter::LAST;
use super::position;
use super::{dead_letter, start};
use crate::database::Tx;
use crate::event::{Causation, Envelope, EventId};
use crate::log::Position;

/// An event with this causation is in the log. If it is the last of its answer, the event that was answered needs no second
/// answer: the reaction will pass it by, and if it is a dead letter, that is resolved.
pub(crate) fn imported(tx: &Tx<'_>, causation: &Causation) -> rusqlite::Result<()> {
    let Causation {
        consumer, seq, id, ..
    } = causation;
    if causation.more {
        return Ok(());
    }
    dead_letter::answered(tx, consumer, *seq)?;
    let known = position::load(tx, consumer)?;
    if known.is_none_or(|known| known.seq < *seq) {
        pass(tx, consumer, Position { seq: *seq, id: *id })?;
    }
    Ok(())
}

/// The events up to here that a reaction passes by, since their answers are in the log. What it has passed is forgotten, so
/// of a long log that is imported only a batch is read.
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

/// The first event that a reaction has still to pass by, since its answer is in the log.
pub(super) fn first_answered(rows: &Connection, consumer: &str) -> rusqlite::Result<Option<u64>> {
    let sql = "select min(seq) from relay_answered where consumer = ?1";
    rows.query_row(sql, [consumer], |row| row.get(0))
}

/// Every event that a reaction has answered, according to the answers in its service's log.
pub(super) fn answers(rows: &Connection, consumer: &str) -> rusqlite::Result<Vec<Position>> {
    let sql = "select envelope from relay_outbox where instr(envelope, cast(?1 as blob)) > 0 order by seq";
    let mut statement = rows.prepare(sql)?;
    let mut found = statement.query([consumer])?;
    let mut answers = Vec::new();
    while let Some(row) = found.next()? {
        let envelope: Vec<u8> = row.get(0)?;
        let causation = Envelope::parse(&envelope)
            .ok()
            .and_then(|envelope| Causation::of(&envelope));
        let answer =
            causation.filter(|causation| causation.consumer == consumer && !causation.more);
        answers.extend(answer.map(|Causation { seq, id, .. }| Position { seq, id }));
    }
    Ok(answers)
}

/// A reaction reads the events after this sequence again: those that are answered it will pass by.
pub(super) fn pass_answered(tx: &Tx<'_>, consumer: &str, after: u64) -> rusqlite::Result<()> {
    forget_answered(tx, consumer, LAST)?;
    for at in answers(tx, consumer)? {
        if at.seq > after {
            pass(tx, consumer, at)?;
        }
    }
    Ok(())
}

fn pass(rows: &Connection, consumer: &str, at: Position) -> rusqlite::Result<()> {
    let sql = "insert or replace into relay_answered (consumer, seq, event_id) values (?1, ?2, ?3)";
    rows.prepare_cached(sql)?
        .execute((consumer, at.seq, at.id))?;
    Ok(())
}

/// What the reaction has passed needs no second look.
pub(super) fn forget_answered(
    rows: &Connection,
    consumer: &str,
    upto: u64,
) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from relay_answered where consumer = ?1 and seq <= ?2")?
        .execute((consumer, upto))?;
    Ok(())
}

/// Takes a reaction back whose later answers are in no log any more: to the last event whose answer is left, or to where it
/// began. What it has set aside since then it reads again, too.
pub(crate) fn take_back(
    tx: &Tx<'_>,
    consumer: &str,
    last: Option<&Causation>,
) -> rusqlite::Result<()> {
    forget_answered(tx, consumer, LAST)?;
    let began = start::begun(tx, consumer)?.flatten();
    let began = began.map_or(0, |began| began.seq);
    let last = last.filter(|last| last.seq >= began);
    dead_letter::read_again(tx, consumer, last.map_or(began, |last| last.seq))?;
    match last {
        Some(last) => {
            let at = Position {
                seq: last.seq,
                id: last.id,
            };
            position::store(tx, consumer, &last.stream, at, last.epoch)
        }
        None => start::go_back(tx, consumer),
    }
}

//! A reaction after a fork of its stream: it goes on by itself from the last event of which it is known that it was applied
//! here and is in the producer's log.
//!
//! The reaction's own log says by causes which events it has answered. Those up to the fork are in the producer's log, those
//! after it are not, so the last one that is left is found by halving. What lies between it and the fork was looked at once
//! and needed no answer; it is looked at again, as after a restore, since a reaction decides from its service's tables.

use std::collections::{BTreeMap, HashSet};

use rusqlite::Connection;

use super::follow::{Trouble, of_producer};
use super::position;
use super::{Consumer, answered, dead_letter, start};
use crate::database::{self, Database, Tx};
use crate::error::ApplyError;
use crate::event::EventId;
use crate::log::{Holds, Position, Producer};
use crate::outbox;
use crate::outbox::quarantine;

/// What this file knows of the events that a reaction has applied.
struct Known {
    here: Position,
    /// Where it began, if not at the beginning.
    began: Option<Position>,
    /// Where it began, and what it has answered or set aside since then, in order.
    applied: Vec<Position>,
    /// Each answer to an event from here on is kept in the service's log; 0: to every event. `None`: none is kept.
    answers_from: Option<u64>,
}

/// Takes the reaction back; answers the sequence after which it goes on.
pub(super) async fn resume(
    db: &Database,
    consumer: &Consumer,
    producer: &dyn Producer,
    why: &str,
) -> Result<u64, Trouble> {
    let (name, stream) = (consumer.name, consumer.stream);
    let known = db.read(move |rows| known(rows, name, stream)).await?;
    let Some(known) = known else {
        return Err(Trouble::Again(why.to_owned())); // it has applied nothing, so nothing can be another log's
    };
    let held = held(producer, &known).await?;
    let Some(held) = held else {
        return Err(Trouble::Again(format!(
            "{why}; nothing more is applied, because nothing says up to where its events are still in its producer's log: say with start-at where it goes on"
        )));
    };
    let (consumer, why) = (consumer.clone(), why.to_owned());
    let work = move |tx: &Tx<'_>| go_back(tx, &consumer, &known, held, &why);
    // Not `apply`: until its own log is known to be whole, answers may be missing from it.
    Ok(db.write(work).await?)
}

/// How many of the applied events the producer's log still holds, if that can be known.
async fn held(producer: &dyn Producer, known: &Known) -> Result<Option<usize>, Trouble> {
    let holds = async |at| producer.holds(at).await.map_err(of_producer);
    let (mut held, mut lost) = (0, known.applied.len());
    while held < lost {
        let middle = held + (lost - held) / 2;
        match holds(known.applied[middle]).await? {
            Holds::No => lost = middle,
            Holds::Yes | Holds::Pruned => held = middle + 1,
        }
    }
    // An answer that its own log does not keep any more would be given again.
    let last = held.checked_sub(1).map(|last| known.applied[last]);
    let after = last.map_or(0, |last| last.seq);
    if known.answers_from.is_none_or(|from| after < from) {
        return Ok(None);
    }
    let is_certain = match (last, known.began) {
        (Some(last), _) => holds(last).await? == Holds::Yes,
        (None, Some(_)) => false, // another log already where it began
        // Everything is read again: is everything there?
        (None, None) => {
            let first = Position {
                seq: 1,
                ..known.here
            };
            holds(first).await? != Holds::Pruned
        }
    };
    Ok(is_certain.then_some(held))
}

/// One transaction: what no log holds any more is reported by its ids, the position goes back, and the audit says so.
fn go_back(
    tx: &Tx<'_>,
    consumer: &Consumer,
    known: &Known,
    held: usize,
    why: &str,
) -> Result<u64, ApplyError> {
    let (name, stream, here) = (consumer.name, consumer.stream, known.here);
    if position::load(tx, name)? != Some(here) {
        let moved = "the offset has moved meanwhile".to_owned();
        return Err(ApplyError::Transient(moved));
    }
    let (kept, lost) = known.applied.split_at(held);
    let reason = "it was applied here, and its producer's log does not hold it";
    for at in lost.iter().chain([&here]) {
        quarantine::id_only(tx, stream, at.seq, at.id, reason)?;
    }
    let to = kept.last().copied();
    let after = to.map_or(0, |to| to.seq);
    match to {
        Some(to) => position::move_to(tx, name, to)?,
        None => start::go_back(tx, name)?,
    }
    dead_letter::read_again(tx, name, after)?;
    // Those of the lost line match no event. Its own log may hold answers to several lines, and halving may have ended early.
    answered::pass_answered(tx, name, after)?;
    let detail = format!(
        "{name}: from {} to {}, because {why}",
        start::words(Some(here)),
        start::words(to)
    );
    database::audit(
        tx,
        tx.now_ms(),
        "reaction went back to before a fork",
        &detail,
    )?;
    Ok(after)
}

fn known(rows: &Connection, consumer: &str, stream: &str) -> rusqlite::Result<Option<Known>> {
    let Some(here) = position::load(rows, consumer)? else {
        return Ok(None);
    };
    let began = start::begun(rows, consumer)?.flatten();
    let lost = lost_before(rows, stream)?;
    let (answers, letters) = (
        answered::answers(rows, consumer)?,
        dead_letter::positions(rows, consumer)?,
    );
    let is_whole = outbox::rows::ends(rows)?.first <= 1;
    let kept = answers.iter().filter(|at| !lost.contains(&at.id));
    let answers_from = match is_whole {
        true => Some(0),
        false => kept.map(|at| at.seq).min(),
    };
    let applied: BTreeMap<u64, EventId> = (began.into_iter().chain(answers).chain(letters))
        .filter(|at| at.seq >= began.map_or(0, |began| began.seq) && !lost.contains(&at.id))
        .map(|at| (at.seq, at.id))
        .collect();
    let applied = applied.into_iter().map(|(seq, id)| Position { seq, id });
    Ok(Some(Known {
        here,
        began,
        applied: applied.collect(),
        answers_from,
    }))
}

/// Events that an earlier fork took from this stream.
fn lost_before(rows: &Connection, stream: &str) -> rusqlite::Result<HashSet<EventId>> {
    let sql = "select event_id from relay_set_aside where found_in = 'consumer' and log = ?1";
    let mut statement = rows.prepare(sql)?;
    statement.query_map([stream], |row| row.get(0))?.collect()
}

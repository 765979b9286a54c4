//! A reaction after a fork of its stream: it goes on from the last event that was applied here and is in the producer's log.
//!
//! The causation in its own log shows which events the reaction has answered. Those up to the fork are in the producer's log,
//! those after it are not, so a binary search finds the last that is left. Events between it and the fork were seen once and
//! needed no answer; the reaction gets them again, as after a restore, since it decides from its service's tables.

use std::collections::{BTreeMap, HashSet};

use rusqlite::Connection;

use super::position;
use super::step::Trouble;
use super::{Consumer, answered, dead_letter, start};
use crate::database::{Database, Tx};
use crate::error::{ApplyError, LogError};
use crate::event::EventId;
use crate::log::{Holds, Position, Producer};
use crate::outbox::{self, quarantine};

/// Quarantined events say so.
pub(super) const NOT_HELD: &str = "it was applied here, and its producer's log does not hold it";

/// The events that a reaction has applied, as far as this file shows.
struct Known {
    here: Position,
    /// Where it began, if not at the beginning.
    began: Option<Position>,
    /// Where it began, and its answered and dead events since then, in order.
    applied: Vec<Position>,
    /// The service's log keeps each answer to an event from here on; 0: to every event. `None`: it keeps none.
    answers_from: Option<u64>,
}

/// Moves the reaction back; returns the sequence after which it goes on.
pub(super) async fn resume(db: &Database, consumer: &Consumer, why: &str) -> Result<u64, Trouble> {
    let (name, stream) = (consumer.name.clone(), consumer.stream);
    let known = db.read(move |rows| known(rows, &name, stream)).await?;
    let (Some(known), Some(producer)) = (known, &consumer.producer) else {
        return Err(Trouble::Again(why.to_owned())); // nothing is applied, so nothing can be of another log
    };
    let Some(held) = held(&**producer, &known).await? else {
        return Err(Trouble::Again(format!(
            "{why}; nothing more is applied, because it is unknown up to where its events are still in its producer's log: say with start-at where it goes on"
        )));
    };
    let (consumer, why) = (consumer.clone(), why.to_owned());
    let work = move |tx: &Tx<'_>| go_back(tx, &consumer, &known, held, &why);
    // Not `apply`: until its own log is known to be whole, answers may be missing from it.
    Ok(db.write(work).await?)
}

/// How many of the applied events the producer's log still holds, if that can be known.
async fn held(producer: &dyn Producer, known: &Known) -> Result<Option<usize>, LogError> {
    let (mut held, mut lost) = (0, known.applied.len());
    while held < lost {
        let middle = held.midpoint(lost);
        match producer.holds(known.applied[middle]).await? {
            Holds::No => lost = middle,
            Holds::Yes | Holds::Pruned => held = middle + 1,
        }
    }
    let last = known.applied[..held].last().copied();
    // An answer that its own log does not keep any more would be given again.
    let after = last.map_or(0, |last| last.seq);
    if known.answers_from.is_none_or(|from| after < from) {
        return Ok(None);
    }
    let is_certain = match (last, known.began) {
        (Some(last), _) => producer.holds(last).await? == Holds::Yes,
        (None, Some(_)) => false, // another log already where it began
        // Everything is read again: is everything there?
        (None, None) => {
            let id = known.here.id;
            producer.holds(Position { seq: 1, id }).await? != Holds::Pruned
        }
    };
    Ok(is_certain.then_some(held))
}

/// One transaction: the ids of events that no log holds any more are quarantined, the position goes back, and the audit records it.
fn go_back(
    tx: &Tx<'_>,
    consumer: &Consumer,
    known: &Known,
    held: usize,
    why: &str,
) -> Result<u64, ApplyError> {
    let (name, here) = (&consumer.name, known.here);
    position::check(tx, name, Some(here))?;
    let (kept, lost) = known.applied.split_at(held);
    for at in lost.iter().chain([&here]) {
        quarantine::id_only(tx, consumer.stream, at.seq, at.id, NOT_HELD)?;
    }
    let to = kept.last().copied();
    match to {
        Some(to) => position::move_to(tx, name, to)?,
        None => start::go_back(tx, name)?,
    }
    // Its own log may hold answers to several forks, and the search may have ended early.
    let after = to.map_or(0, |to| to.seq);
    answered::read_again(tx, name, after)?;
    let (from, back) = (start::words(Some(here)), start::words(to));
    let detail = format!("{name}: from {from} to {back}, because {why}");
    let action = "reaction went back to before a fork";
    tx.audit(action, &detail)?;
    Ok(after)
}

fn known(rows: &Connection, consumer: &str, stream: &str) -> rusqlite::Result<Option<Known>> {
    let Some(here) = position::load(rows, consumer)? else {
        return Ok(None);
    };
    let began = start::begun(rows, consumer)?.flatten();
    let lost = lost_before(rows, stream)?;
    let mut answers = answered::answers(rows, consumer)?;
    answers.retain(|answer| !lost.contains(&answer.id));
    let answers = answers.iter().map(answered::at);
    let answers_from = match outbox::ends(rows)?.first {
        0 | 1 => Some(0),
        _ => answers.clone().map(|at| at.seq).min(),
    };
    let letters = dead_letter::positions(rows, consumer)?;
    let from = began.map_or(0, |began| began.seq);
    let applied: BTreeMap<u64, EventId> = (began.into_iter().chain(answers).chain(letters))
        .filter(|at| at.seq >= from && !lost.contains(&at.id))
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

//! The cause: which event of which stream a reaction was answering when it emitted.
//!
//! It travels in the envelope, so that a log that comes home also says which events its service's reactions had
//! answered: otherwise a restored reaction would answer them a second time. A reaction may answer with several events.
//! All but the last say `more`, so that an answer of which only a part comes home is known to be only a part.

use std::collections::HashSet;
use std::fmt;

use rusqlite::Connection;

use super::position::{self, Position};
use super::{dead_letter, start};
use crate::database::Tx;
use crate::envelope::{Envelope, EventId};
use crate::log::Record;

/// `orders-of-deleted-users USERS 42 0198…  1`: consumer, stream, place, event id, epoch; with ` more` after it when the
/// next event answers the same one. So an event from before there was such a word is the last, as it was: there was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    consumer: String,
    stream: String,
    at: Position,
    epoch: u32,
    /// Another event follows that answers the same one.
    more: bool,
}

const MORE: &str = " more";

impl Cause {
    pub(super) fn new(consumer: &str, stream: &str, envelope: &Envelope<'_>) -> Self {
        Self {
            consumer: consumer.to_owned(),
            stream: stream.to_owned(),
            at: Position {
                seq: envelope.sequence,
                id: envelope.id,
            },
            epoch: envelope.epoch,
            more: false,
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let mut word = || words.next();
        Some(Self {
            consumer: word()?.to_owned(),
            stream: word()?.to_owned(),
            at: Position {
                seq: word()?.parse().ok()?,
                id: word()?.parse().ok()?,
            },
            epoch: word()?.parse().ok()?,
            more: word() == Some(MORE.trim()),
        })
    }

    /// The cause of an event that is not the last of its answer.
    pub(crate) fn and_more(cause: &str) -> String {
        format!("{cause}{MORE}")
    }

    /// Bytes by which an event that names a cause may still grow.
    pub(crate) fn room(cause: Option<&str>) -> usize {
        cause.map_or(0, |_| MORE.len())
    }

    /// The cause that an event of ours names.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        let envelope = Envelope::parse(&record.bytes).ok()?;
        Self::parse(&envelope.cause?)
    }

    pub(crate) fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Whether the answer ends here: a part of one does not say that the event was answered.
    pub(crate) fn is_answered(&self) -> bool {
        !self.more
    }

    /// An event that names this cause is in the log. If it is the last of its answer, the one that was answered needs no
    /// second one: the reaction will pass it by, and if it lies among the dead letters, it leaves.
    pub(crate) fn came_home(&self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        match self.is_answered() {
            true => self.was_answered(tx),
            false => Ok(()),
        }
    }

    fn was_answered(&self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        dead_letter::answered(tx, &self.consumer, self.at.seq)?;
        let known = position::load(tx, &self.consumer)?;
        if known.is_none_or(|known| known.seq < self.at.seq) {
            pass(tx, &self.consumer, self.at)?;
        }
        Ok(())
    }
}

/// The events up to here that a reaction passes by, since their answers are in the log. What it has passed is forgotten, so
/// of a long log that is imported only a batch is read.
pub(super) fn answered(
    rows: &Connection,
    consumer: &str,
    upto: u64,
) -> rusqlite::Result<HashSet<(u64, EventId)>> {
    let sql = "select seq, event_id from relay_answered where consumer = ?1 and seq <= ?2";
    rows.prepare_cached(sql)?
        .query_map((consumer, upto), |row| Ok((row.get(0)?, row.get(1)?)))?
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
        let cause = Envelope::parse(&envelope).ok().and_then(|envelope| {
            let cause = Cause::parse(&envelope.cause?)?;
            (cause.consumer == consumer && cause.is_answered()).then_some(cause.at)
        });
        answers.extend(cause);
    }
    Ok(answers)
}

/// A reaction reads the events after this sequence again: those that are answered it will pass by.
pub(super) fn pass_answered(tx: &Tx<'_>, consumer: &str, after: u64) -> rusqlite::Result<()> {
    forget_answered(tx, consumer, u64::MAX >> 1)?;
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
pub(crate) fn take_back(tx: &Tx<'_>, consumer: &str, last: Option<&Cause>) -> rusqlite::Result<()> {
    forget_answered(tx, consumer, u64::MAX >> 1)?;
    let began = start::begun(tx, consumer)?.flatten();
    let began = began.map_or(0, |began| began.seq);
    let last = last.filter(|last| last.at.seq >= began);
    dead_letter::read_again(tx, consumer, last.map_or(began, |last| last.at.seq))?;
    match last {
        Some(last) => position::store(tx, consumer, &last.stream, last.at, last.epoch),
        None => start::go_back(tx, consumer),
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            consumer,
            stream,
            at,
            epoch,
            more,
        } = self;
        let more = if *more { MORE } else { "" };
        write!(f, "{consumer} {stream} {} {} {epoch}{more}", at.seq, at.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::System;

    #[test]
    fn a_batch_reads_the_answers_to_its_own_events_only() {
        let rows = Connection::open_in_memory().unwrap();
        let table =
            "create table relay_answered (consumer, seq, event_id, primary key (consumer, seq))";
        rows.execute_batch(table).unwrap();
        let at = |seq| Position {
            seq,
            id: EventId::draw(&System),
        };
        for place in [at(3), at(4), at(900)] {
            pass(&rows, "notes", place).unwrap();
        }
        pass(&rows, "other", at(4)).unwrap();
        let found = answered(&rows, "notes", 4).unwrap();
        let mut found: Vec<u64> = found.into_iter().map(|(seq, _)| seq).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn a_cause_is_read_as_it_was_written_by_every_version() {
        let id = EventId::draw(&System);
        for more in ["", MORE] {
            let text = format!("notes PARCELS 42 {id} 1{more}");
            let cause = Cause::parse(&text).unwrap();
            assert_eq!(cause.at, Position { seq: 42, id });
            assert_eq!(
                (cause.to_string(), cause.is_answered()),
                (text, more.is_empty())
            );
        }
        assert_eq!(Cause::parse("my notes PARCELS 42 1"), None);
    }
}

//! The cause: which event of which stream a reaction was answering when it emitted.
//!
//! It travels in the envelope, so that a log that comes home also says which events its service's reactions had
//! answered: otherwise a restored reaction would answer them a second time. A reaction may answer with several events.
//! All but the last say `more`, so that an answer of which only a part comes home is known to be only a part.

use std::collections::HashSet;
use std::fmt;

use rusqlite::Connection;

use super::dead_letter;
use super::position::{self, Position};
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
            let sql = "insert or replace into relay_answered (consumer, seq, event_id) values (?1, ?2, ?3)";
            tx.prepare_cached(sql)?
                .execute((&self.consumer, self.at.seq, self.at.id))?;
        }
        Ok(())
    }
}

/// The events that a reaction passes by, since their answers are in the log.
pub(super) fn answered(
    rows: &Connection,
    consumer: &str,
) -> rusqlite::Result<HashSet<(u64, EventId)>> {
    rows.prepare_cached("select seq, event_id from relay_answered where consumer = ?1")?
        .query_map([consumer], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
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

/// Takes a reaction back whose later answers are in no log any more: to the last event whose answer is left, or to the
/// beginning. What it has set aside since then it reads again, too.
pub(crate) fn take_back(tx: &Tx<'_>, consumer: &str, last: Option<&Cause>) -> rusqlite::Result<()> {
    forget_answered(tx, consumer, u64::MAX >> 1)?;
    dead_letter::read_again(tx, consumer, last.map_or(0, |last| last.at.seq))?;
    match last {
        Some(last) => position::store(tx, consumer, &last.stream, last.at, last.epoch),
        None => position::forget(tx, consumer),
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

//! The cause: which event of which stream a reaction was answering when it emitted.
//!
//! It travels in the envelope, so that a log that comes home also says how far its service's reactions had come:
//! otherwise a restored reaction would answer the same event a second time.

use std::fmt;

use super::dead_letter;
use super::position::{self, Position};
use crate::database::Tx;
use crate::envelope::Envelope;

/// `orders-of-deleted-users USERS 42 0198…  1`: consumer, stream, place, event id, epoch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    consumer: String,
    stream: String,
    at: Position,
    epoch: u32,
}

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
        })
    }

    /// This event needs no second answer: moves the reaction's offset here, if it is behind, and takes the event from
    /// among the dead letters, if it lies there.
    pub(crate) fn was_answered(&self, tx: &Tx<'_>) -> rusqlite::Result<()> {
        dead_letter::answered(tx, &self.consumer, self.at.seq)?;
        let known = position::load(tx, &self.consumer)?;
        if known.is_none_or(|known| known.seq < self.at.seq) {
            position::store(tx, &self.consumer, &self.stream, self.at, self.epoch)?;
        }
        Ok(())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            consumer,
            stream,
            at,
            epoch,
        } = self;
        write!(f, "{consumer} {stream} {} {} {epoch}", at.seq, at.id)
    }
}

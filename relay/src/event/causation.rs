//! The causation: which event of which stream a reaction was answering when it emitted.
//!
//! It travels in the envelope, so that a service that imports its log also learns which events its reactions had answered:
//! otherwise a restored reaction would answer them a second time. A reaction may answer with several events. All but the
//! last say `more`, so that an answer of which only a part was imported is known to be only a part.

use std::fmt;

use super::{Envelope, EventId};

/// `orders-of-deleted-users USERS 42 0198…  1`: consumer, stream, sequence, event id, epoch; with ` more` after it when the
/// next event answers the same one. So an event from before there was such a word is the last, as it was: there was one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Causation {
    pub(crate) consumer: String,
    pub(crate) stream: String,
    pub(crate) seq: u64,
    pub(crate) id: EventId,
    pub(crate) epoch: u32,
    /// Another event follows that answers the same one: this part alone does not answer it.
    pub(crate) more: bool,
}

const MORE: &str = " more";

impl Causation {
    pub(crate) fn new(consumer: &str, stream: &str, envelope: &Envelope<'_>) -> Self {
        Self {
            consumer: consumer.to_owned(),
            stream: stream.to_owned(),
            seq: envelope.sequence,
            id: envelope.id,
            epoch: envelope.epoch,
            more: false,
        }
    }

    /// The causation that an event names.
    pub(crate) fn of(envelope: &Envelope<'_>) -> Option<Self> {
        let mut words = envelope.cause.as_deref()?.split(' ');
        let mut word = || words.next();
        Some(Self {
            consumer: word()?.to_owned(),
            stream: word()?.to_owned(),
            seq: word()?.parse().ok()?,
            id: word()?.parse().ok()?,
            epoch: word()?.parse().ok()?,
            more: word() == Some(MORE.trim()),
        })
    }

    /// The causation of an event that is not the last of its answer.
    pub(crate) fn and_more(causation: &str) -> String {
        format!("{causation}{MORE}")
    }

    /// Bytes by which an event that names a causation may still grow.
    pub(crate) fn room(causation: Option<&str>) -> usize {
        causation.map_or(0, |_| MORE.len())
    }
}

impl fmt::Display for Causation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            consumer,
            stream,
            seq,
            id,
            epoch,
            more,
        } = self;
        let more = if *more { MORE } else { "" };
        write!(f, "{consumer} {stream} {seq} {id} {epoch}{more}")
    }
}

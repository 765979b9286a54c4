//! An event as a consumer receives it: decoded, with its sequence and its aggregate.

use std::fmt;

use freehold_event::Event;
use serde::de::DeserializeOwned;

use super::{Envelope, EventId};
use crate::error::ApplyError;

/// An event as a consumer's function sees it.
pub struct Received<E> {
    /// Its sequence in the stream.
    pub seq: u64,
    /// The same in every log; it tells two events at one sequence apart after a fork.
    pub id: EventId,
    /// The aggregate's id.
    pub aggregate: String,
    /// RFC 3339, UTC.
    pub time: String,
    /// The event, decoded by its type.
    pub event: E,
    /// What [`Tx::emit_sealed`](crate::Tx::emit_sealed) sealed, as JSON. Only the owner of the stream receives it, in its
    /// [`Fold`](crate::Fold).
    pub sealed: Option<Vec<u8>>,
}

impl<E> Received<E> {
    /// The sealed part as the type that was sealed. The error quotes nothing of it.
    ///
    /// # Errors
    ///
    /// [`ApplyError::Fatal`] when the JSON is not of that type: every event would fail alike, so none becomes a dead letter.
    pub fn unseal<S: DeserializeOwned>(&self) -> Result<Option<S>, ApplyError> {
        let sealed = self.sealed.as_deref().map(serde_json::from_slice);
        sealed.transpose().map_err(|_| {
            let cure = "this program cannot read its sealed part: start the newer version";
            ApplyError::Fatal(cure.to_owned())
        })
    }
}

/// The sealed part stays out of logs.
impl<E: fmt::Debug> fmt::Debug for Received<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Received")
            .field("seq", &self.seq)
            .field("id", &self.id)
            .field("aggregate", &self.aggregate)
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

pub(crate) fn received<E: Event>(
    envelope: &Envelope<'_>,
) -> Result<Option<Received<E>>, ApplyError> {
    let data = envelope.data.get().as_bytes();
    let event = E::decode(&envelope.event_type, data)
        .map_err(|error| ApplyError::Rejected(format!("undecodable: {error}")))?;
    Ok(event.map(|event| Received {
        seq: envelope.sequence,
        id: envelope.id,
        aggregate: envelope.subject.clone().into_owned(),
        time: envelope.time.clone().into_owned(),
        event,
        sealed: None,
    }))
}

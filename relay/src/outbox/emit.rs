//! Emitting: an event goes into the outbox inside the transaction that changes the state.

use serde::Serialize;

use super::rows::{append_row, event_at, replace_row};
use crate::database::{Tx, head};
use crate::environment::unix_ms;
use crate::error::EmitError;
use crate::event::{
    Causation, Envelope, EventId, MAX_ENVELOPE_BYTES, NewEvent, Open, Sealed, is_event_type,
    subject_of,
};

impl Tx<'_> {
    /// Appends an event to the service's log: it leaves the service if and only if this transaction commits.
    /// Answers the event's sequence.
    pub fn emit<D: Serialize>(&self, event: NewEvent<'_, D>) -> Result<u64, EmitError> {
        let context = self.context();
        let root = context.root();
        if !is_event_type(event.event_type) {
            let event_type = event.event_type.to_owned();
            return Err(EmitError::InvalidType { event_type });
        }
        let subject = subject_of(event.event_type);
        if subject.split('.').next() != Some(root.as_str()) {
            return Err(EmitError::WrongStream {
                event_type: event.event_type.to_owned(),
                stream: context.stream.to_owned(),
            });
        }
        let data = readable(&event)?;
        let (last, prev, epoch) = head::row(self)?;
        let now = context.environment.now();
        let id = EventId::draw(&*context.environment);
        let sealed = self.seal(&event, id, data.get())?;
        let (sealedkey, sealed) = sealed
            .map(|sealed| (sealed.key.into(), sealed.text.into()))
            .unzip();
        let trace = self.trace();
        let (cause, earlier) = self.next_cause().unzip();
        let bytes = Envelope {
            specversion: "1.0".into(),
            id,
            source: format!("/{root}").into(),
            event_type: event.event_type.into(),
            subject: event.aggregate.as_str().into(),
            time: now.to_string().into(),
            sequence: last + 1,
            prev,
            epoch,
            datacontenttype: "application/json".into(),
            dataschema: format!("urn:freehold:schema:{}", event.event_type).into(),
            traceparent: trace.traceparent.map(Into::into),
            requestid: trace.request_id.map(Into::into),
            cause: cause.as_deref().map(Into::into),
            sealedkey,
            sealed,
            data: &data,
        }
        .to_bytes();
        let room = Causation::room(cause.as_deref());
        if bytes.len() + room > MAX_ENVELOPE_BYTES {
            return Err(EmitError::TooLarge {
                event_type: event.event_type.to_owned(),
                bytes: bytes.len(),
                limit: MAX_ENVELOPE_BYTES - room,
            });
        }
        if let (Some(cause), Some(true)) = (&cause, earlier) {
            more_follows(self, last, cause)?;
        }
        append_row(self, last + 1, id, subject, &bytes, unix_ms(now))?;
        Ok(last + 1)
    }

    fn seal<D>(
        &self,
        event: &NewEvent<'_, D>,
        id: EventId,
        data: &str,
    ) -> Result<Option<Sealed>, EmitError> {
        let Some(plain) = &event.sealed else {
            return Ok(None);
        };
        let keys = self.context().keys.as_ref();
        let keys = keys.ok_or_else(|| EmitError::NoKeys {
            event_type: event.event_type.to_owned(),
        })?;
        let open = Open {
            id,
            event_type: event.event_type,
            subject: &event.aggregate,
            data,
        };
        Ok(Some(keys.seal(open, plain)))
    }
}

/// Another event is emitted for the same cause: the one before it was not the last one, so it says `more`. This is the only
/// change of an event after `emit`. It comes in the same transaction, before anything but that transaction can read the
/// event; its row is there meanwhile, because SQL of the reaction may look at it or roll it back.
fn more_follows(tx: &Tx<'_>, seq: u64, cause: &str) -> Result<(), EmitError> {
    let Some(bytes) = event_at(tx, seq)? else {
        return Ok(()); // rolled back
    };
    let mut envelope = Envelope::parse(&bytes).map_err(|error| EmitError::Undecodable {
        event_type: format!("at {seq}"),
        cause: Some(error),
    })?;
    if envelope.cause.as_deref() != Some(cause) {
        return Ok(());
    }
    envelope.cause = Some(Causation::and_more(cause).into());
    replace_row(tx, seq, &envelope.to_bytes())?;
    Ok(())
}

/// The event's data as JSON that its own schema can read back.
fn readable<D: Serialize>(
    event: &NewEvent<'_, D>,
) -> Result<Box<serde_json::value::RawValue>, EmitError> {
    let undecodable = |cause| EmitError::Undecodable {
        event_type: event.event_type.to_owned(),
        cause,
    };
    let data =
        serde_json::value::to_raw_value(event.data).map_err(|error| undecodable(Some(error)))?;
    match (event.decode)(event.event_type, data.get().as_bytes()) {
        Ok(Some(_)) => Ok(data),
        Ok(None) => Err(undecodable(None)),
        Err(error) => Err(undecodable(Some(error))),
    }
}

//! Emitting: an event goes into the outbox inside the transaction that changes the state.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::rows::{append_row, event_at, replace_row};
use crate::database::{Context, Tx, head};
use crate::environment::unix_ms;
use crate::error::EmitError;
use crate::event::{
    Causation, Envelope, Event, EventId, MAX_ENVELOPE_BYTES, Open, Sealed, is_event_type,
    schema_id, subject_of,
};

/// An event on its way into the outbox.
struct NewEvent<'a> {
    event_type: &'a str,
    aggregate: &'a str,
    data: &'a RawValue,
    /// What is to be sealed.
    sealed: Option<&'a [u8]>,
}

impl Tx<'_> {
    /// Appends an event to the service's outbox: it leaves the service if and only if this transaction commits.
    /// Answers the event's sequence.
    ///
    /// # Errors
    ///
    /// [`EmitError`]: the event belongs on another stream, its type is no subject, it is too large, or its own schema cannot
    /// read it back. Nothing is appended, and the transaction can go on.
    pub fn emit(&self, event: &impl Event) -> Result<u64, EmitError> {
        self.emit_sealed(event, None::<&()>)
    }

    /// The same, with a part that only this service can read, such as an e-mail address. It travels sealed with the newest of
    /// the service's [keys](crate::Keys), so that the service can restore its tables from the stream.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit); also [`EmitError::NoKeys`] when there is a part to seal and no key.
    pub fn emit_sealed(
        &self,
        event: &impl Event,
        sealed: Option<&impl Serialize>,
    ) -> Result<u64, EmitError> {
        let event_type = event.event_type();
        check_type(event_type, self.context())?;
        let sealed = sealed.map(serde_json::to_vec).transpose();
        let sealed = sealed.map_err(|error| undecodable(event_type, Some(error)))?;
        self.append(NewEvent {
            event_type,
            aggregate: &event.aggregate(),
            data: &readable(event)?,
            sealed: sealed.as_deref(),
        })
    }

    fn append(&self, event: NewEvent<'_>) -> Result<u64, EmitError> {
        let context = self.context();
        let (last, prev, epoch) = head::row(self)?;
        let now = context.environment.now();
        let id = EventId::draw(&*context.environment);
        let (sealedkey, sealed) = self
            .seal(&event, id)?
            .map(|sealed| (sealed.key.into(), sealed.text.into()))
            .unzip();
        let trace = self.trace();
        let (cause, earlier) = self.next_cause().unzip();
        let bytes = Envelope {
            specversion: "1.0".into(),
            id,
            source: format!("/{}", context.root()).into(),
            event_type: event.event_type.into(),
            subject: event.aggregate.into(),
            time: now.to_string().into(),
            sequence: last + 1,
            prev,
            epoch,
            datacontenttype: "application/json".into(),
            dataschema: schema_id(event.event_type).into(),
            traceparent: trace.traceparent.map(Into::into),
            requestid: trace.request_id.map(Into::into),
            cause: cause.as_deref().map(Into::into),
            sealedkey,
            sealed,
            data: event.data,
        }
        .to_bytes();
        check_size(event.event_type, bytes.len(), cause.as_deref())?;
        if let (Some(cause), Some(true)) = (&cause, earlier) {
            more_follows(self, last, cause)?;
        }
        let subject = subject_of(event.event_type);
        append_row(self, last + 1, id, subject, &bytes, unix_ms(now))?;
        Ok(last + 1)
    }

    fn seal(&self, event: &NewEvent<'_>, id: EventId) -> Result<Option<Sealed>, EmitError> {
        let Some(plain) = event.sealed else {
            return Ok(None);
        };
        let keys = self.context().keys.as_ref();
        let keys = keys.ok_or_else(|| EmitError::NoKeys {
            event_type: event.event_type.to_owned(),
        })?;
        let open = Open {
            id,
            event_type: event.event_type,
            subject: event.aggregate,
            data: event.data.get(),
        };
        Ok(Some(keys.seal(open, plain)))
    }
}

fn check_type(event_type: &str, context: &Context) -> Result<(), EmitError> {
    let event_type = event_type.to_owned();
    if !is_event_type(&event_type) {
        return Err(EmitError::InvalidType { event_type });
    }
    match event_type.split('.').next() == Some(context.root().as_str()) {
        true => Ok(()),
        false => Err(EmitError::WrongStream {
            event_type,
            stream: context.stream.clone(),
        }),
    }
}

/// An event that more may follow for the same cause leaves room to say so.
fn check_size(event_type: &str, bytes: usize, cause: Option<&str>) -> Result<(), EmitError> {
    let limit = MAX_ENVELOPE_BYTES - Causation::room(cause);
    match bytes > limit {
        false => Ok(()),
        true => Err(EmitError::TooLarge {
            event_type: event_type.to_owned(),
            bytes,
            limit,
        }),
    }
}

/// Another event is emitted for the same cause: the one before it was not the last one, so it says `more`. This is the only
/// change of an event after `emit`. It comes in the same transaction, before anything but that transaction can read the
/// event; its row is there meanwhile, because SQL of the reaction may look at it or roll it back.
fn more_follows(tx: &Tx<'_>, seq: u64, cause: &str) -> Result<(), EmitError> {
    let Some(bytes) = event_at(tx, seq)? else {
        return Ok(()); // rolled back
    };
    let mut envelope =
        Envelope::parse(&bytes).map_err(|error| undecodable(&format!("at {seq}"), Some(error)))?;
    if envelope.cause.as_deref() != Some(cause) {
        return Ok(());
    }
    envelope.cause = Some(Causation::and_more(cause).into());
    replace_row(tx, seq, &envelope.to_bytes())?;
    Ok(())
}

/// The event's data as JSON that its own schema can read back.
fn readable<E: Event>(event: &E) -> Result<Box<RawValue>, EmitError> {
    let event_type = event.event_type();
    let data = to_raw_value(event).map_err(|error| undecodable(event_type, Some(error)))?;
    match E::decode(event_type, data.get().as_bytes()) {
        Ok(Some(_)) => Ok(data),
        unreadable => Err(undecodable(event_type, unreadable.err())),
    }
}

fn undecodable(event_type: &str, cause: Option<serde_json::Error>) -> EmitError {
    let event_type = event_type.to_owned();
    EmitError::Undecodable { event_type, cause }
}

//! Importing: events of the service's own log come back from its stream, and its tables follow, in one transaction.

use super::answered;
use crate::database::{self, Tx, head};
use crate::environment::unix_ms;
use crate::error::{ApplyError, LogError};
use crate::event::{Causation, Envelope, EventId, MAX_ENVELOPE_BYTES, subject_of};
use crate::log::{AppendLog, Head, Record, check_next};
use crate::outbox::{Outbox, append_row};

impl AppendLog for Outbox {
    async fn append_after(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        check_next(head, records)?;
        let (expected, records) = (head.clone(), records.to_vec());
        let work = move |tx: &Tx<'_>| append(tx, &expected, &records);
        let seq = self.database().write_past_gate(work).await?;
        let head = head.clone();
        Ok(Head { seq, ..head })
    }
}

/// Appends the records as they are and applies each to the service's own tables, in one transaction: an event that was
/// emitted here once changes the tables as it did then.
fn append(tx: &Tx<'_>, after: &Head, records: &[Record]) -> Result<u64, LogError> {
    let origin = database::origin(tx)?;
    if origin.database_id.to_string() != after.incarnation {
        return Err(LogError::Refused("this is another database".to_owned()));
    }
    let (mut head, mut last, _) = head::row(tx)?;
    if head != after.seq {
        let why = format!("it ends at {head}, not at {}", after.seq);
        return Err(LogError::Refused(why));
    }
    for record in records {
        let seq = record.seq;
        let refused = |why: String| LogError::Refused(format!("event {seq}: {why}"));
        let envelope = follows(record, last).map_err(refused)?;
        // Imported events keep their original timestamp.
        let at_ms = envelope.time.parse().map_or(tx.now_ms(), unix_ms);
        append_row(tx, seq, envelope.id, &record.subject, &record.bytes, at_ms)?;
        fold(tx, &envelope).map_err(|error| match error {
            ApplyError::Transient(why) => LogError::disconnected(format!("event {seq}: {why}")),
            unfit => refused(unfit.to_string()),
        })?;
        (head, last) = (seq, Some(envelope.id));
    }
    Ok(head)
}

/// The record's event, if it is one that `emit` can have written after this one.
fn follows(record: &Record, last: Option<EventId>) -> Result<Envelope<'_>, String> {
    let envelope = Envelope::parse(&record.bytes);
    let envelope = envelope.map_err(|error| format!("no event of ours: {error}"))?;
    let (bytes, limit) = (record.bytes.len(), MAX_ENVELOPE_BYTES);
    let (subject, event_type) = (&record.subject, &envelope.event_type);
    if bytes > limit {
        let why = format!("no event of ours: {bytes} bytes, the limit is {limit}");
        return Err(why);
    }
    if subject_of(event_type) != *subject {
        let why = format!("no event of ours: a {event_type} on subject {subject}");
        return Err(why);
    }
    match envelope.sequence == record.seq && envelope.prev == last {
        true => Ok(envelope),
        false => Err("it does not follow the event before it".to_owned()),
    }
}

/// Lets the service's own tables follow an own event, and a reaction's offset the event it was an answer to.
pub(crate) fn fold(tx: &Tx<'_>, envelope: &Envelope<'_>) -> Result<(), ApplyError> {
    if let Some(causation) = Causation::of(envelope) {
        answered::imported(tx, &causation)?;
    }
    match &tx.context().fold {
        Some(fold) => fold.apply(tx, envelope),
        None => Ok(()),
    }
}

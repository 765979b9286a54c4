//! One batch, one transaction: effects, dead letters and the new offset commit together or not at all.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::position::{self, Position};
use super::{Consumer, Outcome, dead_letter};
use crate::database::Tx;
use crate::envelope::Envelope;
use crate::error::ApplyError;
use crate::log::Record;
use crate::panics::message;

/// What one transaction did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The new position; `None` when not even the first event could be applied.
    pub(super) position: Option<Position>,
    pub(super) skipped: u64,
    /// Events set aside, all in all.
    pub(super) dead_letters: u64,
    /// Why it ended before the last event. What comes before that is applied.
    pub(super) ended_by: Option<ApplyError>,
}

/// Applies `records`, which are known to follow each other and the offset.
pub(super) fn batch(
    tx: &Tx<'_>,
    consumer: &Consumer,
    records: &[Record],
) -> Result<Applied, ApplyError> {
    let mut parked = dead_letter::keys(tx, consumer.name)?;
    let mut done = Applied::default();
    let mut epoch = 0;
    for record in records {
        let envelope = parse(record)?;
        match one(tx, consumer, record, &envelope, &mut parked) {
            Ok(outcome) => done.skipped += u64::from(outcome == Outcome::Skipped),
            Err(error) => {
                done.ended_by = Some(error);
                break;
            }
        }
        epoch = envelope.epoch;
        done.position = Some(Position {
            seq: record.seq,
            id: envelope.id,
        });
    }
    if let Some(position) = done.position {
        position::store(tx, consumer.name, consumer.stream, position, epoch)?;
    }
    done.dead_letters = dead_letter::count(tx, consumer.name)?;
    Ok(done)
}

/// Applies one event, or sets it aside. An error means that the offset must not pass it.
fn one(
    tx: &Tx<'_>,
    consumer: &Consumer,
    record: &Record,
    envelope: &Envelope<'_>,
    parked: &mut HashSet<String>,
) -> Result<Outcome, ApplyError> {
    let behind = parked.contains(envelope.subject.as_ref());
    let set_aside = if behind {
        Err(ApplyError::Rejected(
            "an earlier event of its key is dead".to_owned(),
        ))
    } else {
        handle(tx, consumer, envelope)
    };
    match set_aside {
        Err(ApplyError::Rejected(reason)) => {
            tracing::warn!(consumer = consumer.name, seq = record.seq, event_id = %envelope.id, event_type = %envelope.event_type, behind, reason, "event set aside");
            dead_letter::insert(tx, consumer.name, record, envelope, behind, &reason)?;
            parked.insert(envelope.subject.clone().into_owned());
            Ok(Outcome::Applied)
        }
        other => other,
    }
}

/// Calls the consumer's function in a savepoint. A panic is the event's fault: it would come again each time.
pub(super) fn handle(
    tx: &Tx<'_>,
    consumer: &Consumer,
    envelope: &Envelope<'_>,
) -> Result<Outcome, ApplyError> {
    tx.savepoint(|| {
        let call = AssertUnwindSafe(|| (consumer.handler)(tx, envelope));
        catch_unwind(call).unwrap_or_else(|panic| {
            let said = message(&*panic);
            Err(ApplyError::Rejected(format!(
                "the consumer panicked: {said}"
            )))
        })
    })
}

fn parse(record: &Record) -> Result<Envelope<'_>, ApplyError> {
    Envelope::parse(&record.bytes)
        .map_err(|error| ApplyError::Fatal(format!("event {} is no envelope: {error}", record.seq)))
}

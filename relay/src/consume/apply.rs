//! One batch, one transaction: effects, dead letters and the new offset commit together or not at all.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::Consumer;
use super::answered;
use super::dead_letter::Aside;
use super::position;
use crate::database::Tx;
use crate::error::ApplyError;
use crate::event::trace::Trace;
use crate::event::{Causation, Envelope};
use crate::log::{Position, Record};
use crate::panics::message;

/// No event is begun in a transaction that is open for this long: all other writes of the service wait behind it.
const MAX_TIME: Duration = Duration::from_millis(100);

/// What one transaction did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// The new position; `None` when not even the first event could be applied.
    pub(super) position: Option<Position>,
    /// Events that the offset has passed.
    pub(super) count: usize,
    /// Those of them whose type is not known here.
    pub(super) skipped: u64,
    /// Dead and parked events of this consumer.
    pub(super) dead_letters: u64,
    /// Why the next event was not applied; `None` also when the time was up.
    pub(super) ended_by: Option<ApplyError>,
}

/// Applies `records`, which are known to follow each other and `after`. The first of them was `tried` so often already.
pub(super) fn batch(
    tx: &Tx<'_>,
    consumer: &Consumer,
    after: Option<Position>,
    records: &[Record],
    tried: u32,
) -> Result<Applied, ApplyError> {
    // An earlier batch may have committed after its caller gave up, and a second process may follow the same stream:
    // only the offset in this very transaction says what is still to be applied.
    position::check(tx, &consumer.name, after)?;
    let mut aside = Aside::load(tx, &consumer.name)?;
    let answered = match (consumer.emits, records.last()) {
        (true, Some(last)) => answered::answered(tx, &consumer.name, last.seq)?,
        _ => HashSet::new(),
    };
    let (mut done, mut epoch, began) = (Applied::default(), 0, Instant::now());
    for record in records {
        if done.count > 0 && began.elapsed() >= MAX_TIME {
            break;
        }
        let (seq, envelope) = (record.seq, Envelope::parse(&record.bytes));
        let envelope = envelope
            .map_err(|error| ApplyError::Fatal(format!("event {seq} is no envelope: {error}")))?;
        let attempt = if done.count == 0 { tried + 1 } else { 1 };
        let is_known = match answered.contains(&envelope.id) {
            true => Ok(true),
            false => one(tx, consumer, (record, &envelope), &mut aside, attempt),
        };
        match is_known {
            Ok(is_known) => done.skipped += u64::from(!is_known),
            Err(error) => {
                done.ended_by = Some(error);
                break;
            }
        }
        epoch = envelope.epoch;
        done.count += 1;
        done.position = Some(Position {
            seq,
            id: envelope.id,
        });
    }
    tx.still_open()?; // or the offset would commit without its effects
    if let Some(position) = done.position {
        position::store(tx, &consumer.name, consumer.stream, position, epoch)?;
        if !answered.is_empty() {
            answered::forget(tx, &consumer.name, position.seq)?;
        }
    }
    done.dead_letters = aside.count;
    Ok(done)
}

/// Applies one event, or sets it aside. Returns whether its type is known; an error means that the offset must not pass it.
fn one(
    tx: &Tx<'_>,
    consumer: &Consumer,
    event: (&Record, &Envelope<'_>),
    aside: &mut Aside,
    attempt: u32,
) -> Result<bool, ApplyError> {
    let (record, envelope) = event;
    let behind = aside.keys.contains(envelope.subject.as_ref());
    let applied = match behind {
        true => Err(ApplyError::Rejected(
            "an earlier event of its key is dead".to_owned(),
        )),
        false => handle(tx, consumer, envelope),
    };
    let reason = match applied {
        Err(ApplyError::Rejected(reason)) => reason,
        // Once a full disk has ended the transaction, a dead letter would be stored without its offset.
        Err(ApplyError::Transient(why))
            if consumer.attempts.is_some_and(|most| attempt >= most) && tx.still_open().is_ok() =>
        {
            format!("{why}; tried {attempt} times")
        }
        other => return other,
    };
    tracing::warn!(consumer = &*consumer.name, seq = record.seq, event_id = %envelope.id, event_type = %envelope.event_type, behind, reason, "the event is a dead letter");
    aside.insert(tx, &consumer.name, event, &reason, attempt)?;
    Ok(true)
}

/// Calls the consumer's function in a savepoint. A panic is the event's fault: it would come again each time.
pub(super) fn handle(
    tx: &Tx<'_>,
    consumer: &Consumer,
    envelope: &Envelope<'_>,
) -> Result<bool, ApplyError> {
    let cause = || Causation::new(&consumer.name, consumer.stream, envelope).to_string();
    let cause = consumer.emits.then(cause);
    tx.set_trace(Trace::of(envelope));
    tx.savepoint(|| {
        let call = AssertUnwindSafe(|| (consumer.handler)(tx, envelope));
        let done = tx.caused_by(cause, || catch_unwind(call));
        done.unwrap_or_else(|panic| {
            let said = message(&*panic);
            Err(ApplyError::Rejected(format!(
                "the consumer panicked: {said}"
            )))
        })
    })
}

//! One batch, one transaction: effects, dead letters and the new offset commit together or not at all.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use super::answered;
use super::dead_letter::Aside;
use super::position;
use super::retry::Tried;
use super::{Consumer, Outcome};
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
    pub(super) skipped: u64,
    /// Events set aside, all in all.
    pub(super) dead_letters: u64,
    /// Why it ended before the last event, unless its time was up. What comes before that is applied.
    pub(super) ended_by: Option<ApplyError>,
}

/// Applies `records`, which are known to follow each other and `after`.
pub(super) fn batch(
    tx: &Tx<'_>,
    consumer: &Consumer,
    after: Option<Position>,
    records: &[Record],
    tried: Tried,
) -> Result<Applied, ApplyError> {
    // Whoever gave up waiting for an earlier batch has not undone it, and a second run may be under way: only the
    // offset in this very transaction says what is still to be applied.
    if position::load(tx, consumer.name)? != after {
        let moved = "the offset has moved meanwhile; reading again".to_owned();
        return Err(ApplyError::Transient(moved));
    }
    let mut aside = Aside::load(tx, consumer.name)?;
    let answered = match (consumer.emits, records.last()) {
        (true, Some(last)) => answered::answered(tx, consumer.name, last.seq)?,
        _ => HashSet::new(),
    };
    let mut done = Applied::default();
    let mut epoch = 0;
    let began = Instant::now();
    for record in records {
        if done.count > 0 && began.elapsed() >= MAX_TIME {
            break;
        }
        let envelope = parse(record)?;
        let outcome = match answered.contains(&(record.seq, envelope.id)) {
            true => Ok(Outcome::Applied),
            false => one(tx, consumer, record, &envelope, &mut aside, tried),
        };
        match outcome {
            Ok(outcome) => done.skipped += u64::from(outcome == Outcome::Skipped),
            Err(error) => {
                done.ended_by = Some(error);
                break;
            }
        }
        epoch = envelope.epoch;
        done.count += 1;
        done.position = Some(Position {
            seq: record.seq,
            id: envelope.id,
        });
    }
    tx.still_open()?; // or the offset would commit without its effects
    if let Some(position) = done.position {
        position::store(tx, consumer.name, consumer.stream, position, epoch)?;
        if !answered.is_empty() {
            answered::forget_answered(tx, consumer.name, position.seq)?;
        }
    }
    done.dead_letters = aside.count;
    Ok(done)
}

/// Applies one event, or sets it aside. An error means that the offset must not pass it.
fn one(
    tx: &Tx<'_>,
    consumer: &Consumer,
    record: &Record,
    envelope: &Envelope<'_>,
    aside: &mut Aside,
    tried: Tried,
) -> Result<Outcome, ApplyError> {
    let behind = aside.keys.contains(envelope.subject.as_ref());
    let applied = match behind {
        true => Err(ApplyError::Rejected(
            "an earlier event of its key is dead".to_owned(),
        )),
        false => handle(tx, consumer, envelope),
    };
    let applied = match (applied, tried.is_enough(consumer.retry, record.seq)) {
        // What was written after a full disk has ended the transaction would stay without its offset.
        (Err(ApplyError::Transient(why)), true) if tx.still_open().is_ok() => {
            let times = tried.times(record.seq);
            Err(ApplyError::Rejected(format!("{why}; tried {times} times")))
        }
        (applied, _) => applied,
    };
    match applied {
        Err(ApplyError::Rejected(reason)) => {
            tracing::warn!(consumer = consumer.name, seq = record.seq, event_id = %envelope.id, event_type = %envelope.event_type, behind, reason, "event set aside");
            let times = tried.times(record.seq);
            aside.insert(tx, consumer.name, record, envelope, &reason, times)?;
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
    let cause = || Causation::new(consumer.name, consumer.stream, envelope).to_string();
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

fn parse(record: &Record) -> Result<Envelope<'_>, ApplyError> {
    Envelope::parse(&record.bytes)
        .map_err(|error| ApplyError::Fatal(format!("event {} is no envelope: {error}", record.seq)))
}

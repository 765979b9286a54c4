//! Dead letters: events a consumer could not apply, with the reason; the events parked behind them; and their way back.
//!
//! Once an event of a key is dead, later events of that key are parked behind it; other keys flow on. A retry applies
//! them in order and stops at the first that is rejected again. A discard gives one up and releases the rest.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use rusqlite::{Connection, OptionalExtension, Row, ToSql};

use super::position;
use super::{Consumer, apply};
use crate::database::{Database, Tx};
use crate::error::{ApplyError, WriteError};
use crate::event::{Envelope, EventId};
use crate::log::{Position, Record};

/// Dead and parked events per consumer, at most. Past it the consumer waits for an operator instead of filling the disk.
const MAX_DEAD_LETTERS: u64 = 10_000;
/// Events one transaction of a retry applies, at most: other writes wait for it.
const MAX_RETRY: usize = 500;
/// The last sequence that SQLite can count to.
pub(super) const LAST: u64 = u64::MAX >> 1;

/// A dead or parked event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its sequence in the stream.
    pub seq: u64,
    /// The id in its envelope.
    pub event_id: EventId,
    /// The aggregate's id. Later events of this key wait.
    pub key: String,
    /// `users.renamed.v1`.
    pub event_type: String,
    /// Dead or parked.
    pub state: LetterState,
    /// What the consumer's function answered, or which event it waits for.
    pub reason: String,
    /// How often the consumer tried to apply it.
    pub attempts: u32,
    /// When it became a dead letter or was parked, in Unix milliseconds.
    pub since_ms: u64,
    /// The event, byte for byte.
    pub envelope: Vec<u8>,
}

/// Why an event is not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterState {
    /// It was rejected.
    Dead,
    /// It waits behind a dead one of its key.
    Parked,
}

/// What a retry or a discard achieved.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Retried {
    /// Events applied now, in order.
    pub applied: usize,
    /// The sequence it stopped at before the last one, and why.
    pub stopped_at: Option<(u64, String)>,
}

impl Consumer {
    /// Applies a key's dead and parked events in order. The first that is rejected again stays, with those behind it.
    ///
    /// # Errors
    ///
    /// [`WriteError::Work`] when an event meets a transient or fatal fault; what was applied in earlier transactions of this
    /// call stays. An event that is rejected again is no error: see [`Retried::stopped_at`]. Any other variant says that the
    /// database takes no writes at present.
    pub async fn retry(&self, db: &Database, key: &str) -> Result<Retried, WriteError<ApplyError>> {
        let mut all = Retried::default();
        loop {
            let key = key.to_owned();
            let work = move |tx: &Tx<'_>, consumer: &Self| retry(tx, consumer, &key);
            let step = self.transact(db, work).await?;
            all.applied += step.applied;
            all.stopped_at = step.stopped_at;
            if all.stopped_at.is_some() || step.applied == 0 {
                break;
            }
        }
        if let Ok(left) = self.read(db, count).await {
            self.status.send_modify(|status| status.dead_letters = left);
        }
        Ok(all)
    }

    /// Gives up a dead event, with a note saying why, and applies those parked behind it. Its bytes stay in the audit
    /// table. `None`: no dead event has this number; parked ones wait for the dead one before them.
    ///
    /// # Errors
    ///
    /// As [`retry`](Self::retry), from the events that were parked behind the discarded one.
    pub async fn discard(
        &self,
        db: &Database,
        seq: u64,
        note: &str,
    ) -> Result<Option<Retried>, WriteError<ApplyError>> {
        let note = note.to_owned();
        let work = move |tx: &Tx<'_>, consumer: &Self| discard(tx, &consumer.name, seq, &note);
        match self.transact(db, work).await? {
            Some(key) => self.retry(db, &key).await.map(Some),
            None => Ok(None),
        }
    }
}

impl DeadLetter {
    /// The oldest `limit` dead and parked events of a consumer, in order.
    ///
    /// # Errors
    ///
    /// An SQLite error; a database that [`Database::open`](crate::Database::open) has not migrated has no such table.
    pub fn list(rows: &Connection, consumer: &str, limit: usize) -> rusqlite::Result<Vec<Self>> {
        select(rows, consumer, "seq > ?2", &0, limit)
    }

    /// The dead or parked event with this sequence. `None`: the consumer has none.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list).
    pub fn find(rows: &Connection, consumer: &str, seq: u64) -> rusqlite::Result<Option<Self>> {
        Ok(select(rows, consumer, "seq = ?2", &seq, 1)?.pop())
    }
}

/// One transaction of a retry.
fn retry(tx: &Tx<'_>, consumer: &Consumer, key: &str) -> Result<Retried, ApplyError> {
    let mut done = Retried::default();
    for letter in select(tx, &consumer.name, "key = ?2", &key, MAX_RETRY)? {
        let (name, seq) = (&consumer.name, letter.seq);
        let envelope = Envelope::parse(&letter.envelope);
        let envelope = envelope.map_err(|error| ApplyError::Fatal(error.to_string()))?;
        let reason = match apply::handle(tx, consumer, &envelope) {
            Ok(_) => {
                remove(tx, name, seq..=seq, "retried", "")?;
                done.applied += 1;
                continue;
            }
            Err(ApplyError::Rejected(reason)) => {
                reject_again(tx, name, seq, &reason)?;
                reason
            }
            Err(ApplyError::Transient(reason)) => reason,
            Err(fatal) => return Err(fatal),
        };
        done.stopped_at = Some((seq, reason));
        break;
    }
    Ok(done)
}

/// Returns the key whose events may be applied again.
fn discard(
    tx: &Tx<'_>,
    consumer: &str,
    seq: u64,
    note: &str,
) -> Result<Option<String>, ApplyError> {
    let sql =
        "select key from relay_dead_letter where consumer = ?1 and seq = ?2 and state = 'dead'";
    let key = tx.query_row(sql, (consumer, seq), |row| row.get(0));
    let key = key.optional()?;
    if key.is_some() {
        remove(tx, consumer, seq..=seq, "discarded", note)?;
    }
    Ok(key)
}

/// The import brought the answer to this event: it is no dead letter any more.
pub(super) fn answered(tx: &Tx<'_>, consumer: &str, seq: u64) -> rusqlite::Result<()> {
    let note = "its answer was imported";
    remove(tx, consumer, seq..=seq, "retried", note)
}

/// The snapshot includes what these events would have changed.
pub(super) fn superseded(tx: &Tx<'_>, consumer: &str) -> rusqlite::Result<()> {
    let note = "a snapshot took its place";
    remove(tx, consumer, 0..=LAST, "discarded", note)
}

/// A consumer that goes back reads the events after this sequence again.
pub(super) fn read_again(tx: &Tx<'_>, consumer: &str, after: u64) -> rusqlite::Result<()> {
    let note = "its consumer went back and reads it again";
    remove(tx, consumer, after + 1..=LAST, "discarded", note)
}

/// The keys that are held up, and how many events wait, as one batch sees it.
#[derive(Default)]
pub(super) struct Aside {
    pub(super) keys: HashSet<String>,
    pub(super) count: u64,
}

impl Aside {
    pub(super) fn load(rows: &Connection, consumer: &str) -> rusqlite::Result<Self> {
        let sql = "select key, count(*) from relay_dead_letter where consumer = ?1 group by key";
        let mut statement = rows.prepare_cached(sql)?;
        let (mut found, mut aside) = (statement.query([consumer])?, Self::default());
        while let Some(row) = found.next()? {
            aside.keys.insert(row.get(0)?);
            aside.count += row.get::<_, u64>(1)?;
        }
        Ok(aside)
    }

    /// Stores an event: dead after so many attempts if it is the first of its key, otherwise parked without an attempt.
    pub(super) fn insert(
        &mut self,
        tx: &Tx<'_>,
        consumer: &str,
        (record, envelope): (&Record, &Envelope<'_>),
        reason: &str,
        attempts: u32,
    ) -> Result<(), ApplyError> {
        if self.count >= MAX_DEAD_LETTERS {
            return Err(ApplyError::Transient(format!(
                "{MAX_DEAD_LETTERS} events are dead or parked already: retry or discard some"
            )));
        }
        let is_first = self.keys.insert(envelope.subject.to_string());
        let (state, attempts) = if is_first {
            ("dead", attempts)
        } else {
            ("parked", 0)
        };
        tx.prepare_cached(
            "insert into relay_dead_letter
               (consumer, seq, event_id, key, event_type, state, reason, attempts, since_ms, envelope)
             values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        )?
        .execute((
            consumer,
            record.seq,
            envelope.id,
            &envelope.subject,
            &envelope.event_type,
            state,
            reason,
            attempts,
            tx.now_ms(),
            &record.bytes[..],
        ))?;
        self.count += 1;
        Ok(())
    }
}

// The statements.

/// The oldest `limit` of a consumer's letters for which `condition` holds of `?2`.
fn select(
    rows: &Connection,
    consumer: &str,
    condition: &'static str,
    value: &dyn ToSql,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = format!(
        "select seq, event_id, key, event_type, state, reason, attempts, since_ms, envelope
         from relay_dead_letter where consumer = ?1 and {condition} order by seq limit ?3"
    );
    rows.prepare_cached(&sql)?
        .query_map((consumer, value, limit), letter)?
        .collect()
}

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    Ok(DeadLetter {
        seq: row.get(0)?,
        event_id: row.get(1)?,
        key: row.get(2)?,
        event_type: row.get(3)?,
        state: match row.get_ref(4)?.as_str()? {
            "dead" => LetterState::Dead,
            _ => LetterState::Parked,
        },
        reason: row.get(5)?,
        attempts: row.get(6)?,
        since_ms: row.get(7)?,
        envelope: row.get(8)?,
    })
}

pub(super) fn positions(rows: &Connection, consumer: &str) -> rusqlite::Result<Vec<Position>> {
    rows.prepare("select seq, event_id from relay_dead_letter where consumer = ?1")?
        .query_map([consumer], position::of_row)?
        .collect()
}

pub(super) fn count(rows: &Connection, consumer: &str) -> rusqlite::Result<u64> {
    rows.prepare_cached("select count(*) from relay_dead_letter where consumer = ?1")?
        .query_row([consumer], |row| row.get(0))
}

fn reject_again(rows: &Connection, consumer: &str, seq: u64, reason: &str) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update relay_dead_letter set state = 'dead', attempts = attempts + 1, reason = ?3
         where consumer = ?1 and seq = ?2",
    )?
    .execute((consumer, seq, reason))
    .map(drop)
}

/// Moves letters into the audit table.
fn remove(
    tx: &Tx<'_>,
    consumer: &str,
    seqs: RangeInclusive<u64>,
    action: &str,
    note: &str,
) -> rusqlite::Result<()> {
    let (first, last) = seqs.into_inner();
    tx.prepare_cached(
        "insert into relay_dead_letter_audit (at_ms, consumer, seq, event_id, action, note, envelope)
         select ?4, consumer, seq, event_id, ?5, ?6, envelope from relay_dead_letter
         where consumer = ?1 and seq between ?2 and ?3 order by seq",
    )?
    .execute((consumer, first, last, tx.now_ms(), action, note))?;
    let sql = "delete from relay_dead_letter where consumer = ?1 and seq between ?2 and ?3";
    tx.prepare_cached(sql)?
        .execute((consumer, first, last))
        .map(drop)
}

//! Dead letters: events set aside with their reason, the events parked behind them, and their way back.
//!
//! Once an event of a key is dead, later events of that key are parked behind it; other keys flow on. A retry applies
//! them in order and stops at the first that is rejected again; a discard gives one up and releases the rest.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, Row};

use super::{Consumer, apply};
use crate::database::{Database, Tx};
use crate::error::{ApplyError, ReadError, WriteError};
use crate::event::{Envelope, EventId};
use crate::log::{Position, Record};

/// Events one consumer sets aside, at most. Past it the consumer waits for a person instead of filling the disk.
const MAX_DEAD_LETTERS: u64 = 10_000;
/// Events one transaction of a retry applies, at most: the writer has other callers.
const MAX_RETRY: usize = 500;

/// The events that one consumer has set aside.
#[derive(Clone)]
pub struct DeadLetters {
    db: Database,
    consumer: Consumer,
}

/// An event set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    pub seq: u64,
    pub event_id: EventId,
    /// The aggregate's id: what it holds up.
    pub key: String,
    pub event_type: String,
    pub state: LetterState,
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Since when it lies here, in Unix milliseconds.
    pub since_ms: u64,
    /// The event, byte for byte.
    pub envelope: Vec<u8>,
}

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
    /// Why it stopped before the last one, if it did: the place, and the reason.
    pub stopped_at: Option<(u64, String)>,
}

impl DeadLetters {
    pub(super) fn new(db: Database, consumer: Consumer) -> Self {
        Self { db, consumer }
    }

    /// The oldest `limit` events set aside, in order.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, ReadError<rusqlite::Error>> {
        let name = self.consumer.name;
        self.db.read(move |rows| list(rows, name, limit)).await
    }

    /// One event set aside, with its bytes.
    pub async fn show(&self, seq: u64) -> Result<Option<DeadLetter>, ReadError<rusqlite::Error>> {
        let name = self.consumer.name;
        self.db.read(move |rows| find(rows, name, seq)).await
    }

    /// Applies a key's events in order. The first that is rejected again stays, with those behind it.
    pub async fn retry(&self, key: &str) -> Result<Retried, WriteError<ApplyError>> {
        let mut all = Retried::default();
        loop {
            let (consumer, key) = (self.consumer.clone(), key.to_owned());
            let work = move |tx: &Tx<'_>| retry(tx, &consumer, &key);
            let step = self.consumer.transact(&self.db, work).await?;
            all.applied += step.applied;
            all.stopped_at = step.stopped_at;
            if all.stopped_at.is_some() || step.applied == 0 {
                self.recount().await;
                return Ok(all);
            }
        }
    }

    /// Gives up a dead event, with a note saying why, and applies those parked behind it. Its bytes stay in the audit
    /// table. `None`: no dead event has this number; parked ones wait for the dead one before them.
    pub async fn discard(
        &self,
        seq: u64,
        note: &str,
    ) -> Result<Option<Retried>, WriteError<ApplyError>> {
        let (name, note) = (self.consumer.name, note.to_owned());
        let work = move |tx: &Tx<'_>| discard(tx, name, seq, &note);
        let key = self.consumer.transact(&self.db, work).await?;
        match key {
            Some(key) => self.retry(&key).await.map(Some),
            None => Ok(None),
        }
    }

    async fn recount(&self) {
        let name = self.consumer.name;
        if let Ok(left) = self.db.read(move |rows| count(rows, name)).await {
            let status = &self.consumer.status;
            status.send_modify(|status| status.dead_letters = left);
        }
    }
}

/// One transaction of a retry.
fn retry(tx: &Tx<'_>, consumer: &Consumer, key: &str) -> Result<Retried, ApplyError> {
    let mut done = Retried::default();
    for letter in of_key(tx, consumer.name, key)? {
        let envelope = Envelope::parse(&letter.envelope);
        let envelope = envelope.map_err(|error| ApplyError::Fatal(error.to_string()))?;
        match apply::handle(tx, consumer, &envelope) {
            Ok(_) => {
                remove(tx, consumer.name, &letter, "retried", "")?;
                done.applied += 1;
            }
            Err(ApplyError::Rejected(reason)) => {
                reject_again(tx, consumer.name, letter.seq, &reason)?;
                done.stopped_at = Some((letter.seq, reason));
                break;
            }
            Err(ApplyError::Transient(reason)) => {
                done.stopped_at = Some((letter.seq, reason));
                break;
            }
            Err(fatal) => return Err(fatal),
        }
    }
    Ok(done)
}

/// Answers the key whose events are free to go on.
fn discard(
    tx: &Tx<'_>,
    consumer: &str,
    seq: u64,
    note: &str,
) -> Result<Option<String>, ApplyError> {
    let letter = find(tx, consumer, seq)?;
    let Some(letter) = letter.filter(|letter| letter.state == LetterState::Dead) else {
        return Ok(None);
    };
    remove(tx, consumer, &letter, "discarded", note)?;
    Ok(Some(letter.key))
}

/// An event that turned out to be answered already is no dead letter any more.
pub(super) fn answered(tx: &Tx<'_>, consumer: &str, seq: u64) -> rusqlite::Result<()> {
    match find(tx, consumer, seq)? {
        Some(letter) => remove(
            tx,
            consumer,
            &letter,
            "retried",
            "its answer came home with the log",
        ),
        None => Ok(()),
    }
}

/// A snapshot holds what these events would have done: they move to the audit table.
pub(super) fn superseded(tx: &Tx<'_>, consumer: &str) -> rusqlite::Result<()> {
    for letter in list(tx, consumer, MAX_DEAD_LETTERS as usize)? {
        remove(
            tx,
            consumer,
            &letter,
            "discarded",
            "a snapshot took its place",
        )?;
    }
    Ok(())
}

/// A reaction that is taken back reads the events after a place again: they are not set aside any more.
pub(super) fn read_again(tx: &Tx<'_>, consumer: &str, after: u64) -> rusqlite::Result<()> {
    let letters = list(tx, consumer, MAX_DEAD_LETTERS as usize)?;
    for letter in letters.iter().filter(|letter| letter.seq > after) {
        remove(
            tx,
            consumer,
            letter,
            "discarded",
            "its consumer was taken back and reads it again",
        )?;
    }
    Ok(())
}

/// What a consumer has set aside, as one batch sees it.
pub(super) struct Aside {
    /// The keys that are held up.
    pub(super) keys: HashSet<String>,
    pub(super) count: u64,
}

impl Aside {
    pub(super) fn load(rows: &Connection, consumer: &str) -> rusqlite::Result<Self> {
        let count = count(rows, consumer)?;
        let keys = match count {
            0 => HashSet::new(),
            _ => keys(rows, consumer)?,
        };
        Ok(Self { keys, count })
    }

    /// Sets an event aside: dead if it is the first of its key, after so many attempts; otherwise parked without having been
    /// tried.
    pub(super) fn insert(
        &mut self,
        tx: &Tx<'_>,
        consumer: &str,
        record: &Record,
        envelope: &Envelope<'_>,
        reason: &str,
        times: u32,
    ) -> Result<(), ApplyError> {
        if self.count >= MAX_DEAD_LETTERS {
            return Err(ApplyError::Transient(format!(
                "{MAX_DEAD_LETTERS} events are set aside already; retry or discard some"
            )));
        }
        let key = envelope.subject.clone().into_owned();
        let first = self.keys.insert(key.clone());
        let letter = DeadLetter {
            seq: record.seq,
            event_id: envelope.id,
            key,
            event_type: envelope.event_type.clone().into_owned(),
            state: match first {
                true => LetterState::Dead,
                false => LetterState::Parked,
            },
            reason: reason.to_owned(),
            attempts: if first { times } else { 0 },
            since_ms: tx.now_ms(),
            envelope: record.bytes.to_vec(),
        };
        insert_row(tx, consumer, &letter)?;
        self.count += 1;
        Ok(())
    }
}

impl LetterState {
    fn as_str(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Parked => "parked",
        }
    }
}

// The statements.

const COLUMNS: &str = "seq, event_id, key, event_type, state, reason, attempts, since_ms, envelope";

fn letter(row: &Row<'_>) -> rusqlite::Result<DeadLetter> {
    let state: String = row.get(4)?;
    Ok(DeadLetter {
        seq: row.get(0)?,
        event_id: row.get(1)?,
        key: row.get(2)?,
        event_type: row.get(3)?,
        state: if state == "dead" {
            LetterState::Dead
        } else {
            LetterState::Parked
        },
        reason: row.get(5)?,
        attempts: row.get(6)?,
        since_ms: row.get(7)?,
        envelope: row.get(8)?,
    })
}

pub(crate) fn list(
    rows: &Connection,
    consumer: &str,
    limit: usize,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = format!(
        "select {COLUMNS} from relay_dead_letter where consumer = ?1 order by seq limit ?2"
    );
    rows.prepare_cached(&sql)?
        .query_map((consumer, limit), letter)?
        .collect()
}

fn of_key(rows: &Connection, consumer: &str, key: &str) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = format!(
        "select {COLUMNS} from relay_dead_letter where consumer = ?1 and key = ?2 order by seq limit ?3"
    );
    rows.prepare_cached(&sql)?
        .query_map((consumer, key, MAX_RETRY), letter)?
        .collect()
}

pub(crate) fn find(
    rows: &Connection,
    consumer: &str,
    seq: u64,
) -> rusqlite::Result<Option<DeadLetter>> {
    let sql = format!("select {COLUMNS} from relay_dead_letter where consumer = ?1 and seq = ?2");
    rows.prepare_cached(&sql)?
        .query_row((consumer, seq), letter)
        .optional()
}

/// The places of all that are set aside.
pub(super) fn positions(rows: &Connection, consumer: &str) -> rusqlite::Result<Vec<Position>> {
    rows.prepare("select seq, event_id from relay_dead_letter where consumer = ?1")?
        .query_map([consumer], |row| {
            Ok(Position {
                seq: row.get(0)?,
                id: row.get(1)?,
            })
        })?
        .collect()
}

fn keys(rows: &Connection, consumer: &str) -> rusqlite::Result<HashSet<String>> {
    rows.prepare_cached("select distinct key from relay_dead_letter where consumer = ?1")?
        .query_map([consumer], |row| row.get(0))?
        .collect()
}

pub(super) fn count(rows: &Connection, consumer: &str) -> rusqlite::Result<u64> {
    rows.prepare_cached("select count(*) from relay_dead_letter where consumer = ?1")?
        .query_row([consumer], |row| row.get(0))
}

fn insert_row(rows: &Connection, consumer: &str, letter: &DeadLetter) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into relay_dead_letter
           (consumer, seq, event_id, key, event_type, state, reason, attempts, since_ms, envelope)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?
    .execute((
        consumer,
        letter.seq,
        letter.event_id,
        &letter.key,
        &letter.event_type,
        letter.state.as_str(),
        &letter.reason,
        letter.attempts,
        letter.since_ms,
        &letter.envelope,
    ))?;
    Ok(())
}

fn reject_again(rows: &Connection, consumer: &str, seq: u64, reason: &str) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update relay_dead_letter set state = 'dead', attempts = attempts + 1, reason = ?3
         where consumer = ?1 and seq = ?2",
    )?
    .execute((consumer, seq, reason))?;
    Ok(())
}

/// Moves a letter into the audit table.
fn remove(
    tx: &Tx<'_>,
    consumer: &str,
    letter: &DeadLetter,
    action: &str,
    note: &str,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "insert into relay_dead_letter_audit (at_ms, consumer, seq, event_id, action, note, envelope)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        tx.now_ms(),
        consumer,
        letter.seq,
        letter.event_id,
        action,
        note,
        &letter.envelope,
    ))?;
    tx.prepare_cached("delete from relay_dead_letter where consumer = ?1 and seq = ?2")?
        .execute((consumer, letter.seq))?;
    Ok(())
}

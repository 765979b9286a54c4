//! Events that were in a log and are in none any more. They are saved here before anything is dropped.

use rusqlite::Connection;
use sha2::{Digest, Sha256};

use crate::beside::ReadOnly;
use crate::database::{Database, Tx};
use crate::envelope::EventId;
use crate::error::ReadError;
use crate::log::Record;

/// Where an event was found that no log holds any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundIn {
    /// It was emitted here, and another line of events was chosen.
    Outbox,
    /// It was published by somebody else, and this line of events was chosen.
    Stream,
    /// It was applied here, and its producer's log does not hold it.
    Consumer,
}

/// An event set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetAside {
    /// Since when it lies here, in Unix milliseconds.
    pub at_ms: u64,
    pub found_in: FoundIn,
    /// The stream's name.
    pub log: String,
    pub seq: u64,
    /// `none` when what lay there was no event of ours.
    pub event_id: String,
    /// The event, byte for byte. `None` from a consumer: it keeps ids, not bytes.
    pub envelope: Option<Vec<u8>>,
    pub reason: String,
}

impl Database {
    /// The events set aside in this file, oldest first.
    pub async fn set_aside(&self) -> Result<Vec<SetAside>, ReadError<rusqlite::Error>> {
        let all = |rows: &Connection| {
            let mut all = Vec::new();
            each(rows, &mut |event| {
                all.push(event);
                true
            })?;
            Ok(all)
        };
        self.read(all).await
    }

    /// How many there are.
    pub async fn count_set_aside(&self) -> Result<u64, ReadError<rusqlite::Error>> {
        let count = |rows: &Connection| {
            rows.query_row("select count(*) from relay_set_aside", [], |row| row.get(0))
        };
        self.read(count).await
    }
}

impl ReadOnly {
    /// Hands out the quarantined events, oldest first, one by one: there may be as many as a stream holds. `work` answers
    /// whether it wants the next. Answers how many it was given.
    pub async fn each_set_aside(
        &self,
        mut work: impl FnMut(SetAside) -> bool + Send + 'static,
    ) -> Result<u64, ReadError<rusqlite::Error>> {
        self.read(move |rows| each(rows, &mut work)).await
    }
}

impl FoundIn {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Outbox => "outbox",
            Self::Stream => "stream",
            Self::Consumer => "consumer",
        }
    }
}

/// Saves a record; once is enough.
pub(crate) fn record(
    tx: &Tx<'_>,
    found_in: FoundIn,
    log: &str,
    record: &Record,
    reason: &str,
) -> rusqlite::Result<()> {
    let id = record.event_id();
    let id = id.map_or_else(|| "none".to_owned(), |id| id.to_string());
    tx.prepare_cached(
        "insert or ignore into relay_set_aside (at_ms, found_in, log, seq, event_id, subject, envelope, reason, digest)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute((
        tx.now_ms(),
        found_in.as_str(),
        log,
        record.seq,
        id,
        &record.subject,
        &record.bytes[..],
        reason,
        digest(&record.bytes),
    ))?;
    Ok(())
}

fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reports an event of which only the id is known.
pub(crate) fn id_only(
    tx: &Tx<'_>,
    log: &str,
    seq: u64,
    id: EventId,
    reason: &str,
) -> rusqlite::Result<()> {
    tx.execute(
        "insert or ignore into relay_set_aside (at_ms, found_in, log, seq, event_id, reason, digest)
         values (?1, 'consumer', ?2, ?3, ?4, ?5, '')",
        (tx.now_ms(), log, seq, id, reason),
    )?;
    Ok(())
}

fn each(rows: &Connection, work: &mut dyn FnMut(SetAside) -> bool) -> rusqlite::Result<u64> {
    let sql = "select at_ms, found_in, log, seq, event_id, envelope, reason from relay_set_aside order by id";
    let mut statement = rows.prepare(sql)?;
    let (mut found, mut given) = (statement.query([])?, 0);
    while let Some(row) = found.next()? {
        let found_in: String = row.get(1)?;
        let wants_more = work(SetAside {
            at_ms: row.get(0)?,
            found_in: match found_in.as_str() {
                "outbox" => FoundIn::Outbox,
                "stream" => FoundIn::Stream,
                _ => FoundIn::Consumer,
            },
            log: row.get(2)?,
            seq: row.get(3)?,
            event_id: row.get(4)?,
            envelope: row.get(5)?,
            reason: row.get(6)?,
        });
        given += 1;
        if !wants_more {
            break;
        }
    }
    Ok(given)
}

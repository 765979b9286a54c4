//! Quarantine: events that were in a log and are in none any more are saved here before they are dropped.

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::database::Tx;
use crate::event::EventId;
use crate::log::Record;

/// Where an event was found that no log holds any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FoundIn {
    /// It was emitted here, and the operator chose the other side of a fork.
    Outbox,
    /// Another process published it, and the operator chose this file's side of the fork.
    Stream,
    /// It was applied here, and its producer's log does not hold it.
    Consumer,
}

impl FoundIn {
    /// The word that the file and the commands use.
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
        HEXLOWER.encode(&Sha256::digest(&record.bytes)),
    ))?;
    Ok(())
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

//! Recovery: the relay the other way round. A log comes home, or a stream that is no copy any more is made anew.

use std::time::Duration;

use crate::database::{self, Database, Gate};
use crate::error::{LogError, WriteError};
use crate::log::{AppendLog, Head, Log, Origin, Record, Stream};
use crate::set_aside::{self, FoundIn};

/// Events one transaction takes over, at most.
pub(super) const IMPORT_BATCH: usize = 500;
/// How long an event that the stream has counted may take to arrive: of several nodes, one may lag behind.
pub(super) const WAIT: Duration = Duration::from_secs(5);

/// Why a log did not come home.
pub(super) enum Stopped {
    /// Trying again may help.
    Lost(LogError),
    /// A person must look: what came does not fit.
    Unfit(String),
}

impl From<LogError> for Stopped {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Refused(why) => Self::Unfit(why),
            other => Self::Lost(other),
        }
    }
}

/// Takes over the stream's events after the outbox's head, up to place `to`, and the state they make. Writes are refused
/// meanwhile, and after a kill in between, since the file is marked first. Answers how many came.
pub(super) async fn import(
    db: &Database,
    stream: &mut impl Log,
    to: u64,
    batch: usize,
) -> Result<u64, Stopped> {
    if !db.has_fold() {
        let why = "this program does not say how its tables follow from its events, so it cannot take them over";
        return Err(Stopped::Unfit(why.to_owned()));
    }
    mark(db, "events of this log are in the stream and not in this file").await?;
    let mut outbox = db.outbox();
    let head = outbox.head().await?;
    let mut head = head.ok_or_else(|| LogError::lost("the outbox is gone"))?;
    let from = head.seq;
    while head.seq < to {
        let limit = usize::try_from(to - head.seq).map_or(batch, |left| left.min(batch));
        let records = stream.read_after(head.seq, limit, WAIT).await?;
        if records.is_empty() {
            let why = format!("event {} of the stream does not come", head.seq + 1);
            return Err(Stopped::Lost(LogError::lost(why)));
        }
        head = outbox.append_after(&head, &records).await?;
        tracing::info!(place = head.seq, of = to, "taking over this log's events from the stream");
    }
    Ok(head.seq - from)
}

/// Writes down that a log came home. An unmarked file is an alarm: see [`crate::relay`].
pub(super) async fn imported(
    db: &Database,
    from: u64,
    count: u64,
    marked: bool,
) -> Result<(), LogError> {
    let action = match marked {
        true => "imported",
        false => "ALARM: imported into a file that was not known to be a copy",
    };
    let detail = format!("{count} events after {from}, from the stream");
    transact(db, move |tx| database::audit(tx, tx.now_ms(), action, &detail)).await
}

/// Gives a new database the identity of the one it follows.
pub(super) async fn take_over(db: &Database, origin: Origin) -> Result<(), LogError> {
    transact(db, move |tx| {
        let detail = format!("database {} in epoch {}", origin.database_id, origin.epoch);
        database::audit(tx, tx.now_ms(), "identity taken over", &detail)?;
        database::set_origin(tx, &origin)
    })
    .await
}

/// Closes the stream, so that nothing comes after what is saved; saves what only it holds; deletes it. Whoever is killed
/// in between leaves a closed stream, and the next contact carries on.
pub(super) async fn replace(
    db: &Database,
    stream: &mut impl Stream,
    head: &Head,
    epoch: u32,
    reason: &str,
) -> Result<(), LogError> {
    let head = match head.closed_by {
        Some(by) if by >= epoch => head.clone(),
        _ => stream.close(epoch).await?,
    };
    let mut after = head.first.saturating_sub(1);
    let mut saved = 0;
    while after < head.seq {
        let records = stream.read_after(after, IMPORT_BATCH, WAIT).await?;
        let Some(last) = records.last() else { break };
        after = last.seq;
        saved += save_foreign(db, records, reason).await?;
    }
    let detail = format!("{reason}; {saved} events that only it held were set aside");
    transact(db, move |tx| database::audit(tx, tx.now_ms(), "stream replaced", &detail)).await?;
    stream.delete(&head.incarnation).await
}

/// Saves those of the stream's records that are not in the outbox.
async fn save_foreign(db: &Database, records: Vec<Record>, reason: &str) -> Result<u64, LogError> {
    let (log, reason) = (db.stream(), reason.to_owned());
    transact(db, move |tx| {
        let mut saved = 0;
        for record in &records {
            let ours = crate::outbox::rows_after(tx, record.seq - 1, 1)?;
            if ours.first() != Some(record) {
                set_aside::record(tx, FoundIn::Stream, log, record, &reason)?;
                saved += 1;
            }
        }
        Ok(saved)
    })
    .await
}

/// Marks the file as one that must import, and closes it for writes.
async fn mark(db: &Database, reason: &'static str) -> Result<(), LogError> {
    db.set_gate(Gate::MustImport(reason.to_owned()));
    transact(db, move |tx| database::mark(tx, tx.now_ms(), reason)).await
}

/// The file has met its stream: it is no older copy, or not any more.
pub(super) async fn open(db: &Database) -> Result<(), LogError> {
    db.met_its_stream();
    if matches!(db.gate(), Gate::MustImport(_)) {
        let cleared = |tx: &database::Tx<'_>| database::clear_mark(tx, tx.now_ms(), "met its stream");
        transact(db, cleared).await?;
        db.set_gate(Gate::Open);
    }
    Ok(())
}

async fn transact<T: Send + 'static>(
    db: &Database,
    work: impl FnOnce(&database::Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, LogError> {
    let done = db.apply(work).await;
    done.map_err(|error: WriteError<rusqlite::Error>| {
        LogError::lost_because("this database cannot be written", error)
    })
}

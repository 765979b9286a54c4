//! Recovery: the relay the other way round. A log comes home, or a stream that is no copy any more is made anew.

use std::time::Duration;

use crate::database::{self, Database, Gate};
use crate::error::{LogError, WriteError};
use crate::log::{AppendLog, Head, Log, Origin, Record, Stream, WAIT};
use crate::outbox;
use crate::outbox::quarantine::{self, FoundIn};

/// Events one transaction takes over, at most.
pub(super) const IMPORT_BATCH: usize = 500;

/// Why a log did not come home.
pub(super) enum Stopped {
    /// Trying again may help.
    Lost(LogError),
    /// A write came after the look, which had taken too long to hold it up: look again.
    Grown,
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

/// Before a look that may call for an import: a write that came between the two would be a fork. So writes wait, and those
/// under way are waited for.
pub(super) async fn hold(db: &Database) -> Result<(), LogError> {
    match db.hold() {
        true => transact(db, |_| Ok(())).await,
        false => Ok(()),
    }
}

/// Takes over the stream's events after the outbox's head, where the look has found it, up to its end, and the state they
/// make. Writes are refused meanwhile, and after a kill in between, since the file is marked first.
pub(super) async fn import(
    db: &Database,
    stream: &mut impl Log,
    from: u64,
    theirs: &Head,
    batch: usize,
) -> Result<(), Stopped> {
    let to = theirs.seq;
    if !db.has_fold() {
        let why = "this program does not say how its tables follow from its events, so it cannot take them over";
        return Err(Stopped::Unfit(why.to_owned()));
    }
    mark(db, to).await?;
    let mut outbox = db.outbox();
    let head = outbox.head().await?;
    let mut head = head.ok_or_else(|| LogError::lost("the outbox is gone"))?;
    if head.seq != from {
        return Err(Stopped::Grown);
    }
    while head.seq < to {
        let limit = usize::try_from(to - head.seq).map_or(batch, |left| left.min(batch));
        let mut records = stream.read_after(head.seq, limit, WAIT).await?;
        let wanted = head.seq + 1;
        let whole = records
            .iter()
            .zip(wanted..)
            .take_while(|(record, seq)| record.seq == *seq);
        let whole = whole.count();
        records.truncate(whole);
        if records.is_empty() {
            return Err(match theirs.holes {
                0 => Stopped::Lost(LogError::lost(format!("event {wanted} does not come"))),
                _ => Stopped::Unfit(format!(
                    "the stream has lost event {wanted}: repair the broker's copy"
                )),
            });
        }
        head = outbox.append_after(&head, &records).await?;
        tracing::info!(
            place = head.seq,
            of = to,
            "taking over this log's events from the stream"
        );
    }
    let detail = format!("{} events after {from}, from the stream", head.seq - from);
    transact(db, move |tx| {
        database::audit(tx, tx.now_ms(), "imported", &detail)
    })
    .await?;
    Ok(())
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
        _ => stream.close(epoch, &head.incarnation).await?,
    };
    let (mut at, mut wait, mut saved, mut unread) = (head.first, WAIT, 0, 0);
    while at <= head.seq {
        let mut records = stream.read_after(at - 1, IMPORT_BATCH, wait).await?;
        if records.is_empty() {
            wait = Duration::ZERO; // one such wait is enough
            records = stream.read_after(at - 1, 1, wait).await?;
        }
        let to = records.last().map_or(at, |last| last.seq);
        let (kept, known) = save_foreign(db, at, to, records, reason).await?;
        saved += kept;
        unread += to + 1 - at - known;
        at = to + 1;
    }
    if unread > head.holes {
        return Err(LogError::lost(format!(
            "it is to be made anew ({reason}), but {unread} events that only it holds cannot be read; it is kept: repair the broker's copy, or delete the stream"
        )));
    }
    let detail = format!("{reason}; {saved} events that only it held were set aside");
    transact(db, move |tx| {
        database::audit(tx, tx.now_ms(), "stream replaced", &detail)
    })
    .await?;
    stream.delete(&head.incarnation).await
}

/// Saves those of the records at these places that are not in the outbox. Answers how many those are, and how many of the
/// places the log of this file can do without: it has read them, or holds them itself.
async fn save_foreign(
    db: &Database,
    from: u64,
    to: u64,
    records: Vec<Record>,
    reason: &str,
) -> Result<(u64, u64), LogError> {
    let (log, reason) = (db.stream(), reason.to_owned());
    transact(db, move |tx| {
        let mut saved = 0;
        for record in &records {
            let ours = outbox::rows_after(tx, record.seq - 1, 1)?;
            if ours.first() != Some(record) {
                quarantine::record(tx, FoundIn::Stream, log, record, &reason)?;
                saved += 1;
            }
        }
        let read = |place: &u64| records.iter().any(|record| record.seq == *place);
        let mut known = 0;
        for place in from..=to {
            known += u64::from(read(&place) || outbox::event_id(tx, place)?.is_some());
        }
        Ok((saved, known))
    })
    .await
}

/// Marks the file as one that must import, and closes it for writes. That nothing had marked it before is an alarm: either
/// it was put back unseen, or somebody else publishes.
async fn mark(db: &Database, to: u64) -> Result<(), LogError> {
    let reason = "events of this log are in the stream and not in this file";
    db.set_gate(Gate::MustImport(reason.to_owned()));
    transact(db, move |tx| {
        if !database::is_marked(tx)? {
            let detail = format!("up to event {to}, into a file that was not known to be a copy");
            database::audit(tx, tx.now_ms(), "ALARM: import", &detail)?;
        }
        database::mark(tx, tx.now_ms(), reason)
    })
    .await
}

/// Writes down that the stream's events cannot be imported: from now on the operator may decide against them.
pub(super) async fn mark_unfit(db: &Database, why: &str) -> Result<(), LogError> {
    let why = why.to_owned();
    transact(db, move |tx| database::set_unfit(tx, &why)).await
}

/// A file that has halted is no file to go on with at the next start either, before it has met its stream again.
pub(super) async fn mark_halted(db: &Database, reason: &str) -> Result<(), LogError> {
    let reason = format!("it had halted: {reason}");
    transact(db, move |tx| database::mark(tx, tx.now_ms(), &reason)).await
}

/// A successor that finds no stream either: what its predecessor held is gone.
pub(super) async fn all_is_gone(db: &Database) -> Result<(), LogError> {
    let detail =
        "this database and its stream are both new; what the one before held is in neither";
    transact(db, move |tx| {
        database::audit(tx, tx.now_ms(), "ALARM: all is gone", detail)
    })
    .await
}

/// The file has met its stream: it is no older copy, or not any more.
pub(super) async fn open(db: &Database) -> Result<(), LogError> {
    db.met_its_stream();
    db.release();
    if matches!(db.gate(), Gate::MustImport(_)) {
        let cleared =
            |tx: &database::Tx<'_>| database::clear_mark(tx, tx.now_ms(), "met its stream");
        transact(db, cleared).await?;
        db.set_gate(Gate::Open);
        tracing::info!("this file has met its stream: writes are taken");
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

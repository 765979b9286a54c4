//! Recovery, the relay the other way round: events are imported from the stream, or a stream that is no copy is replaced.

use std::time::Duration;

use crate::database::{self, Database, Gate, Identity, Tx};
use crate::error::LogError;
use crate::log::{AppendLog, Head, Log, Origin, Record, Stream, WAIT};
use crate::outbox;
use crate::outbox::quarantine::{self, FoundIn};

/// Events one transaction imports, at most.
pub(super) const IMPORT_BATCH: usize = 500;

/// Before a look that may call for an import: a write that came between the two would be a fork. So new writes wait, and
/// this waits for those under way.
pub(super) async fn hold(db: &Database) -> Result<(), LogError> {
    match db.hold() {
        true => transact(db, |_| Ok(())).await,
        false => Ok(()),
    }
}

/// Imports the stream's events after `from`, the outbox's head at the last look, and the state that they make. False: a
/// write came after that look, which had taken too long to hold it up. `Refused`: an event does not fit, so the operator
/// must act. The file is marked first, so writes are refused meanwhile, also after a crash in between.
pub(super) async fn import(
    db: &Database,
    stream: &mut impl Log,
    from: u64,
    theirs: &Head,
    batch: usize,
) -> Result<bool, LogError> {
    let to = theirs.seq;
    if !db.has_fold() {
        let why = "this program does not state how its tables follow from its events, so it cannot import them";
        return Err(LogError::Refused(why.to_owned()));
    }
    mark(db, to).await?;
    let mut outbox = db.outbox();
    let head = outbox.head().await?;
    let mut head = head.ok_or_else(|| LogError::disconnected("the outbox is gone"))?;
    if head.seq != from {
        return Ok(false);
    }
    while head.seq < to {
        let limit = usize::try_from(to - head.seq).map_or(batch, |left| left.min(batch));
        let mut records = stream.read_after(head.seq, limit, WAIT).await?;
        let next = records.iter().zip(head.seq + 1..);
        let whole = next.take_while(|(record, seq)| record.seq == *seq).count();
        records.truncate(whole);
        if records.is_empty() {
            return Err(missing(head.seq + 1, theirs));
        }
        head = outbox.append_after(&head, &records).await?;
        tracing::info!(seq = head.seq, of = to, "importing events from the stream");
    }
    let detail = format!("{} events after {from}, from the stream", to - from);
    audit(db, "imported", detail).await?;
    Ok(true)
}

fn missing(seq: u64, stream: &Head) -> LogError {
    match stream.holes {
        0 => LogError::disconnected(format!("event {seq} does not arrive")),
        _ => LogError::Refused(format!(
            "the stream has lost event {seq}: repair the broker's copy"
        )),
    }
}

/// Gives a new database the identity of the one it follows.
pub(super) async fn take_over(db: &Database, origin: Origin) -> Result<(), LogError> {
    transact(db, move |tx| {
        let detail = origin.to_string();
        tx.audit("identity taken over", &detail)?;
        database::set_origin(tx, &origin)
    })
    .await
}

/// Closes the stream, so that nothing comes after what is saved; saves what only it holds; deletes it. A crash in between
/// is safe: it leaves a closed stream, and the next contact resumes.
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
        return Err(LogError::disconnected(format!(
            "it is to be recreated ({reason}), but {unread} events that only it holds cannot be read; it is kept: repair the broker's copy, or delete the stream"
        )));
    }
    let detail = format!("{reason}; {saved} events that only it held were quarantined");
    audit(db, "stream replaced", detail).await?;
    stream.delete(&head.incarnation).await
}

/// Quarantines those of the records at these sequences that are not in the outbox. Answers how many those are, and how
/// many of the sequences are safe: this has read them, or the outbox holds them.
async fn save_foreign(
    db: &Database,
    from: u64,
    to: u64,
    records: Vec<Record>,
    reason: &str,
) -> Result<(u64, u64), LogError> {
    let reason = reason.to_owned();
    transact(db, move |tx| {
        let (mut saved, mut read) = (0, records.iter().map(|record| record.seq).peekable());
        let mut known = 0;
        for seq in from..=to {
            let was_read = read.next_if_eq(&seq).is_some();
            known += u64::from(was_read || outbox::event_id(tx, seq)?.is_some());
        }
        for record in &records {
            let ours = outbox::rows_after(tx, record.seq - 1, 1)?;
            if ours.first() != Some(record) {
                quarantine::record(tx, FoundIn::Stream, &tx.context().stream, record, &reason)?;
                saved += 1;
            }
        }
        Ok((saved, known))
    })
    .await
}

/// Marks the file as one that must import, and closes it for writes. If nothing had marked it before, that is an alarm:
/// either it was restored unnoticed, or another process publishes.
async fn mark(db: &Database, to: u64) -> Result<(), LogError> {
    let reason = "events of this log are in the stream and not in this file";
    db.set_gate(Gate::MustImport(reason.to_owned()));
    transact(db, move |tx| {
        if Identity::load(tx)?.must_import.is_none() {
            let detail = format!("up to event {to}, into a file that was not known to be a copy");
            tx.audit("ALARM: import", &detail)?;
        }
        database::mark(tx, tx.now_ms(), reason)
    })
    .await
}

/// The file has met its stream: it lacks nothing that the stream holds.
pub(super) async fn open(db: &Database) -> Result<(), LogError> {
    db.met_its_stream();
    db.release();
    if matches!(db.gate(), Gate::MustImport(_)) {
        let clear = |tx: &Tx<'_>| database::clear_mark(tx, tx.now_ms(), "met its stream");
        transact(db, clear).await?;
        db.set_gate(Gate::Open);
        tracing::info!("this file has met its stream: writes are taken");
    }
    Ok(())
}

/// Records what was done to this database.
pub(super) async fn audit(
    db: &Database,
    action: &'static str,
    detail: String,
) -> Result<(), LogError> {
    transact(db, move |tx| tx.audit(action, &detail)).await
}

pub(super) async fn transact<T: Send + 'static>(
    db: &Database,
    work: impl FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, LogError> {
    Ok(db.write_past_gate(work).await?)
}

//! The outbox: the service's log, written by `emit` inside the transaction that changes the state.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use tokio::sync::watch;

use crate::consumer::Cause;
use crate::database::{self, Database, Tx};
use crate::envelope::{Envelope, EventId, MAX_ENVELOPE_BYTES, NewEvent, is_event_type, subject_of};
use crate::environment::unix_ms;
use crate::error::{ApplyError, EmitError, LogError, ReadError, WriteError, chain};
use crate::log::{AppendLog, Head, Log, Origin, Record, check_next};
use crate::sealed::{Open, Sealed};

/// Bytes one read hands out, at most (one event is always handed out).
const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

impl Tx<'_> {
    /// Appends an event to the service's log: it leaves the service if and only if this transaction commits.
    /// Answers the event's place.
    pub fn emit<D: Serialize>(&self, event: NewEvent<'_, D>) -> Result<u64, EmitError> {
        let context = self.context();
        let root = context.root();
        if !is_event_type(event.event_type) {
            let event_type = event.event_type.to_owned();
            return Err(EmitError::InvalidType { event_type });
        }
        let subject = subject_of(event.event_type);
        if subject.split('.').next() != Some(root.as_str()) {
            return Err(EmitError::WrongStream {
                event_type: event.event_type.to_owned(),
                stream: context.stream.to_owned(),
            });
        }
        let data = readable(&event)?;
        let (last, prev, epoch) = head_row(self)?;
        let now = context.environment.now();
        let id = EventId::draw(&*context.environment);
        let sealed = self.seal(&event, id, data.get())?;
        let (sealedkey, sealed) = sealed
            .map(|sealed| (sealed.key.into(), sealed.text.into()))
            .unzip();
        let trace = self.trace();
        let (cause, earlier) = self.next_cause().unzip();
        let bytes = Envelope {
            specversion: "1.0".into(),
            id,
            source: format!("/{root}").into(),
            event_type: event.event_type.into(),
            subject: event.aggregate.as_str().into(),
            time: now.to_string().into(),
            sequence: last + 1,
            prev,
            epoch,
            datacontenttype: "application/json".into(),
            dataschema: format!("urn:freehold:schema:{}", event.event_type).into(),
            traceparent: trace.traceparent.map(Into::into),
            requestid: trace.request_id.map(Into::into),
            cause: cause.as_deref().map(Into::into),
            sealedkey,
            sealed,
            data: &data,
        }
        .to_bytes();
        let room = Cause::room(cause.as_deref());
        if bytes.len() + room > MAX_ENVELOPE_BYTES {
            return Err(EmitError::TooLarge {
                event_type: event.event_type.to_owned(),
                bytes: bytes.len(),
                limit: MAX_ENVELOPE_BYTES - room,
            });
        }
        if let (Some(cause), Some(true)) = (&cause, earlier) {
            more_follows(self, last, cause)?;
        }
        append_row(self, last + 1, id, subject, &bytes, unix_ms(now))?;
        Ok(last + 1)
    }

    fn seal<D>(
        &self,
        event: &NewEvent<'_, D>,
        id: EventId,
        data: &str,
    ) -> Result<Option<Sealed>, EmitError> {
        let Some(plain) = &event.sealed else {
            return Ok(None);
        };
        let keys = self.context().keys.as_ref();
        let keys = keys.ok_or_else(|| EmitError::NoKeys {
            event_type: event.event_type.to_owned(),
        })?;
        let open = Open {
            id,
            event_type: event.event_type,
            subject: &event.aggregate,
            data,
        };
        Ok(Some(keys.seal(open, plain)))
    }
}

/// Another event is emitted for the same cause: the one before it was not the last one, so it says `more`. This is the only
/// change of an event after `emit`. It comes in the same transaction, before anything but that transaction can read the
/// event; its row is there meanwhile, because SQL of the reaction may look at it or roll it back.
fn more_follows(tx: &Tx<'_>, seq: u64, cause: &str) -> Result<(), EmitError> {
    let Some(bytes) = event_at(tx, seq)? else {
        return Ok(()); // rolled back
    };
    let mut envelope = Envelope::parse(&bytes).map_err(|error| EmitError::Undecodable {
        event_type: format!("at {seq}"),
        cause: Some(error),
    })?;
    if envelope.cause.as_deref() != Some(cause) {
        return Ok(());
    }
    envelope.cause = Some(Cause::and_more(cause).into());
    replace_row(tx, seq, &envelope.to_bytes())?;
    Ok(())
}

/// The event's data as JSON that its own schema can read back.
fn readable<D: Serialize>(
    event: &NewEvent<'_, D>,
) -> Result<Box<serde_json::value::RawValue>, EmitError> {
    let undecodable = |cause| EmitError::Undecodable {
        event_type: event.event_type.to_owned(),
        cause,
    };
    let data =
        serde_json::value::to_raw_value(event.data).map_err(|error| undecodable(Some(error)))?;
    match (event.decode)(event.event_type, data.get().as_bytes()) {
        Ok(Some(_)) => Ok(data),
        Ok(None) => Err(undecodable(None)),
        Err(error) => Err(undecodable(Some(error))),
    }
}

/// A handle to the log. As a [`Log`] it can be read, waited on, and appended to verbatim.
#[derive(Clone)]
pub struct Outbox {
    db: Database,
    committed: watch::Receiver<u64>,
}

impl Outbox {
    pub(crate) fn new(db: Database, committed: watch::Receiver<u64>) -> Self {
        Self { db, committed }
    }

    /// The last place taken by a committed event, without asking the file.
    pub fn committed(&self) -> u64 {
        *self.committed.borrow()
    }

    /// Waits until the event at this place is committed. False: the database was closed before.
    pub async fn reaches(&mut self, seq: u64) -> bool {
        let reached = self.committed.wait_for(|head| *head >= seq).await;
        reached.is_ok()
    }

    pub(crate) fn database(&self) -> &Database {
        &self.db
    }

    pub(crate) async fn ends(&self) -> Result<Ends, LogError> {
        self.db.read(ends).await.map_err(unreadable)
    }

    /// The event at this place, if it is kept.
    pub async fn event_id(&self, seq: u64) -> Result<Option<EventId>, LogError> {
        let read = self.db.read(move |rows| event_id(rows, seq)).await;
        read.map_err(unreadable)
    }

    /// How long the first event after `published` has been waiting; `None` when none waits.
    pub async fn oldest_unpublished(&self, published: u64) -> Result<Option<Duration>, LogError> {
        let read = self
            .db
            .read(move |rows| emitted_at_ms_of(rows, published + 1))
            .await;
        let emitted_at = read.map_err(unreadable)?;
        let now_ms = self.db.environment().now_ms();
        Ok(emitted_at.map(|at| Duration::from_millis(now_ms.saturating_sub(at))))
    }
}

impl Log for Outbox {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let ends = self.ends().await?;
        Ok(Some(Head {
            seq: ends.seq,
            first: ends.first,
            holes: 0,
            incarnation: ends.origin.database_id.to_string(),
            origin: ends.origin,
            closed_by: None,
        }))
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        // A commit announces itself after it is on disk, so whoever waits here finds its rows.
        let arrived = self.committed.wait_for(|head| *head > after);
        match tokio::time::timeout(wait, arrived).await {
            Err(_) => return Ok(Vec::new()),
            Ok(Err(_)) => return Err(LogError::lost("the database is closed")),
            Ok(Ok(_)) => {}
        }
        let read = self
            .db
            .read(move |rows| rows_after(rows, after, limit))
            .await;
        read.map_err(unreadable)
    }
}

impl AppendLog for Outbox {
    async fn append_after(&mut self, head: &Head, records: &[Record]) -> Result<Head, LogError> {
        check_next(head, records)?;
        let (expected, records) = (head.clone(), records.to_vec());
        let write = self.db.apply(move |tx| append(tx, &expected, &records));
        let seq = write.await.map_err(unwritten)?;
        Ok(Head {
            seq,
            ..head.clone()
        })
    }
}

/// Appends the records as they are, and lets the service's own tables follow, in one transaction. This is how a log
/// comes home: what was emitted here once changes the tables as it did then.
fn append(tx: &Tx<'_>, after: &Head, records: &[Record]) -> Result<u64, LogError> {
    let failed =
        |error: rusqlite::Error| LogError::lost_because("the outbox cannot be written", error);
    let origin = database::origin(tx).map_err(failed)?;
    if origin.database_id.to_string() != after.incarnation {
        return Err(LogError::Refused("this is another database".to_owned()));
    }
    let (mut head, mut last, _) = head_row(tx).map_err(failed)?;
    if head != after.seq {
        let why = format!("it ends at {head}, not at {}", after.seq);
        return Err(LogError::Refused(why));
    }
    for record in records {
        let seq = record.seq;
        let refused = |why: String| LogError::Refused(format!("event {seq}: {why}"));
        let envelope = follows(record, last).map_err(refused)?;
        let at_ms = emitted_at_ms(&envelope, tx.now_ms());
        append_row(tx, seq, envelope.id, &record.subject, &record.bytes, at_ms).map_err(failed)?;
        fold(tx, &envelope).map_err(|error| match error {
            ApplyError::Transient(why) => LogError::lost(format!("event {seq}: {why}")),
            unfit => refused(unfit.to_string()),
        })?;
        (head, last) = (seq, Some(envelope.id));
    }
    Ok(head)
}

/// The record's event, if it is one that `emit` can have written after this one.
fn follows(record: &Record, last: Option<EventId>) -> Result<Envelope<'_>, String> {
    let (bytes, limit) = (record.bytes.len(), MAX_ENVELOPE_BYTES);
    if bytes > limit {
        return Err(format!(
            "no event of ours: {bytes} bytes, the limit is {limit}"
        ));
    }
    let envelope = Envelope::parse(&record.bytes);
    let envelope = envelope.map_err(|error| format!("no event of ours: {error}"))?;
    if subject_of(&envelope.event_type) != record.subject {
        let (subject, event_type) = (&record.subject, &envelope.event_type);
        return Err(format!(
            "no event of ours: a {event_type} on subject {subject}"
        ));
    }
    match envelope.sequence == record.seq && envelope.prev == last {
        true => Ok(envelope),
        false => Err("it does not follow the event before it".to_owned()),
    }
}

/// Lets the service's own tables follow an own event, and a reaction's offset the event it was an answer to.
pub(crate) fn fold(tx: &Tx<'_>, envelope: &Envelope<'_>) -> Result<(), ApplyError> {
    if let Some(cause) = envelope.cause.as_deref().and_then(Cause::parse) {
        cause.came_home(tx)?;
    }
    match &tx.context().fold {
        Some(fold) => fold.apply(tx, envelope),
        None => Ok(()),
    }
}

/// An event that comes home is as old as it is.
fn emitted_at_ms(envelope: &Envelope<'_>, otherwise: u64) -> u64 {
    envelope.time.parse().map_or(otherwise, unix_ms)
}

fn unreadable(error: ReadError<rusqlite::Error>) -> LogError {
    LogError::Lost(
        "the outbox cannot be read".to_owned(),
        Some(Box::new(error)),
    )
}

fn unwritten(error: WriteError<LogError>) -> LogError {
    match error {
        WriteError::Work(refused) => refused,
        other => LogError::lost(chain(&other)),
    }
}

// The statements.

/// Where the log begins and ends, and whose it is.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    /// 0 while it is empty.
    pub(crate) seq: u64,
    pub(crate) last: Option<EventId>,
    /// The oldest row kept; `seq + 1` when there is none.
    pub(crate) first: u64,
    pub(crate) origin: Origin,
}

/// The last event's place and id, as of what `rows` sees; 0 and none while the log is empty.
pub fn head(rows: &Connection) -> rusqlite::Result<(u64, Option<EventId>)> {
    head_row(rows).map(|(seq, id, _)| (seq, id))
}

/// The event at this place as it lies in the log, if it is kept.
pub fn event_at(rows: &Connection, seq: u64) -> rusqlite::Result<Option<Vec<u8>>> {
    rows.prepare_cached("select envelope from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

pub(crate) fn ends(rows: &Connection) -> rusqlite::Result<Ends> {
    let (seq, last, _) = head_row(rows)?;
    let sql = "select min(seq) from relay_outbox";
    let first: Option<u64> = rows.query_row(sql, [], |row| row.get(0))?;
    Ok(Ends {
        seq,
        last,
        first: first.unwrap_or(seq + 1),
        origin: database::origin(rows)?,
    })
}

pub(crate) fn head_seq(rows: &Connection) -> rusqlite::Result<u64> {
    head_row(rows).map(|(seq, ..)| seq)
}

/// The last event's place and id, and the epoch the next one is emitted in.
fn head_row(rows: &Connection) -> rusqlite::Result<(u64, Option<EventId>, u32)> {
    rows.prepare_cached("select seq, event_id, (select epoch from relay_identity) from relay_head")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
}

fn append_row(
    tx: &Tx<'_>,
    seq: u64,
    id: EventId,
    subject: &str,
    bytes: &[u8],
    emitted_at_ms: u64,
) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "insert into relay_outbox (seq, event_id, subject, envelope, emitted_at_ms) values (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((seq, id, subject, bytes, emitted_at_ms))?;
    set_head(tx, seq, Some(id))
}

/// A committed row never changes, so the trigger forbids an update, and this one is written anew. Only for an event that this
/// transaction has emitted itself.
fn replace_row(tx: &Tx<'_>, seq: u64, bytes: &[u8]) -> rusqlite::Result<()> {
    tx.prepare_cached(
        "insert or replace into relay_outbox (seq, event_id, subject, envelope, emitted_at_ms)
         select seq, event_id, subject, ?2, emitted_at_ms from relay_outbox where seq = ?1",
    )?
    .execute((seq, bytes))?;
    Ok(())
}

fn set_head(rows: &Connection, seq: u64, id: Option<EventId>) -> rusqlite::Result<()> {
    rows.prepare_cached("update relay_head set seq = ?1, event_id = ?2")?
        .execute((seq, id))?;
    Ok(())
}

/// Takes the rows after `seq` away, which leaves the head there. Whoever calls this has saved them.
pub(crate) fn cut_after(rows: &Connection, seq: u64) -> rusqlite::Result<()> {
    let id = event_id(rows, seq)?;
    rows.execute("delete from relay_outbox where seq > ?1", [seq])?;
    set_head(rows, seq, id)
}

/// Forgets the rows before `first`, at most `limit` of them, and never the last one; answers how many.
pub(crate) fn prune(rows: &Connection, first: u64, limit: usize) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "delete from relay_outbox where seq < min(
           ?1, (select seq from relay_head), (select min(seq) from relay_outbox) + ?2)",
    )?
    .execute((first, limit))
}

/// Which event is at this place, if it is kept.
pub fn event_id(rows: &Connection, seq: u64) -> rusqlite::Result<Option<EventId>> {
    rows.prepare_cached("select event_id from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

pub(crate) fn emitted_at_ms_of(rows: &Connection, seq: u64) -> rusqlite::Result<Option<u64>> {
    rows.prepare_cached("select emitted_at_ms from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

pub(crate) fn rows_after(
    rows: &Connection,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Vec<Record>> {
    let mut statement = rows.prepare_cached(
        "select seq, subject, envelope from relay_outbox where seq > ?1 order by seq limit ?2",
    )?;
    let mut found = statement.query((after, limit))?;
    let (mut records, mut bytes) = (Vec::new(), 0);
    while let Some(row) = found.next()? {
        let envelope: Vec<u8> = row.get(2)?;
        bytes += envelope.len();
        if bytes > MAX_READ_BYTES && !records.is_empty() {
            break;
        }
        records.push(Record {
            seq: row.get(0)?,
            subject: row.get(1)?,
            bytes: Bytes::from(envelope),
        });
    }
    Ok(records)
}

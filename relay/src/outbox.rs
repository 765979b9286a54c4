//! The outbox: the service's log, written by `emit` inside the transaction that changes the state.

use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;
use tokio::sync::watch;

use crate::database::{Database, Tx};
use crate::envelope::{
    Envelope, EventId, MAX_ENVELOPE_BYTES, NewEvent, is_event_type, now_ms, subject_of,
};
use crate::error::{EmitError, LogError, ReadError, WriteError, chain};
use crate::log::{AppendLog, Head, Log, Record, check_next};

/// Bytes one read hands out, at most (one event is always handed out).
const MAX_READ_BYTES: usize = 8 * 1024 * 1024;

impl Tx<'_> {
    /// Appends an event to the service's log: it leaves the service if and only if this transaction commits.
    /// Answers the event's place.
    pub fn emit<D: Serialize>(&self, event: NewEvent<'_, D>) -> Result<u64, EmitError> {
        let identity = self.identity();
        let root = identity.root();
        if !is_event_type(event.event_type) {
            let event_type = event.event_type.to_owned();
            return Err(EmitError::InvalidType { event_type });
        }
        let subject = subject_of(event.event_type);
        if subject.split('.').next() != Some(root.as_str()) {
            return Err(EmitError::WrongStream {
                event_type: event.event_type.to_owned(),
                stream: identity.stream.clone(),
            });
        }
        let data = readable(&event)?;
        let (last, prev) = head_row(self)?;
        let id = EventId::draw();
        let bytes = Envelope {
            specversion: "1.0".into(),
            id,
            source: format!("/{root}").into(),
            event_type: event.event_type.into(),
            subject: event.aggregate.as_str().into(),
            time: jiff::Timestamp::now().to_string().into(),
            sequence: last + 1,
            prev,
            epoch: identity.origin.epoch,
            datacontenttype: "application/json".into(),
            dataschema: format!("urn:freehold:schema:{}", event.event_type).into(),
            traceparent: None,
            data: &data,
        }
        .to_bytes();
        if bytes.len() > MAX_ENVELOPE_BYTES {
            return Err(EmitError::TooLarge {
                event_type: event.event_type.to_owned(),
                bytes: bytes.len(),
                limit: MAX_ENVELOPE_BYTES,
            });
        }
        append_row(self, last + 1, id, subject, &bytes)?;
        Ok(last + 1)
    }
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

    /// The event at this place, if it is kept.
    pub async fn event_id(&self, seq: u64) -> Result<Option<EventId>, LogError> {
        let read = self.db.read(move |rows| event_id(rows, seq)).await;
        read.map_err(unreadable)
    }

    /// How long the first event after `published` has been waiting; `None` when none waits.
    pub async fn oldest_unpublished(&self, published: u64) -> Result<Option<Duration>, LogError> {
        let read = self
            .db
            .read(move |rows| emitted_at_ms(rows, published + 1))
            .await;
        let emitted_at = read.map_err(unreadable)?;
        Ok(emitted_at.map(|at| Duration::from_millis(now_ms().saturating_sub(at))))
    }
}

impl Log for Outbox {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        let read = self
            .db
            .read(|rows| Ok::<_, rusqlite::Error>((head_seq(rows)?, first_seq(rows)?)));
        let (seq, first) = read.await.map_err(unreadable)?;
        let origin = self.db.identity().origin.clone();
        Ok(Some(Head {
            seq,
            first: first.unwrap_or(seq + 1),
            incarnation: origin.database_id.to_string(),
            origin,
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
        let own = self.db.identity().origin.database_id.to_string();
        if expected.incarnation != own {
            return Err(LogError::Refused("this is another database".to_owned()));
        }
        let write = self.db.apply(move |tx| append(tx, expected.seq, &records));
        let seq = write.await.map_err(unwritten)?;
        Ok(Head {
            seq,
            ..head.clone()
        })
    }
}

/// Appends the records as they are, in one transaction.
fn append(tx: &Tx<'_>, after: u64, records: &[Record]) -> Result<u64, LogError> {
    let failed =
        |error: rusqlite::Error| LogError::lost_because("the outbox cannot be written", error);
    let mut head = head_seq(tx).map_err(failed)?;
    if head != after {
        return Err(LogError::Refused(format!(
            "it ends at {head}, not at {after}"
        )));
    }
    for record in records {
        let id = record.event_id();
        let id = id.ok_or_else(|| LogError::Refused(format!("{} is no event", record.seq)))?;
        append_row(tx, record.seq, id, &record.subject, &record.bytes).map_err(failed)?;
        head = record.seq;
    }
    Ok(head)
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

pub(crate) fn head_seq(rows: &Connection) -> rusqlite::Result<u64> {
    head_row(rows).map(|(seq, _)| seq)
}

fn head_row(rows: &Connection) -> rusqlite::Result<(u64, Option<EventId>)> {
    rows.prepare_cached("select seq, event_id from relay_head")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
}

fn append_row(
    rows: &Connection,
    seq: u64,
    id: EventId,
    subject: &str,
    bytes: &[u8],
) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into relay_outbox (seq, event_id, subject, envelope, emitted_at_ms) values (?1, ?2, ?3, ?4, ?5)",
    )?
    .execute((seq, id, subject, bytes, now_ms()))?;
    rows.prepare_cached("update relay_head set seq = ?1, event_id = ?2")?
        .execute((seq, id))?;
    Ok(())
}

fn first_seq(rows: &Connection) -> rusqlite::Result<Option<u64>> {
    rows.query_row("select min(seq) from relay_outbox", [], |row| row.get(0))
}

fn event_id(rows: &Connection, seq: u64) -> rusqlite::Result<Option<EventId>> {
    rows.prepare_cached("select event_id from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

fn emitted_at_ms(rows: &Connection, seq: u64) -> rusqlite::Result<Option<u64>> {
    rows.prepare_cached("select emitted_at_ms from relay_outbox where seq = ?1")?
        .query_row([seq], |row| row.get(0))
        .optional()
}

fn rows_after(rows: &Connection, after: u64, limit: usize) -> rusqlite::Result<Vec<Record>> {
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

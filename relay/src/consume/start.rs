//! Where a consumer begins: its program chooses once, and an operator may start it elsewhere.

use rusqlite::{Connection, OptionalExtension};

use super::position::{self, Break};
use super::step::Trouble;
use super::{Consumer, answered};
use crate::database::{Database, Tx};
use crate::error::{ApplyError, Fatal};
use crate::event::Envelope;
use crate::log::{Connect, Head, Log, Position, WAIT};

/// Where a consumer begins that has applied nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first event. If the stream does not keep it any more, a cache that can load a snapshot loads one at once;
    /// any other consumer waits and reports it.
    #[default]
    First,
    /// With a snapshot of its producer, and then with the events after it. For a cache that [loads](Consumer::loads) it and
    /// [asks](Consumer::asks) for it; any other consumer ends with an error.
    Snapshot,
    /// With the first event that the stream stores after this consumer's first look at it. A service that has lost its file
    /// and imports its log begins again with the first event that it has answered according to that log.
    Now,
    /// With the event after this sequence. If the stream does not reach it yet, the consumer waits.
    At(u64),
}

/// A position with the epoch that its event was emitted in. `None`: the beginning of the stream.
pub(super) type Point = Option<(Position, u32)>;

impl Consumer {
    /// The event after which [`start_at`](Self::start_at) would go on; `None`: with the first one.
    ///
    /// # Errors
    ///
    /// [`Fatal`] when the stream cannot be read, is missing, or does not keep the event asked for; also for a cache, which begins with a snapshot.
    pub async fn plan_start(
        &self,
        from: &impl Connect,
        start: Start,
    ) -> Result<Option<Position>, Fatal> {
        Ok(position_of(self.find_start(from, start).await?))
    }

    /// Starts a consumer at another position of its stream, wherever it was: for one that cannot go on by itself. The events
    /// between are skipped, or read again; those that a reaction has answered according to its own log are not answered
    /// twice. `Start::First` is the oldest event that the stream keeps. Returns the event after which it goes on.
    ///
    /// # Errors
    ///
    /// As [`plan_start`](Self::plan_start); also when the database refuses the write. The consumer is then where it was.
    pub async fn start_at(
        &self,
        db: &Database,
        from: &impl Connect,
        start: Start,
    ) -> Result<Option<Position>, Fatal> {
        let (consumer, to) = (self.clone(), self.find_start(from, start).await?);
        let moved = db
            .write_past_gate(move |tx| restart(tx, &consumer, to))
            .await;
        moved.map_err(|error| Trouble::from(error).into())
    }

    async fn find_start(&self, from: &impl Connect, start: Start) -> Result<Point, Fatal> {
        if self.keeps_cache() || start == Start::Snapshot {
            let name = &self.name;
            return Err(Fatal(format!("{name} goes on from a snapshot: rebuild it")));
        }
        let found = async {
            let mut log = from.connect().await?;
            let head = log.head().await?.ok_or(Break::Missing)?;
            let start = match start {
                Start::First => Start::At(head.first.max(1) - 1),
                other => other,
            };
            find(start, &mut log, &head).await
        };
        Ok(found.await?)
    }
}

/// Nothing is applied yet. Where the consumer begins is decided once, and stored at once.
pub(super) async fn first_position(
    db: &Database,
    consumer: &Consumer,
    log: &mut impl Log,
    head: &Head,
) -> Result<Option<Position>, Trouble> {
    let is_decided = consumer.read(db, begun).await?.is_some();
    let answered = consumer.read(db, answered::first_answered).await?;
    let start = match (consumer.start, answered) {
        (Start::First | Start::Snapshot, _) => Start::First,
        _ if is_decided => Start::First,
        // Its service has lost its file: it began before it answered.
        (Start::Now, Some(first)) => Start::At(first - 1),
        (start, _) => start,
    };
    let to = find(start, log, head).await?;
    if start == Start::First {
        return Ok(None);
    }
    let work = move |tx: &Tx<'_>, consumer: &Consumer| begin_first(tx, consumer, to);
    consumer.transact(db, work).await?;
    Ok(position_of(to))
}

/// The position in the stream that a start means.
pub(super) async fn find(start: Start, log: &mut impl Log, head: &Head) -> Result<Point, Trouble> {
    let (first, ends) = (head.first, head.seq);
    let seq = match start {
        Start::First | Start::Snapshot => 0,
        Start::Now => ends,
        Start::At(seq) => seq,
    };
    let gone = Break::Trimmed { first, offset: seq };
    match seq {
        0 if first > 1 => return Err(gone.into()),
        0 => return Ok(None),
        _ if seq > ends => {
            let why = format!("it begins after event {seq}, and the stream ends at {ends}");
            return Err(Trouble::Again(why));
        }
        _ => {}
    }
    let found = log.read_after(seq - 1, 1, WAIT).await?;
    let next = found.first().ok_or(Break::Silent { wanted: seq })?;
    let envelope = Envelope::parse(&next.bytes).map_err(|_| Break::NoEvent { seq })?;
    let id = match next.seq - seq {
        0 => Some(envelope.id),
        1 => envelope.prev, // trimmed exactly up to here
        _ => {
            let why = format!("{gone}; say with start-at where it begins");
            return Err(Trouble::Again(why));
        }
    };
    let id = id.ok_or(Break::NoEvent { seq })?;
    Ok(Some((Position { seq, id }, envelope.epoch)))
}

/// Begins there: from now on the consumer never goes back to before it.
pub(super) fn begin(tx: &Tx<'_>, consumer: &Consumer, at: Point) -> rusqlite::Result<()> {
    let (seq, id, epoch) = at.map_or((0, None, 0), |(at, epoch)| (at.seq, Some(at.id), epoch));
    let sql = "insert or replace into relay_start (consumer, stream, seq, event_id, epoch) values (?1, ?2, ?3, ?4, ?5)";
    tx.execute(sql, (&consumer.name, consumer.stream, seq, id, epoch))?;
    go_back(tx, &consumer.name)
}

/// Begins where its program chooses, at its first look at the stream.
pub(super) fn begin_first(tx: &Tx<'_>, consumer: &Consumer, at: Point) -> Result<(), ApplyError> {
    position::check(tx, &consumer.name, None)?;
    let after = at.map_or(0, |(at, _)| at.seq);
    let answered = answered::first_answered(tx, &consumer.name)?;
    if consumer.start == Start::Now && answered.is_some_and(|first| first <= after) {
        let imported = "answers have been imported meanwhile".to_owned();
        return Err(ApplyError::Transient(imported));
    }
    begin(tx, consumer, at)?;
    let detail = format!("{}: after {}", &consumer.name, words(position_of(at)));
    Ok(tx.audit("consumer began", &detail)?)
}

/// Goes back to where the consumer began.
pub(super) fn go_back(rows: &Connection, consumer: &str) -> rusqlite::Result<()> {
    let sql = "insert or ignore into relay_start (consumer, stream, seq, epoch)
               select consumer, stream, 0, 0 from relay_offset where consumer = ?1";
    rows.execute(sql, [consumer])?;
    rows.execute("delete from relay_offset where consumer = ?1", [consumer])?;
    let sql = "insert into relay_offset (consumer, stream, seq, event_id, epoch)
               select consumer, stream, seq, event_id, epoch from relay_start where consumer = ?1 and seq > 0";
    rows.execute(sql, [consumer]).map(drop)
}

/// Whether it is decided where the consumer begins, and then where: `None` is the beginning.
pub(super) fn begun(
    rows: &Connection,
    consumer: &str,
) -> rusqlite::Result<Option<Option<Position>>> {
    let sql = "select seq, event_id from relay_start where consumer = ?1";
    rows.prepare_cached(sql)?
        .query_row([consumer], |row| match row.get(0)? {
            0 => Ok(None),
            _ => position::of_row(row).map(Some),
        })
        .optional()
}

/// An operator's start, whatever was applied before.
fn restart(tx: &Tx<'_>, consumer: &Consumer, to: Point) -> Result<Option<Position>, ApplyError> {
    let (name, from) = (&consumer.name, position::load(tx, &consumer.name)?);
    begin(tx, consumer, to)?;
    let to = position_of(to);
    answered::read_again(tx, name, to.map_or(0, |to| to.seq))?;
    let detail = format!("{name}: from {} to {}", words(from), words(to));
    tx.audit("consumer started elsewhere", &detail)?;
    Ok(to)
}

/// `1042 (0199…)`, or `the beginning`.
pub(super) fn words(at: Option<Position>) -> String {
    at.map_or("the beginning".to_owned(), |Position { seq, id }| {
        format!("{seq} ({id})")
    })
}

pub(super) fn position_of(start: Point) -> Option<Position> {
    start.map(|(at, _)| at)
}

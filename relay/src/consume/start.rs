//! Where a consumer begins: its program says it once, and an operator may start it elsewhere.

use rusqlite::{Connection, OptionalExtension};

use super::follow::Trouble;
use super::position::{self, Break};
use super::{Consumer, answered, dead_letter};
use crate::database::{self, Database, Tx};
use crate::error::{ApplyError, Fatal};
use crate::event::Envelope;
use crate::log::{Connect, Head, Log, Position, WAIT};

/// Where a consumer begins that has applied nothing yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first event. If the stream does not keep it any more, a cache that can load a snapshot is loaded from one at
    /// once; any other consumer waits and says so.
    #[default]
    First,
    /// With a snapshot of its producer, and then with the events after it. For a cache that [loads](Consumer::loads) it and
    /// [asks](Consumer::asks) for it; any other consumer ends with an error.
    Snapshot,
    /// With the first event that the stream stores after this consumer's first look at it. A service that has lost its file
    /// and imports its log begins again with the first event that it has answered according to that log.
    Now,
    /// With the event after this sequence. A stream that does not reach it yet is waited for.
    At(u64),
}

/// A position with the epoch that its event was emitted in.
pub(super) type Place = (Position, u32);

impl Consumer {
    /// The event after which [`start_at`](Self::start_at) would go on; `None`: with the first one.
    pub async fn plan_start(
        &self,
        from: &impl Connect,
        start: Start,
    ) -> Result<Option<Position>, Fatal> {
        let place = self.place_of(from, start).await.map_err(fatal)?;
        Ok(place.map(|(at, _)| at))
    }

    /// Starts a consumer at another place of its stream, wherever it was: for one that cannot go on by itself. What lies
    /// between is skipped, or read again; what a reaction has answered according to its own log is not answered twice.
    /// `Start::First` is the oldest event that the stream keeps. Answers the event after which it goes on.
    pub async fn start_at(
        &self,
        db: &Database,
        from: &impl Connect,
        start: Start,
    ) -> Result<Option<Position>, Fatal> {
        let place = self.place_of(from, start).await.map_err(fatal)?;
        let consumer = self.clone();
        let moved = db.apply(move |tx| restart(tx, &consumer, place)).await;
        moved.map_err(|error| fatal(error.into()))
    }

    async fn place_of(&self, from: &impl Connect, start: Start) -> Result<Option<Place>, Trouble> {
        if self.keeps_cache() || start == Start::Snapshot {
            let why = format!("{} goes on from a snapshot: rebuild it", self.name);
            return Err(Trouble::Again(why));
        }
        let mut log = from.connect().await?;
        let head = log.head().await?.ok_or(Break::Missing)?;
        let start = match start {
            Start::First => Start::At(head.first.max(1) - 1),
            other => other,
        };
        find(start, &mut log, &head).await
    }
}

/// Where in the stream a start is. `None` is its beginning.
pub(super) async fn find(
    start: Start,
    log: &mut impl Log,
    head: &Head,
) -> Result<Option<Place>, Trouble> {
    let seq = match start {
        Start::First | Start::Snapshot => 0,
        Start::Now => head.seq,
        Start::At(seq) => seq,
    };
    if seq > head.seq {
        let ends = head.seq;
        let why = format!("it begins after event {seq}, and the stream ends at {ends}");
        return Err(Trouble::Again(why));
    }
    if seq == 0 {
        return Ok(None);
    }
    let found = log.read_after(seq - 1, 1, WAIT).await?;
    let first = found.first().ok_or(Break::Silent { wanted: seq })?;
    let gone = Break::Trimmed {
        first: head.first,
        offset: seq,
    };
    let envelope = Envelope::parse(&first.bytes).map_err(|_| Break::NoEvent { seq })?;
    let id = match first.seq - seq {
        0 => envelope.id,
        1 => envelope.prev.ok_or(Break::NoEvent { seq })?, // trimmed up to here, and known by the event after it
        _ => {
            let why = format!("{gone}; say with start-at where it begins");
            return Err(Trouble::Again(why));
        }
    };
    Ok(Some((Position { seq, id }, envelope.epoch)))
}

/// Begins there: from now on the consumer is never taken back to before it.
pub(super) fn begin(tx: &Tx<'_>, consumer: &Consumer, at: Option<Place>) -> rusqlite::Result<()> {
    let (name, stream) = (consumer.name, consumer.stream);
    let sql = "insert or replace into relay_start (consumer, stream, seq, event_id, epoch) values (?1, ?2, ?3, ?4, ?5)";
    let (seq, id) = (at.map_or(0, |(at, _)| at.seq), at.map(|(at, _)| at.id));
    let epoch = at.map_or(0, |(_, epoch)| epoch);
    tx.execute(sql, (name, stream, seq, id, epoch))?;
    go_back(tx, name)
}

/// Where its program says, at its first look at the stream.
pub(super) fn begin_first(
    tx: &Tx<'_>,
    consumer: &Consumer,
    at: Option<Place>,
) -> Result<(), ApplyError> {
    if position::load(tx, consumer.name)?.is_some() {
        let moved = "the offset has moved meanwhile".to_owned();
        return Err(ApplyError::Transient(moved));
    }
    let place = at.map_or(0, |(at, _)| at.seq);
    let answered = answered::first_answered(tx, consumer.name)?;
    if consumer.start == Start::Now && answered.is_some_and(|first| first <= place) {
        let imported = "answers have been imported meanwhile".to_owned();
        return Err(ApplyError::Transient(imported));
    }
    begin(tx, consumer, at)?;
    let at = at.map(|(at, _)| at);
    let detail = format!("{}: after {}", consumer.name, words(at));
    Ok(database::audit(tx, tx.now_ms(), "consumer began", &detail)?)
}

/// Goes back to where the consumer began.
pub(super) fn go_back(rows: &Connection, consumer: &str) -> rusqlite::Result<()> {
    let sql = "insert or ignore into relay_start (consumer, stream, seq, epoch)
               select consumer, stream, 0, 0 from relay_offset where consumer = ?1";
    rows.execute(sql, [consumer])?;
    rows.execute("delete from relay_offset where consumer = ?1", [consumer])?;
    let sql = "insert into relay_offset (consumer, stream, seq, event_id, epoch)
               select consumer, stream, seq, event_id, epoch from relay_start where consumer = ?1 and seq > 0";
    rows.execute(sql, [consumer])?;
    Ok(())
}

/// Whether it is decided where the consumer begins, and then where: `None` is the beginning.
pub(super) fn begun(
    rows: &Connection,
    consumer: &str,
) -> rusqlite::Result<Option<Option<Position>>> {
    let sql = "select seq, event_id from relay_start where consumer = ?1";
    rows.prepare_cached(sql)?
        .query_row([consumer], |row| {
            let (seq, id): (u64, Option<_>) = (row.get(0)?, row.get(1)?);
            Ok(id.map(|id| Position { seq, id }))
        })
        .optional()
}

/// An operator's start, whatever was applied before.
fn restart(
    tx: &Tx<'_>,
    consumer: &Consumer,
    to: Option<Place>,
) -> Result<Option<Position>, ApplyError> {
    let (name, from) = (consumer.name, position::load(tx, consumer.name)?);
    begin(tx, consumer, to)?;
    let to = to.map(|(at, _)| at);
    let after = to.map_or(0, |at| at.seq);
    dead_letter::read_again(tx, name, after)?;
    answered::pass_answered(tx, name, after)?;
    let detail = format!("{name}: from {} to {}", words(from), words(to));
    database::audit(tx, tx.now_ms(), "consumer started elsewhere", &detail)?;
    Ok(to)
}

/// `1042 (0199…)`, or `the beginning`.
pub(super) fn words(at: Option<Position>) -> String {
    at.map_or("the beginning".to_owned(), |Position { seq, id }| {
        format!("{seq} ({id})")
    })
}

fn fatal(trouble: Trouble) -> Fatal {
    Fatal(trouble.to_string())
}

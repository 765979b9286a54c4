//! Where a consumer is, and whether the stream continues there.

use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::ApplyError;
use crate::event::Envelope;
use crate::log::{Head, Position, Record};

/// Why the stream does not continue at a position.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Break {
    #[error("the stream does not exist; its owner makes it")]
    Missing,
    /// Its owner is filling it again, so wait.
    #[error(
        "the stream ends at {stream}, before the offset {offset}; waiting until its owner has filled it again"
    )]
    Short { stream: u64, offset: u64 },
    #[error("at {} the stream does not hold {}, which was applied: this is another log", .0.seq, .0.id)]
    Forked(Position),
    #[error("the stream begins at {first}, after the offset {offset}: events are gone")]
    Trimmed { first: u64, offset: u64 },
    /// The replica that answered may be behind.
    #[error("event {wanted} was due, {got} came; reading again")]
    Missed { wanted: u64, got: u64 },
    /// The same, and nothing came.
    #[error("event {wanted} is in the stream, but did not come; reading again")]
    Silent { wanted: u64 },
    #[error("the message at {seq} is no event of the stream's owner; nothing more is applied")]
    NoEvent { seq: u64 },
}

/// At each connect and each look: the stream must hold, at the offset itself, the event that was applied (rule K2), and the
/// next event must follow it. `found` is what a read from the offset on returned, two events at most. `head` is checked
/// first, because a replica that is behind may have answered the read.
pub(super) fn check_offset(position: Position, head: &Head, found: &[Record]) -> Result<(), Break> {
    let (offset, stream, first) = (position.seq, head.seq, head.first);
    if stream < offset {
        return Err(Break::Short { stream, offset });
    }
    if first > offset + 1 {
        return Err(Break::Trimmed { first, offset });
    }
    match found {
        [at, next @ ..] if at.seq == offset => match at.event_id() {
            Some(id) if id == position.id => {
                (next.first()).map_or(Ok(()), |next| follows(Some(position), next).map(drop))
            }
            _ => Err(Break::Forked(position)),
        },
        // Trimmed exactly up to the offset: the next event names the one it follows.
        [next, ..] if first == offset + 1 => follows(Some(position), next).map(drop),
        [] => Err(Break::Silent { wanted: offset }),
        [other, ..] => Err(Break::Missed {
            wanted: offset,
            got: other.seq,
        }),
    }
}

/// Each later event has the next number and names the event before it (rule K3). Returns the new position.
pub(super) fn follows(position: Option<Position>, record: &Record) -> Result<Position, Break> {
    let (seq, wanted) = (record.seq, position.map_or(1, |position| position.seq + 1));
    if seq != wanted {
        return Err(Break::Missed { wanted, got: seq });
    }
    let envelope = Envelope::parse(&record.bytes).ok();
    let envelope = envelope.filter(|envelope| envelope.sequence == seq);
    let envelope = envelope.ok_or(Break::NoEvent { seq })?;
    match position {
        Some(position) if envelope.prev != Some(position.id) => Err(Break::Forked(position)),
        _ => Ok(Position {
            seq,
            id: envelope.id,
        }),
    }
}

// The statements.

/// A row that begins with a sequence and an event id.
pub(super) fn of_row(row: &Row<'_>) -> rusqlite::Result<Position> {
    Ok(Position {
        seq: row.get(0)?,
        id: row.get(1)?,
    })
}

pub(super) fn load(rows: &Connection, consumer: &str) -> rusqlite::Result<Option<Position>> {
    rows.prepare_cached("select seq, event_id from relay_offset where consumer = ?1")?
        .query_row([consumer], of_row)
        .optional()
}

/// Another transaction may have moved the offset since it was read: then this one must not.
pub(super) fn check(
    rows: &Connection,
    consumer: &str,
    still: Option<Position>,
) -> Result<(), ApplyError> {
    match load(rows, consumer)? == still {
        true => Ok(()),
        false => Err(ApplyError::Transient(
            "the offset has moved meanwhile; reading again".to_owned(),
        )),
    }
}

/// Moves to another event of the stream. The epoch is informative and stays until the next event brings its own.
pub(super) fn move_to(rows: &Connection, consumer: &str, to: Position) -> rusqlite::Result<()> {
    let sql = "update relay_offset set seq = ?2, event_id = ?3 where consumer = ?1";
    rows.execute(sql, (consumer, to.seq, to.id))?;
    Ok(())
}

pub(super) fn store(
    rows: &Connection,
    consumer: &str,
    stream: &str,
    position: Position,
    epoch: u32,
) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into relay_offset (consumer, stream, seq, event_id, epoch) values (?1, ?2, ?3, ?4, ?5)
         on conflict (consumer) do update set stream = ?2, seq = ?3, event_id = ?4, epoch = ?5",
    )?
    .execute((consumer, stream, position.seq, position.id, epoch))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::environment::System;
    use crate::event::EventId;
    use crate::log::Origin;

    fn record(seq: u64, id: EventId, prev: Option<EventId>) -> Record {
        let prev = prev.map_or(String::new(), |prev| format!(r#""prev":"{prev}","#));
        let json = format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/users","type":"users.created.v1","subject":"a","time":"",
               "sequence":"{seq:020}",{prev}"epoch":1,"datacontenttype":"","dataschema":"","data":{{}}}}"#
        );
        Record {
            seq,
            subject: "users.created".to_owned(),
            bytes: json.into(),
        }
    }

    fn head(first: u64, seq: u64) -> Head {
        let origin = Origin {
            database_id: Uuid::nil(),
            epoch: 1,
        };
        Head {
            seq,
            first,
            holes: 0,
            incarnation: String::new(),
            origin,
            closed_by: None,
        }
    }

    #[test]
    fn the_event_at_the_offset_must_be_the_one_applied() {
        let (ours, other) = (EventId::draw(&System), EventId::draw(&System));
        let at = Position { seq: 5, id: ours };
        let check = |found: &[Record], head: Head| check_offset(at, &head, found);

        assert_eq!(check(&[record(5, ours, None)], head(1, 9)), Ok(()));
        let forked = check(&[record(5, other, None)], head(1, 9));
        assert!(matches!(
            forked,
            Err(Break::Forked(Position { seq: 5, .. }))
        ));
        assert_eq!(check(&[], head(1, 5)), Err(Break::Silent { wanted: 5 }));
        // A replica that is behind may still hold events that its leader has removed.
        for found in [&[][..], &[record(5, ours, None)]] {
            let (stream, offset) = (3, 5);
            let short = Err(Break::Short { stream, offset });
            assert_eq!(check(found, head(1, 3)), short);
            let (first, offset) = (8, 5);
            let trimmed = Err(Break::Trimmed { first, offset });
            assert_eq!(check(found, head(8, 9)), trimmed);
        }
    }

    #[test]
    fn the_event_after_the_offset_must_follow_it() {
        let (ours, other) = (EventId::draw(&System), EventId::draw(&System));
        let at = Position { seq: 5, id: ours };
        let check = |prev: EventId| {
            let found = [record(5, ours, None), record(6, other, Some(prev))];
            check_offset(at, &head(1, 9), &found)
        };
        assert_eq!(check(ours), Ok(()));
        assert!(matches!(
            check(other),
            Err(Break::Forked(Position { seq: 5, .. }))
        ));
    }

    #[test]
    fn a_wrong_first_event_is_a_trim_only_if_the_stream_begins_later() {
        let (ours, other) = (EventId::draw(&System), EventId::draw(&System));
        let at = Position { seq: 5, id: ours };
        let check = |first: Record, head: Head| check_offset(at, &head, &[first]);

        let skipped = check(record(8, other, None), head(1, 9));
        assert_eq!(skipped, Err(Break::Missed { wanted: 5, got: 8 }));
        let trimmed = check(record(8, other, None), head(8, 9));
        assert_eq!(
            trimmed,
            Err(Break::Trimmed {
                first: 8,
                offset: 5
            })
        );
        // Trimmed up to the offset: `prev` decides.
        assert_eq!(check(record(6, other, Some(ours)), head(6, 9)), Ok(()));
        let forked = check(record(6, other, Some(EventId::draw(&System))), head(6, 9));
        assert!(matches!(
            forked,
            Err(Break::Forked(Position { seq: 5, .. }))
        ));
    }

    #[test]
    fn each_event_is_the_next_number_and_names_the_one_before() {
        let (first, second) = (EventId::draw(&System), EventId::draw(&System));
        let at_1 = follows(None, &record(1, first, None)).unwrap();
        assert_eq!(at_1, Position { seq: 1, id: first });
        assert!(follows(Some(at_1), &record(2, second, Some(first))).is_ok());
        let forked = follows(Some(at_1), &record(2, second, Some(second)));
        assert!(matches!(forked, Err(Break::Forked(_))));
        let gap = follows(Some(at_1), &record(3, second, Some(first)));
        assert_eq!(gap, Err(Break::Missed { wanted: 2, got: 3 }));
        let late = follows(None, &record(2, second, Some(first)));
        assert_eq!(late, Err(Break::Missed { wanted: 1, got: 2 }));
    }
}

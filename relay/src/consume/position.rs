//! The position: the last place applied and the event that was there. Does what comes next really follow it?

use std::fmt;

use rusqlite::{Connection, OptionalExtension};

use crate::event::{Envelope, EventId};
use crate::log::{Head, Position, Record};

/// Why the stream does not continue at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Break {
    /// There is none.
    Missing,
    /// It does not reach the position (any more): its owner fills it again, so wait.
    Short { stream: u64, offset: u64 },
    /// It holds another event at the position: this is not the log that was applied.
    Forked {
        seq: u64,
        theirs: String,
        ours: EventId,
    },
    /// Its oldest kept event lies beyond the next one.
    Trimmed { first: u64, offset: u64 },
    /// Another number than the next one came, although the next one is kept: a copy of the stream may be behind.
    Missed { wanted: u64, got: u64 },
    /// The next event is in the stream, but nothing came: a copy of the stream may be behind.
    Silent { wanted: u64 },
    /// What lies there is no event.
    NoEvent { seq: u64 },
}

/// Right after connecting, with nothing applied yet: the stream must be kept from its beginning.
pub(super) fn check_beginning(head: &Head) -> Result<(), Break> {
    let first = head.first;
    match first {
        0 | 1 => Ok(()),
        _ => Err(Break::Trimmed { first, offset: 0 }),
    }
}

/// At each connect and each look: the stream must hold, at the offset itself, the event that was applied (rule K2), and the
/// one after it must follow. `found` is what came when the stream was read from the offset on, two events at most. What
/// `head` says comes first: what came may be from a copy of the stream that is behind.
pub(super) fn check_offset(position: Position, head: &Head, found: &[Record]) -> Result<(), Break> {
    let (offset, stream, first) = (position.seq, head.seq, head.first);
    if stream < offset {
        return Err(Break::Short { stream, offset });
    }
    if first > offset + 1 {
        return Err(Break::Trimmed { first, offset });
    }
    // Trimmed exactly up to the offset, the next event itself says what it follows.
    let (at, next) = match found {
        [at, next @ ..] if at.seq == offset => (Some(at), next.first()),
        [next, ..] if first == offset + 1 => (None, Some(next)),
        [] => return Err(Break::Silent { wanted: offset }),
        [other, ..] => {
            let (wanted, got) = (offset, other.seq);
            return Err(Break::Missed { wanted, got });
        }
    };
    match at.map(Record::event_id) {
        Some(theirs) if theirs != Some(position.id) => Err(Break::forked(position, theirs)),
        _ => next.map_or(Ok(()), |next| follows(Some(position), next).map(drop)),
    }
}

/// Afterwards: each event is the next number and names the event before it (rule K3). Answers the new position.
pub(super) fn follows(position: Option<Position>, record: &Record) -> Result<Position, Break> {
    let seq = record.seq;
    let wanted = position.map_or(1, |position| position.seq + 1);
    if seq != wanted {
        return Err(Break::Missed { wanted, got: seq });
    }
    let envelope = Envelope::parse(&record.bytes).map_err(|_| Break::NoEvent { seq })?;
    if envelope.sequence != seq {
        return Err(Break::NoEvent { seq });
    }
    match position {
        Some(position) if envelope.prev != Some(position.id) => {
            Err(Break::forked(position, envelope.prev))
        }
        _ => Ok(Position {
            seq,
            id: envelope.id,
        }),
    }
}

impl Break {
    fn forked(position: Position, theirs: Option<EventId>) -> Self {
        Self::Forked {
            seq: position.seq,
            theirs: theirs.map_or("no event".to_owned(), |id| id.to_string()),
            ours: position.id,
        }
    }
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => write!(f, "the stream does not exist; its owner makes it"),
            Self::Short { stream, offset } => write!(
                f,
                "the stream ends at {stream}, before the offset {offset}; waiting until its owner has filled it again"
            ),
            Self::Forked { seq, theirs, ours } => write!(
                f,
                "at {seq} the stream has {theirs}, but {ours} was applied: this is another log"
            ),
            Self::Trimmed { first, offset } => write!(
                f,
                "the stream begins at {first}, after the offset {offset}: events are gone"
            ),
            Self::Missed { wanted, got } => {
                write!(f, "event {wanted} was due, {got} came; reading again")
            }
            Self::Silent { wanted } => write!(
                f,
                "event {wanted} is in the stream, but did not come; reading again"
            ),
            Self::NoEvent { seq } => write!(
                f,
                "what lies at {seq} is no event of the stream's owner; nothing more is applied"
            ),
        }
    }
}

// The statements.

pub(super) fn load(rows: &Connection, consumer: &str) -> rusqlite::Result<Option<Position>> {
    rows.prepare_cached("select seq, event_id from relay_offset where consumer = ?1")?
        .query_row([consumer], |row| {
            Ok(Position {
                seq: row.get(0)?,
                id: row.get(1)?,
            })
        })
        .optional()
}

/// To another event of the stream; the epoch, which is for people, stays until the next event says its own.
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
        assert!(matches!(forked, Err(Break::Forked { seq: 5, .. })));
        assert_eq!(check(&[], head(1, 5)), Err(Break::Silent { wanted: 5 }));
        // A copy of the stream that is behind may still hold what its leader says is gone.
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
        assert!(matches!(check(other), Err(Break::Forked { seq: 5, .. })));
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
        assert!(matches!(forked, Err(Break::Forked { seq: 5, .. })));
    }

    #[test]
    fn each_event_is_the_next_number_and_names_the_one_before() {
        let (first, second) = (EventId::draw(&System), EventId::draw(&System));
        let at_1 = follows(None, &record(1, first, None)).unwrap();
        assert_eq!(at_1, Position { seq: 1, id: first });
        assert!(follows(Some(at_1), &record(2, second, Some(first))).is_ok());
        let forked = follows(Some(at_1), &record(2, second, Some(second)));
        assert!(matches!(forked, Err(Break::Forked { .. })));
        let gap = follows(Some(at_1), &record(3, second, Some(first)));
        assert_eq!(gap, Err(Break::Missed { wanted: 2, got: 3 }));
        let late = follows(None, &record(2, second, Some(first)));
        assert_eq!(late, Err(Break::Missed { wanted: 1, got: 2 }));
    }
}

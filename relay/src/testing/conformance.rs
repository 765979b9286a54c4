//! The rules of every log, as one suite: the outbox, NATS and the in-memory log all run it, and so can yours.
//!
//! Each rule has three sessions on one fresh, empty log: a writer, a rival that may write as well, and a reader.

use std::fmt::Debug;
use std::time::Duration;

use crate::environment::System;
use crate::error::LogError;
use crate::event::{Envelope, EventId};
use crate::log::{AppendLog, Head, Log, Record, Stream};

/// Three sessions on the same log. It begins at sequence 1 and is empty.
pub struct Logs<W, R> {
    /// Appends.
    pub writer: W,
    /// Appends too, as a second process would.
    pub rival: W,
    /// Reads.
    pub reader: R,
}

/// Long enough for anything that should happen; waits end as soon as it does.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to see that nothing happens.
const A_MOMENT: Duration = Duration::from_millis(50);

/// The incarnation of a log that takes a deleted one's place.
const ANOTHER: &str = "00c0ffee";

type Kept = Result<(), String>;

/// Runs each rule on a fresh log of its own. Answers the number of rules, or which one the log breaks first, and how.
macro_rules! run {
    ($fresh:ident: $($rule:ident),+ $(,)?) => {{
        let mut count = 0;
        $(
            let kept = $fresh().await.$rule().await;
            kept.map_err(|how| format!("{}: {how}", stringify!($rule).replace('_', " ")))?;
            count += 1;
        )+
        Ok(count)
    }};
}

/// The rules of every log. Answers their number, or which one the log breaks first, and how.
///
/// # Errors
///
/// The rule that is broken, and what was seen instead.
pub async fn suite<W, R>(fresh: impl AsyncFn() -> Logs<W, R>) -> Result<usize, String>
where
    W: AppendLog,
    R: Log,
{
    run! { fresh:
        an_empty_log_ends_at_zero,
        what_is_appended_is_read_byte_for_byte_at_the_next_sequences,
        reading_begins_right_after_the_sequence_asked_for,
        reading_takes_nothing_away,
        an_append_anywhere_but_the_end_is_refused,
        records_that_are_not_the_next_ones_are_refused,
        an_append_to_another_incarnation_is_not_taken,
        of_two_writers_at_one_sequence_exactly_one_wins,
        a_large_append_arrives_whole_and_in_order,
        reading_at_the_end_waits_and_then_answers_nothing,
        a_waiting_reader_is_woken_by_an_append,
    }
}

/// The further rules of a log that can be created, trimmed and deleted. Answers as [`suite`] does.
///
/// # Errors
///
/// As [`suite`].
pub async fn stream_suite<W, R>(fresh: impl AsyncFn() -> Logs<W, R>) -> Result<usize, String>
where
    W: Stream,
    R: Log,
{
    run! { fresh:
        a_deleted_log_is_gone,
        a_closed_log_takes_no_append_and_is_read_as_before,
        a_log_is_created_at_the_sequence_and_with_the_incarnation_asked_for,
        what_was_meant_for_a_deleted_log_is_not_taken_by_the_next,
        trimming_removes_the_events_before_and_no_other,
        trimming_never_takes_the_last_event,
        a_trimmed_log_is_read_from_its_first_event,
    }
}

impl<W: AppendLog, R: Log> Logs<W, R> {
    async fn an_empty_log_ends_at_zero(mut self) -> Kept {
        expect(0, head(&mut self.writer).await?.seq, "the head")?;
        expect(0, head(&mut self.reader).await?.seq, "the reader's head")
    }

    async fn what_is_appended_is_read_byte_for_byte_at_the_next_sequences(mut self) -> Kept {
        let events = chain(0, None, 5);
        let empty = head(&mut self.writer).await?;
        let first = ok(self.writer.append_after(&empty, &events[..2]).await)?;
        expect(2, first.seq, "the head after two")?;
        let second = ok(self.writer.append_after(&first, &events[2..]).await)?;
        expect(5, second.seq, "the head after five")?;
        expect(5, head(&mut self.reader).await?.seq, "the reader's head")?;
        expect(events, read(&mut self.reader, 0, 5).await?, "what is read")
    }

    async fn reading_begins_right_after_the_sequence_asked_for(mut self) -> Kept {
        let events = filled(&mut self.writer, 5).await?;
        expect(
            events[3..].to_vec(),
            read(&mut self.reader, 3, 2).await?,
            "after 3",
        )?;
        expect(
            events[1..2].to_vec(),
            read(&mut self.reader, 1, 1).await?,
            "one after 1",
        )?;
        expect(
            events[..3].to_vec(),
            read(&mut self.reader, 0, 3).await?,
            "three after 0",
        )
    }

    async fn reading_takes_nothing_away(mut self) -> Kept {
        let events = filled(&mut self.writer, 3).await?;
        expect(
            events.clone(),
            read(&mut self.reader, 0, 3).await?,
            "the first time",
        )?;
        expect(
            events,
            read(&mut self.reader, 0, 3).await?,
            "the second time",
        )
    }

    async fn an_append_anywhere_but_the_end_is_refused(mut self) -> Kept {
        let empty = head(&mut self.writer).await?;
        let events = filled(&mut self.writer, 3).await?;
        let stale = self.rival.append_after(&empty, &chain(0, None, 1)).await;
        refused(stale, "an append at a sequence already taken")?;
        let beyond = Head { seq: 7, ..empty };
        let ahead = self.writer.append_after(&beyond, &chain(7, None, 1)).await;
        refused(ahead, "an append beyond the end")?;
        expect(3, head(&mut self.reader).await?.seq, "the head afterwards")?;
        expect(
            events,
            read(&mut self.reader, 0, 3).await?,
            "the events afterwards",
        )
    }

    async fn records_that_are_not_the_next_ones_are_refused(mut self) -> Kept {
        let empty = head(&mut self.writer).await?;
        let late = self.writer.append_after(&empty, &chain(4, None, 2)).await;
        refused(late, "an append of 5 and 6 after 0")?;
        let mut holed = chain(0, None, 3);
        holed.remove(1);
        let holed = self.rival.append_after(&empty, &holed).await;
        refused(holed, "an append of 1 and 3 after 0")?;
        expect(0, head(&mut self.reader).await?.seq, "the head afterwards")
    }

    async fn an_append_to_another_incarnation_is_not_taken(mut self) -> Kept {
        let stranger = Head {
            incarnation: "0000000000000000".to_owned(),
            ..head(&mut self.writer).await?
        };
        let taken = self.rival.append_after(&stranger, &chain(0, None, 1)).await;
        if taken.is_ok() {
            return Err("it was taken".to_owned());
        }
        expect(0, head(&mut self.reader).await?.seq, "the head afterwards")
    }

    async fn of_two_writers_at_one_sequence_exactly_one_wins(mut self) -> Kept {
        let (ours, theirs) = (chain(0, None, 20), chain(0, None, 20));
        let end = head(&mut self.writer).await?;
        head(&mut self.rival).await?;
        let (one, other) = tokio::join!(
            self.writer.append_after(&end, &ours),
            self.rival.append_after(&end, &theirs)
        );
        let winner = match (one, other) {
            (Ok(_), Err(_)) => ours,
            (Err(_), Ok(_)) => theirs,
            (one, other) => return Err(format!("{one:?} and {other:?}")),
        };
        expect(
            winner,
            read(&mut self.reader, 0, 20).await?,
            "the winner's events",
        )?;
        expect(20, head(&mut self.reader).await?.seq, "the head")
    }

    async fn a_large_append_arrives_whole_and_in_order(mut self) -> Kept {
        let events = filled(&mut self.writer, 2500).await?;
        expect(2500, head(&mut self.reader).await?.seq, "the head")?;
        let found = read(&mut self.reader, 0, 2500).await?;
        match found == events {
            true => Ok(()),
            false => Err("other events are read than were appended".to_owned()),
        }
    }

    async fn reading_at_the_end_waits_and_then_answers_nothing(mut self) -> Kept {
        filled(&mut self.writer, 2).await?;
        let found = ok(self.reader.read_after(2, 10, A_MOMENT).await)?;
        expect(Vec::new(), found, "what is read at the end")
    }

    async fn a_waiting_reader_is_woken_by_an_append(mut self) -> Kept {
        let Logs { writer, reader, .. } = &mut self;
        let event = chain(0, None, 1);
        let end = head(writer).await?;
        let append_later = async {
            tokio::time::sleep(A_MOMENT).await; // so that the reader waits already
            writer.append_after(&end, &event).await
        };
        let (found, appended) = tokio::join!(reader.read_after(0, 10, SOON), append_later);
        ok(appended)?;
        expect(event, ok(found)?, "what the waiting reader got")
    }
}

impl<W: Stream, R: Log> Logs<W, R> {
    async fn a_deleted_log_is_gone(mut self) -> Kept {
        filled(&mut self.writer, 3).await?;
        let incarnation = head(&mut self.writer).await?.incarnation;
        if self.writer.delete(ANOTHER).await.is_ok() {
            return Err("another incarnation was meant".to_owned());
        }
        ok(self.writer.delete(&incarnation).await)?;
        expect(None, ok(self.writer.head().await)?, "the head")?;
        expect(None, ok(self.reader.head().await)?, "the reader's head")?;
        ok(self.rival.delete(&incarnation).await) // what is not there is no error
    }

    async fn a_closed_log_takes_no_append_and_is_read_as_before(mut self) -> Kept {
        let events = filled(&mut self.writer, 3).await?;
        let open = head(&mut self.rival).await?;
        if self.writer.close(7, ANOTHER).await.is_ok() {
            return Err("another incarnation was meant".to_owned());
        }
        let closed = ok(self.writer.close(7, &open.incarnation).await)?;
        let wanted = Head {
            closed_by: Some(7),
            ..open.clone()
        };
        expect(wanted.clone(), closed, "the closed log")?;
        let last = events.last().and_then(Record::event_id);
        let late = self.rival.append_after(&open, &chain(3, last, 1)).await;
        if late.is_ok() {
            return Err("it took an append".to_owned());
        }
        expect(wanted, head(&mut self.reader).await?, "the head afterwards")?;
        expect(events, read(&mut self.reader, 0, 3).await?, "what is read")?;
        ok(self.writer.delete(&open.incarnation).await)
    }

    async fn a_log_is_created_at_the_sequence_and_with_the_incarnation_asked_for(mut self) -> Kept {
        let created = recreated(&mut self.writer, 5).await?;
        expect(
            (4, 5, 0),
            (created.seq, created.first, created.holes),
            "the sequences",
        )?;
        expect(ANOTHER, &created.incarnation, "the incarnation")?;
        expect(created.clone(), head(&mut self.writer).await?, "the head")?;
        expect(
            created.clone(),
            head(&mut self.reader).await?,
            "the reader's",
        )?;
        let events = chain(4, None, 2);
        let appended = ok(self.writer.append_after(&created, &events).await)?;
        expect(6, appended.seq, "the head after two")?;
        expect(events, read(&mut self.reader, 4, 2).await?, "what is read")
    }

    async fn what_was_meant_for_a_deleted_log_is_not_taken_by_the_next(mut self) -> Kept {
        let old = head(&mut self.rival).await?;
        let new = recreated(&mut self.writer, 1).await?;
        let late = self.rival.append_after(&old, &chain(0, None, 1)).await;
        if late.is_ok() {
            return Err("it was taken".to_owned());
        }
        expect(new, head(&mut self.reader).await?, "the head afterwards")
    }

    async fn trimming_removes_the_events_before_and_no_other(mut self) -> Kept {
        filled(&mut self.writer, 5).await?;
        let full = head(&mut self.writer).await?;
        for nothing in [0, 1] {
            ok(self.writer.trim(nothing).await)?;
            expect(full.clone(), head(&mut self.writer).await?, "the full log")?;
        }
        let trimmed = Head { first: 3, ..full };
        for again in [3, 2] {
            ok(self.writer.trim(again).await)?;
            expect(trimmed.clone(), head(&mut self.writer).await?, "the head")?;
            expect(
                trimmed.clone(),
                head(&mut self.reader).await?,
                "the reader's",
            )?;
        }
        Ok(())
    }

    async fn trimming_never_takes_the_last_event(mut self) -> Kept {
        let empty = head(&mut self.writer).await?;
        ok(self.writer.trim(9).await)?;
        expect(empty, head(&mut self.writer).await?, "the empty log")?;
        let events = filled(&mut self.writer, 5).await?;
        for beyond in [6, 9] {
            ok(self.writer.trim(beyond).await)?;
            let head = head(&mut self.writer).await?;
            expect(
                (5, 5, 0),
                (head.seq, head.first, head.holes),
                "the sequences",
            )?;
        }
        let last = read(&mut self.writer, 4, 1).await?;
        expect(events[4..].to_vec(), last, "the last event")?;
        let end = head(&mut self.writer).await?;
        let next = ok(self.writer.append_after(&end, &chain(5, None, 1)).await)?;
        expect(6, next.seq, "the head after one more")
    }

    async fn a_trimmed_log_is_read_from_its_first_event(mut self) -> Kept {
        let events = filled(&mut self.writer, 5).await?;
        ok(self.writer.trim(3).await)?;
        for after in [0, 2] {
            let kept = read(&mut self.reader, after, 3).await?;
            expect(events[2..].to_vec(), kept, "what the reader gets")?;
            let kept = read(&mut self.writer, after, 3).await?;
            expect(events[2..].to_vec(), kept, "what the writer gets")?;
        }
        Ok(())
    }
}

/// Deletes the log and creates it again, with `ANOTHER` incarnation.
async fn recreated(writer: &mut impl Stream, first: u64) -> Result<Head, String> {
    let Head {
        origin,
        incarnation,
        ..
    } = head(writer).await?;
    ok(writer.delete(&incarnation).await)?;
    ok(writer.create(first, &origin, ANOTHER).await)
}

/// `count` events after `after`, each naming the one before it.
pub fn chain(after: u64, prev: Option<EventId>, count: u64) -> Vec<Record> {
    let mut prev = prev;
    let data = serde_json::value::RawValue::from_string("{\"version\":1}".to_owned());
    let data = data.expect("this is JSON");
    let events = (after + 1..=after + count).map(|sequence| {
        let id = EventId::draw(&System);
        let envelope = Envelope {
            specversion: "1.0".into(),
            id,
            source: "/users".into(),
            event_type: "users.created.v1".into(),
            subject: "0191d1a0-0000-7000-8000-000000000000".into(),
            time: "2026-11-22T00:00:00Z".into(),
            sequence,
            prev: prev.replace(id),
            epoch: 1,
            datacontenttype: "application/json".into(),
            dataschema: "urn:freehold:schema:users.created.v1".into(),
            traceparent: None,
            requestid: None,
            cause: None,
            sealedkey: None,
            sealed: None,
            data: &data,
        };
        Record {
            seq: sequence,
            subject: "users.created".to_owned(),
            bytes: envelope.to_bytes().into(),
        }
    });
    events.collect()
}

async fn filled(writer: &mut impl AppendLog, count: u64) -> Result<Vec<Record>, String> {
    let events = chain(0, None, count);
    let end = head(writer).await?;
    ok(writer.append_after(&end, &events).await)?;
    Ok(events)
}

/// Reads until `count` events are there: one read may hand out fewer.
async fn read(log: &mut impl Log, after: u64, count: usize) -> Result<Vec<Record>, String> {
    let mut found: Vec<Record> = Vec::new();
    while found.len() < count {
        let at = found.last().map_or(after, |record| record.seq);
        let more = ok(log.read_after(at, count - found.len(), SOON).await)?;
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    Ok(found)
}

async fn head(log: &mut impl Log) -> Result<Head, String> {
    ok(log.head().await)?.ok_or_else(|| "there is no log".to_owned())
}

fn ok<T>(result: Result<T, LogError>) -> Result<T, String> {
    result.map_err(|error| crate::error::chain(&error))
}

fn refused(result: Result<Head, LogError>, what: &str) -> Kept {
    match result {
        Err(LogError::Refused(_)) => Ok(()),
        other => Err(format!("{what} ended as {other:?}, not as a refusal")),
    }
}

fn expect<T: PartialEq + Debug>(wanted: T, found: T, what: &str) -> Kept {
    match wanted == found {
        true => Ok(()),
        false => Err(format!("{what}: wanted {wanted:?}, found {found:?}")),
    }
}

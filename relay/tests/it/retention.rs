//! Retention: what may go, what never goes, and in which order; whom it waits for, and which clock it believes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use relay::environment::System;
use relay::error::LogError;
use relay::event::EventId;
use relay::log::{Holds, Lines, Position, Producer};
use relay::publish::{Answers, Retention, Step};
use relay::testing::memory::MemoryBroker;
use relay::{Database, Options, Relay};

use crate::support::{
    Clock, Front, Mortal, Scratch, audited, follow, kill, meet, options, outbox_rows, report,
    settle, share, store_and_emit, totals, weigh_many, weighed,
};

fn newest(max_events: u64) -> Retention {
    Retention {
        max_events: Some(max_events),
        ..Retention::default()
    }
}

/// The oldest place that the outbox keeps, and the stream.
async fn firsts(db: &Database, broker: &MemoryBroker) -> (u64, u64) {
    (outbox_rows(db).await[0].seq, broker.records()[0].seq)
}

async fn keep(db: &Database, broker: &MemoryBroker, retention: Retention) {
    settle(&mut Relay::new(db, broker.clone()).keep(retention)).await;
    let (outbox, stream) = (outbox_rows(db).await, broker.records());
    assert_eq!(outbox.last(), stream.last(), "the head stays");
    assert!(
        outbox.ends_with(&stream),
        "the outbox can always fill the stream"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_removed_unless_the_operator_asks() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 20).await;
    keep(&db, &broker, Retention::default()).await;
    assert_eq!(firsts(&db, &broker).await, (1, 1));
    let readers_only = Retention {
        hold_readers: Duration::ZERO,
        ..Retention::default()
    };
    keep(&db, &broker, readers_only).await;
    assert_eq!(firsts(&db, &broker).await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn so_many_of_the_newest_events_are_kept_and_never_none() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 20).await;
    for (most, first) in [(30, 1), (20, 1), (5, 16), (1, 20), (0, 20)] {
        keep(&db, &broker, newest(most)).await;
        assert_eq!(firsts(&db, &broker).await, (first, first), "at most {most}");
    }
    let more = weigh_many(&db, 2).await;
    keep(&db, &broker, newest(2)).await;
    assert_eq!(outbox_rows(&db).await, more, "and it goes on from there");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_published_stays() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 6).await;
    meet(&db, &broker).await;
    weigh_many(&db, 6).await;
    let mut relay = Relay::new(&db, broker.clone()).keep(newest(2));
    assert_eq!(relay.step().await.unwrap(), Step::Connected);
    let mut head = 12;
    while firsts(&db, &broker).await == (1, 1) {
        assert!(matches!(relay.step().await.unwrap(), Step::Published(_)));
        let published = broker.records().last().unwrap().seq;
        assert_eq!(published, head, "rows wait only for a step");
        head = weigh_many(&db, 6).await.last().unwrap().seq;
    }
    let published = head - 6;
    let kept = firsts(&db, &broker).await;
    assert_eq!(kept, (published - 6, published - 6), "what the stream had");
}

/// A producer whose clock the test moves, in hours: the one that stamps events and the one that measures.
struct Timed {
    _scratch: Scratch,
    broker: MemoryBroker,
    clock: Arc<Clock>,
    db: Database,
}

const HOUR: i64 = 3_600;
const YEAR: i64 = 365 * 24 * HOUR;

impl Timed {
    async fn start() -> Self {
        let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
        let clock = Arc::new(Clock::at(50 * YEAR));
        let options = Options {
            environment: clock.clone(),
            ..options()
        };
        let db = Database::open(scratch.path("parcels.db"), options).await;
        Self {
            _scratch: scratch,
            broker,
            clock,
            db: db.unwrap(),
        }
    }

    /// So many events, an hour apart.
    async fn hourly(&self, count: u64) {
        for _ in 0..count {
            weigh_many(&self.db, 1).await;
            self.clock.tick(HOUR);
        }
    }

    /// One event that is emitted while the clock is wrong by so much.
    async fn stray(&self, seconds: i64) {
        self.clock.tick(seconds);
        weigh_many(&self.db, 1).await;
        self.clock.tick(-seconds);
    }

    /// The oldest event kept, after a process that starts now has removed what is older than so many hours.
    async fn first_after(&self, hours: u64) -> u64 {
        keep(&self.db, &self.broker, older_than(hours)).await;
        let (outbox, stream) = firsts(&self.db, &self.broker).await;
        assert_eq!(outbox, stream);
        outbox
    }

    async fn alarms(&self) -> usize {
        let audited = audited(&self.db).await;
        let alarms = audited
            .iter()
            .filter(|action| *action == "ALARM: retention");
        alarms.count()
    }
}

fn older_than(hours: u64) -> Retention {
    Retention {
        max_age: Some(Duration::from_secs(hours * 3_600)),
        ..Retention::default()
    }
}

#[tokio::test(start_paused = true)]
async fn events_older_than_the_limit_go() {
    let world = Timed::start().await;
    world.hourly(10).await;
    // The oldest is 10 hours old, the newest one hour.
    for (hours, first) in [(11, 1), (10, 1), (9, 2), (4, 7), (1, 10)] {
        assert_eq!(world.first_after(hours).await, first, "{hours} hours");
    }
    // With two limits, what either permits.
    world.hourly(10).await;
    let both = |max_events, hours| Retention {
        max_events: Some(max_events),
        ..older_than(hours)
    };
    for (max_events, hours, first) in [(8, 100, 13), (100, 5, 16)] {
        keep(&world.db, &world.broker, both(max_events, hours)).await;
        assert_eq!(firsts(&world.db, &world.broker).await.0, first);
    }
    assert_eq!(world.alarms().await, 0);
}

#[tokio::test(start_paused = true)]
async fn one_event_from_the_year_2036_neither_pins_the_log_nor_empties_it() {
    let world = Timed::start().await;
    world.hourly(4).await;
    world.stray(10 * YEAR).await;
    assert_eq!(world.first_after(2).await, 1, "the clock may be behind");
    assert_eq!(world.alarms().await, 1, "and that is said");
    world.hourly(4).await;
    // Event 5 came right before event 6, so it is as old.
    for (hours, first) in [(8, 1), (5, 4), (4, 5), (3, 7), (2, 8)] {
        assert_eq!(world.first_after(hours).await, first, "{hours} hours");
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_begins_while_the_clock_is_ahead_is_not_emptied_when_the_clock_is_right() {
    let world = Timed::start().await;
    world.stray(10 * YEAR).await;
    world.stray(10 * YEAR).await;
    world.hourly(4).await;
    for (hours, first) in [(5, 1), (4, 1), (3, 4)] {
        assert_eq!(world.first_after(hours).await, first, "{hours} hours");
    }
}

#[tokio::test(start_paused = true)]
async fn one_event_from_the_year_1970_neither_pins_the_log_nor_empties_it() {
    let world = Timed::start().await;
    world.hourly(4).await;
    world.stray(-50 * YEAR).await;
    world.hourly(4).await;
    for (hours, first) in [(9, 1), (8, 1), (5, 4), (4, 6), (2, 8)] {
        assert_eq!(world.first_after(hours).await, first, "{hours} hours");
    }
    assert_eq!(world.alarms().await, 0);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_ahead_makes_nothing_older_while_the_process_runs() {
    let world = Timed::start().await;
    world.hourly(10).await;
    let mut relay = Relay::new(&world.db, world.broker.clone()).keep(older_than(24));
    settle(&mut relay).await;
    for leap in [20 * HOUR, 10 * YEAR] {
        world.clock.tick(leap);
        weigh_many(&world.db, 2).await;
        settle(&mut relay).await;
        assert_eq!(firsts(&world.db, &world.broker).await, (1, 1), "{leap}");
    }
    // What it measures itself counts.
    let half_past = 39 * HOUR / 2;
    tokio::time::advance(Duration::from_secs(half_past.unsigned_abs())).await;
    world.clock.tick(half_past);
    weigh_many(&world.db, 1).await;
    settle(&mut relay).await;
    relay.finish_chores().await.unwrap();
    assert_eq!(firsts(&world.db, &world.broker).await, (7, 7));
}

/// A machine without a clock of its own starts in the past, and learns the time a little later.
#[tokio::test(start_paused = true)]
async fn a_clock_that_was_behind_at_the_start_holds_old_events_and_silent_readers_for_a_while_only()
{
    let world = Timed::start().await;
    world.clock.tick(-40 * YEAR);
    let mut relay = Relay::new(&world.db, world.broker.clone()).keep(older_than(24));
    settle(&mut relay).await;
    world.clock.tick(40 * YEAR);
    weigh_many(&world.db, 30).await;
    settle(&mut relay).await;
    let answers = Answers::new(&world.db, share);
    let old = at(&world.db, 5).await;
    answers.report("silent", Some(old)).await.unwrap();
    for days in 1..=16 {
        world.clock.tick(24 * HOUR);
        tokio::time::advance(Duration::from_secs(24 * 3_600)).await;
        weigh_many(&world.db, 1).await;
        settle(&mut relay).await; // a contact, and then what waits
        settle(&mut relay).await;
        if days < 7 {
            assert_eq!(firsts(&world.db, &world.broker).await, (1, 1), "{days}");
        }
    }
    assert_eq!(world.alarms().await, 1);
    assert_eq!(report(&world.db).await.readers, []);
    assert_eq!(firsts(&world.db, &world.broker).await, (45, 45));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_with_a_clock_that_leapt_removes_nothing_and_raises_an_alarm() {
    let world = Timed::start().await;
    world.hourly(10).await;
    world.clock.tick(10 * YEAR);
    assert_eq!(world.first_after(24).await, 1, "no younger one follows");
    world.hourly(10).await;
    assert_eq!(
        world.first_after(24).await,
        1,
        "the younger ones prove nothing"
    );
    assert_eq!(world.alarms().await, 1);
    world.clock.tick(-10 * YEAR);
    world.hourly(10).await;
    // The clock is right again, and the log goes by it. Events 11 to 20 are as old as the one after them.
    for (hours, first) in [(30, 1), (24, 7), (12, 11)] {
        assert_eq!(world.first_after(hours).await, first, "{hours} hours");
    }
}

/// Without a leap it looks alike: a service that was away for longer than the limit. What it finds goes a little later.
#[tokio::test(start_paused = true)]
async fn what_lies_before_a_pause_goes_once_what_follows_it_is_too_old() {
    let world = Timed::start().await;
    world.hourly(10).await;
    world.clock.tick(100 * HOUR);
    world.hourly(20).await;
    for _ in 0..3 {
        assert_eq!(world.first_after(24).await, 1);
    }
    world.hourly(8).await;
    assert_eq!(world.first_after(24).await, 15);
    assert_eq!(world.alarms().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_has_run_for_longer_than_the_limit_needs_no_younger_event() {
    let world = Timed::start().await;
    world.hourly(10).await;
    let mut relay = Relay::new(&world.db, world.broker.clone()).keep(older_than(24));
    settle(&mut relay).await;
    tokio::time::advance(Duration::from_secs(30 * 3_600)).await;
    world.clock.tick(30 * HOUR);
    settle(&mut relay).await;
    assert_eq!(firsts(&world.db, &world.broker).await, (10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_removes_nothing() {
    let world = Timed::start().await;
    world.hourly(10).await;
    let mut relay = Relay::new(&world.db, world.broker.clone()).keep(older_than(24));
    settle(&mut relay).await;
    world.clock.tick(-40 * YEAR);
    settle(&mut relay).await;
    weigh_many(&world.db, 5).await;
    settle(&mut relay).await;
    assert_eq!(firsts(&world.db, &world.broker).await, (1, 1));
    world.clock.tick(40 * YEAR);
    world.hourly(1).await;
    settle(&mut relay).await;
    assert_eq!(firsts(&world.db, &world.broker).await, (1, 1));
    assert_eq!(
        world.first_after(9).await,
        3,
        "and the log goes by the clock"
    );
}

async fn many(db: &Database, count: u64) {
    let write = db.write(move |tx| {
        (0..count).try_for_each(|index| store_and_emit(tx, &weighed("a", 1, index + 1)).map(drop))
    });
    write.await.unwrap();
}

/// The event at this sequence, as a reader that has applied it names it.
async fn at(db: &Database, seq: u64) -> Position {
    let id = db.outbox().event_id(seq).await.unwrap().unwrap();
    Position { seq, id }
}

#[tokio::test(start_paused = true)]
async fn what_a_reader_has_still_to_read_stays_while_it_reports() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 30).await;
    meet(&db, &broker).await;
    let answers = Answers::new(&db, share);
    let new = answers.report("new", None).await.unwrap();
    assert_eq!(new, Holds::Yes);
    keep(&db, &broker, newest(10)).await;
    assert_eq!(firsts(&db, &broker).await, (1, 1), "it has applied nothing");
    answers
        .report("other", Some(at(&db, 12).await))
        .await
        .unwrap();
    for seq in [5, 15, 30] {
        answers
            .report("new", Some(at(&db, seq).await))
            .await
            .unwrap();
        keep(&db, &broker, newest(10)).await;
        // The event it has applied last is looked at when it connects, so it stays.
        let first = seq.min(12);
        assert_eq!(firsts(&db, &broker).await, (first, first), "read to {seq}");
    }
    let at_once = Retention {
        hold_readers: Duration::ZERO,
        ..newest(10)
    };
    keep(&db, &broker, at_once).await;
    assert_eq!(firsts(&db, &broker).await, (21, 21), "nothing is held");
    assert_eq!(
        report(&db).await.readers.len(),
        2,
        "and still they are listed"
    );
}

/// It loads a snapshot anyway.
#[tokio::test(start_paused = true)]
async fn a_reader_that_the_stream_has_passed_holds_nothing() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 10).await;
    keep(&db, &broker, newest(6)).await;
    let answers = Answers::new(&db, share);
    answers.report("new", None).await.unwrap();
    keep(&db, &broker, newest(2)).await;
    assert_eq!(firsts(&db, &broker).await, (9, 9));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_fell_silent_is_dropped_and_its_events_go() {
    let world = Timed::start().await;
    let (db, broker) = (&world.db, &world.broker);
    weigh_many(db, 30).await;
    meet(db, broker).await;
    let answers = Answers::new(db, share);
    let (old, new) = (at(db, 5).await, at(db, 25).await);
    for (reader, at) in [("silent", old), ("alive", new)] {
        answers.report(reader, Some(at)).await.unwrap();
    }
    let keeps = Retention {
        hold_readers: Duration::from_secs(24 * 3_600),
        ..newest(2)
    };
    let mut relay = Relay::new(db, broker.clone()).keep(keeps);
    settle(&mut relay).await;
    let pass = async |hours: i64| {
        tokio::time::advance(Duration::from_secs(u64::try_from(hours * HOUR).unwrap())).await;
        world.clock.tick(hours * HOUR);
        answers.report("alive", Some(new)).await.unwrap();
    };
    pass(24).await;
    settle(&mut relay).await;
    assert_eq!(firsts(db, broker).await, (5, 5), "heard within a day");
    pass(1).await;
    // A process that has just started has not been there to hear it.
    settle(&mut Relay::new(db, broker.clone()).keep(keeps)).await;
    assert_eq!(firsts(db, broker).await, (5, 5));
    settle(&mut relay).await;
    assert_eq!(firsts(db, broker).await, (25, 25));
    assert!(audited(db).await.contains(&"reader dropped".to_owned()));
    let readers = report(db).await.readers;
    let names: Vec<_> = readers.iter().map(|one| (&*one.reader, one.seq)).collect();
    assert_eq!(names, [("alive", 25)]);
    assert_eq!(
        answers.report("silent", Some(old)).await.unwrap(),
        Holds::Pruned
    );
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_leaps_drops_no_reader_and_holds_none_for_ever() {
    let world = Timed::start().await;
    let (db, broker) = (&world.db, &world.broker);
    weigh_many(db, 30).await;
    meet(db, broker).await;
    let answers = Answers::new(db, share);
    answers
        .report("steady", Some(at(db, 5).await))
        .await
        .unwrap();
    let mut relay = Relay::new(db, broker.clone()).keep(newest(2));
    settle(&mut relay).await;
    world.clock.tick(10 * YEAR);
    tokio::time::advance(Duration::from_secs(3_600)).await;
    answers
        .report("ahead", Some(at(db, 7).await))
        .await
        .unwrap();
    settle(&mut relay).await;
    assert_eq!(firsts(db, broker).await, (5, 5), "no one fell silent");
    world.clock.tick(-10 * YEAR);
    settle(&mut relay).await;
    tokio::time::advance(Duration::from_secs(8 * 24 * 3_600)).await;
    world.clock.tick(8 * 24 * HOUR);
    settle(&mut relay).await;
    assert_eq!(firsts(db, broker).await, (29, 29));
    assert_eq!(report(db).await.readers, []);
}

#[tokio::test(start_paused = true)]
async fn a_position_that_the_log_does_not_hold_is_answered_and_not_stored() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 10).await;
    let answers = Answers::new(&db, share);
    let early = answers.report("a", None).await;
    assert!(
        matches!(early, Err(LogError::Disconnected(..))),
        "it has not met its stream"
    );
    let old = at(&db, 2).await;
    keep(&db, &broker, newest(5)).await;
    let other = EventId::draw(&System);
    for (seq, id, expected) in [
        (7, other, Holds::No),
        (11, other, Holds::No),
        (2, old.id, Holds::Pruned),
    ] {
        let answer = answers.report("a", Some(Position { seq, id })).await;
        assert_eq!(answer.unwrap(), expected, "{seq}");
    }
    assert_eq!(report(&db).await.readers, []);
}

#[tokio::test(start_paused = true)]
async fn readers_are_bounded_in_name_and_number() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    weigh_many(&db, 1).await;
    meet(&db, &broker).await;
    let answers = Answers::new(&db, share);
    for bad in ["", "..", "a b", "a/b", "ä", &"a".repeat(101)] {
        let refused = answers.report(bad, None).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{bad:?}");
    }
    for number in 0..1_000 {
        answers
            .report(&format!("reader-{number}"), None)
            .await
            .unwrap();
    }
    let refused = answers.report("one-more", None).await;
    assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    answers.report("reader-7", None).await.expect("it is known");
}

/// Other writes have their turn in between.
#[tokio::test(start_paused = true)]
async fn an_outbox_is_pruned_in_small_steps_with_other_writes_between_them() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let db = scratch.producer().await;
    many(&db, 20_000).await;
    meet(&db, &broker).await;
    let mut relay = Relay::new(&db, broker.clone()).keep(newest(1));
    let other = db.clone();
    let writing = tokio::spawn(async move {
        let mut seen = Vec::new();
        while seen.last() != Some(&20_000) {
            let first = "select min(seq) from relay_outbox";
            let write = other.write(move |tx| tx.query_row(first, [], |row| row.get::<_, u64>(0)));
            seen.push(write.await.unwrap());
        }
        seen
    });
    settle(&mut relay).await;
    assert_eq!(firsts(&db, &broker).await, (20_000, 20_000));
    let seen = writing.await.unwrap();
    let between = seen.iter().filter(|first| (2..20_000).contains(*first));
    assert!(between.count() > 1, "{seen:?}");
}

/// The stream first, then the outbox: wherever it is killed, the outbox can fill the stream.
#[tokio::test(start_paused = true)]
async fn a_kill_amid_the_removal_leaves_nothing_that_only_the_stream_holds() {
    for operations in 1..12 {
        let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
        let db = scratch.producer().await;
        weigh_many(&db, 8).await;
        meet(&db, &broker).await;
        let mut relay = Relay::new(&db, Mortal::after(operations, &broker)).keep(newest(3));
        while relay.step().await.is_ok() {}
        drop(relay);
        let (outbox, stream) = firsts(&db, &broker).await;
        assert!(
            outbox <= stream,
            "after {operations} operations: {outbox} {stream}"
        );
        let path = db.path().to_owned();
        kill(db).await;
        let db = Database::open(&path, options()).await.unwrap();
        keep(&db, &broker, newest(3)).await;
        assert_eq!(firsts(&db, &broker).await, (6, 6));
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_was_passed_comes_up_from_a_snapshot() {
    let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
    let (db, reader) = (scratch.producer().await, scratch.reader().await);
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    let consumer = totals(Front::of(&db));
    follow(&consumer, &reader, &broker).await;
    weigh_many(&db, 9).await;
    keep(&db, &broker, newest(2)).await;
    assert_eq!(firsts(&db, &broker).await, (11, 11));
    follow(&consumer, &reader, &broker).await;
    assert_eq!(consumer.status().borrow().rebuilt, 1);
    let (ours, theirs) = (
        reader.read(crate::support::read_totals),
        db.read(crate::support::read_totals),
    );
    assert_eq!(ours.await.unwrap(), theirs.await.unwrap());
    assert!(reader.quarantined().await.unwrap().is_empty());
}

/// In real time: a database answers from a thread of its own, which a paused clock does not wait for.
#[tokio::test]
async fn a_consumer_reports_how_far_it_is_and_is_not_passed() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let (db, reader) = (scratch.producer().await, scratch.reader().await);
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    let consumer = totals(Answers::new(&db, share));
    for reported in [0, 3] {
        // What is applied is reported at the next connection, or a minute later.
        follow(&consumer, &reader, &broker).await;
        until_reported(&db, reported).await;
    }
    weigh_many(&db, 9).await;
    keep(&db, &broker, newest(2)).await;
    assert_eq!(firsts(&db, &broker).await, (3, 3));
    follow(&consumer, &reader, &broker).await;
    assert_eq!(consumer.status().borrow().rebuilt, 0);
}

async fn until_reported(db: &Database, seq: u64) {
    let reported = async {
        while report(db).await.readers.iter().all(|one| one.seq != seq) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let reported = tokio::time::timeout(Duration::from_secs(60), reported);
    reported.await.expect("it reports");
}

/// A producer that does not answer is no reason to apply nothing.
#[tokio::test(start_paused = true)]
async fn a_report_that_fails_is_no_trouble_of_the_consumer() {
    let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
    let (db, reader) = (scratch.producer().await, scratch.reader().await);
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    let consumer = totals(Silent(Answers::new(&db, share)));
    follow(&consumer, &reader, &broker).await;
    weigh_many(&db, 3).await;
    meet(&db, &broker).await;
    follow(&consumer, &reader, &broker).await;
    assert_eq!(consumer.status().borrow().trouble, None);
}

/// A producer that never answers a report.
struct Silent(Answers);

impl Producer for Silent {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        self.0.holds(at)
    }

    fn report(&self, _: &str, _: Option<Position>) -> BoxFuture<'_, Result<Holds, LogError>> {
        Box::pin(std::future::pending())
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        self.0.snapshot(at)
    }
}

//! Snapshots: a cache that cannot follow its stream any more comes up again from its producer, whole or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use relay::consume::{Progress, Start};
use relay::environment::System;
use relay::error::LogError;
use relay::event::EventId;
use relay::log::{
    AppendLog, Connect, Head, Holds, Line, Lines, Log, Position, Producer, Record, Stream,
};
use relay::operate::{backup, restore};
use relay::outbox::FoundIn;
use relay::publish::{Answers, Retention};
use relay::rusqlite::{self, Connection};
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Received, Relay, Rows, Stop};

use crate::support::{
    Front, Image, Scratch, Total, Weighed, count, emit, follow, meet, options, read_totals, settle,
    share, totals, unmarked, weigh_many, weighed,
};

/// A producer and a reader of it, each with a file of its own.
struct World {
    scratch: Scratch,
    broker: MemoryBroker,
    producer: Database,
    front: Front,
    reader: Database,
    consumer: Consumer,
}

impl World {
    async fn with(events: u64) -> Self {
        let (scratch, broker) = (Scratch::new(), MemoryBroker::new(1));
        let producer = scratch.producer().await;
        weigh_many(&producer, events).await;
        meet(&producer, &broker).await;
        let (front, reader) = (Front::of(&producer), scratch.reader().await);
        let consumer = totals(front.clone());
        Self {
            scratch,
            broker,
            producer,
            front,
            reader,
            consumer,
        }
    }

    async fn write(&self, events: u64) {
        weigh_many(&self.producer, events).await;
        meet(&self.producer, &self.broker).await;
    }

    async fn follow(&self) {
        follow(&self.consumer, &self.reader, &self.broker).await;
    }

    fn rebuilt(&self) -> u64 {
        self.consumer.status().borrow().rebuilt
    }

    /// Loads that the audit tells of.
    async fn loads(&self) -> u64 {
        let sql = "select count(*) from relay_audit where action = 'snapshot loaded'";
        let count = |rows: &Connection| rows.query_row(sql, [], |row| row.get(0));
        self.reader.read(count).await.unwrap()
    }

    async fn cached(&self) -> (Vec<Total>, Option<Position>) {
        let consumer = self.consumer.clone();
        let read = self
            .reader
            .read(move |rows| Ok((read_totals(rows)?, consumer.position(rows)?)));
        read.await
            .map_err(|error: relay::error::ReadError<rusqlite::Error>| error)
            .unwrap()
    }

    async fn assert_equal(&self) {
        let theirs = self.producer.read(read_totals).await.unwrap();
        let (ours, at) = self.cached().await;
        assert_eq!(ours, theirs);
        assert_eq!(at.unwrap().seq, self.producer.outbox().committed());
        assert_eq!(count(&self.reader, "relay_dead_letter").await, 0);
        assert_eq!(
            count(&self.reader, "relay_snapshot").await,
            0,
            "nothing is left over"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_consumer_of_a_trimmed_stream_comes_up_while_the_producer_keeps_writing() {
    let world = World::with(6).await;
    world.broker.trim(4);
    let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
    for _ in 0..5 {
        let _progress = follower.step().await;
        world.write(2).await;
    }
    drop(follower);
    world.follow().await;
    world.assert_equal().await;
    assert_eq!(world.rebuilt(), 1);
    assert!(
        world.reader.quarantined().await.unwrap().is_empty(),
        "no event is lost on either side"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_only_late_is_waited_for() {
    let world = World::with(5).await;
    world.follow().await;
    let before = world.cached().await;
    for gone in [false, true] {
        match gone {
            true => world.broker.delete(),
            false => world.broker.lose_tail(2),
        }
        let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
        for _ in 0..3 {
            let error = follower.step().await.unwrap_err().to_string();
            assert!(
                error.contains("waiting") || error.contains("does not exist"),
                "{error}"
            );
        }
        assert_eq!(world.cached().await, before);
        world.write(1).await;
        world.broker.lose_tail(1); // as it was
        meet(&world.producer, &world.broker).await;
    }
    world.follow().await;
    world.assert_equal().await;
    assert_eq!(world.rebuilt(), 0);
}

/// The producer is restored from a backup, and the broker has lost the rest: no log holds the events applied here.
#[tokio::test(start_paused = true)]
async fn a_log_that_never_held_what_was_applied_is_seen_though_the_stream_is_short() {
    let mut world = World::with(2).await;
    let copy = world.scratch.path("backup.db");
    backup(world.producer.path(), &options(), &copy).unwrap();
    world.write(3).await;
    world.follow().await;
    let orphan = world.cached().await.1.unwrap();
    world.front.leave();
    world.producer.close().await;
    restore(&copy, &options(), world.producer.path()).unwrap();
    world.broker.restore(None);
    world.producer = world.scratch.producer().await;
    world.front.serve(&world.producer);

    let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
    for _ in 0..3 {
        follower
            .step()
            .await
            .expect_err("a producer that is not open says nothing");
    }
    assert_eq!(world.rebuilt(), 0);
    meet(&world.producer, &world.broker).await;
    world.follow().await;
    world.assert_equal().await;
    assert_eq!(world.rebuilt(), 1);
    let aside = world.reader.quarantined().await.unwrap();
    assert_eq!(aside.len(), 1);
    assert_eq!((aside[0].found_in, aside[0].seq), (FoundIn::Consumer, 5));
    assert_eq!(aside[0].event_id, orphan.id.to_string());
    assert_eq!(world.loads().await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_producer_says_what_its_log_holds_and_says_nothing_unless_it_knows() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let log = weigh_many(&db, 6).await;
    let answers = Answers::new(&db, share);
    let at = |seq: u64| Position {
        seq,
        id: log[usize::try_from(seq).unwrap() - 1].event_id().unwrap(),
    };
    answers
        .holds(at(1))
        .await
        .expect_err("it has not met its stream");
    answers
        .snapshot(None)
        .await
        .expect_err("it has not met its stream");

    let broker = MemoryBroker::new(1);
    let keep = Retention {
        max_events: Some(3),
        ..Retention::default()
    };
    settle(&mut Relay::new(&db, broker.clone()).keep(keep)).await;
    let other = EventId::draw(&System);
    let cases = [
        (at(6), Holds::Yes),
        (at(4), Holds::Yes),
        (at(3), Holds::Pruned),
        (Position { seq: 6, id: other }, Holds::No),
        (Position { seq: 7, id: other }, Holds::No),
    ];
    for (position, expected) in cases {
        assert_eq!(
            answers.holds(position).await.unwrap(),
            expected,
            "{position:?}"
        );
    }
    db.halt("a rival was seen");
    let refused = answers.holds(at(6)).await.unwrap_err().to_string();
    assert!(refused.contains("a rival was seen"), "{refused}");
    answers.snapshot(None).await.expect_err("it is halted");
}

/// A producer that is cut off after so many lines of a snapshot.
struct CutOff {
    front: Front,
    lines: Arc<AtomicU64>,
    /// How often one was asked for.
    asked: Arc<AtomicU64>,
}

impl Producer for CutOff {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        self.front.holds(at)
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            let mut whole = self.front.snapshot(at).await?;
            let (to, lines) = tokio::sync::mpsc::channel(100);
            for _ in 0..self.lines.load(Ordering::Relaxed) {
                match whole.recv().await {
                    Some(line) => to.send(line).await.unwrap(),
                    None => break,
                }
            }
            Ok(lines)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_cut_off_changes_nothing() {
    let mut world = World::with(3).await;
    let lines = Arc::new(AtomicU64::new(0));
    world.consumer = totals(CutOff {
        front: world.front.clone(),
        lines: lines.clone(),
        asked: Arc::default(),
    });
    world.follow().await;
    let before = world.cached().await;
    world.write(4).await;
    world.broker.trim(5);
    // A position, three rows, an end.
    for count in 0..5 {
        lines.store(count, Ordering::Relaxed);
        let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
        for _ in 0..2 {
            let error = follower.step().await.unwrap_err().to_string();
            assert!(
                error.contains("cut off before its end"),
                "after {count} lines: {error}"
            );
        }
        assert_eq!(world.cached().await, before, "after {count} lines");
    }
    lines.store(5, Ordering::Relaxed);
    world.follow().await;
    world.assert_equal().await;
}

/// Whether the stream has been trimmed or the consumer begins with a snapshot: one that fails is not asked for at each step,
/// and each step says why it failed.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_fails_is_not_asked_for_over_and_over() {
    for start in [Start::First, Start::Snapshot] {
        let world = World::with(3).await;
        if start == Start::First {
            world.broker.trim(2);
        }
        let (lines, asked) = (Arc::new(AtomicU64::new(2)), Arc::<AtomicU64>::default());
        let consumer = totals(CutOff {
            front: world.front.clone(),
            lines: lines.clone(),
            asked: asked.clone(),
        });
        let consumer = consumer.starts(start);
        let mut follower = consumer.follow(&world.reader, world.broker.reader());
        for _ in 0..50 {
            let said = follower.step().await.unwrap_err().to_string();
            assert!(said.contains("cut off before its end"), "{said}");
        }
        let times = asked.load(Ordering::Relaxed);
        assert!(times < 10, "{start:?}: asked for {times} times");
        lines.store(5, Ordering::Relaxed);
        consumer.rebuild();
        let asked_for = follower.step().await.unwrap();
        assert_eq!(asked_for, Progress::Rebuilt(3), "at once");
    }
}

/// A producer whose snapshots are not what they should be.
struct Wrong(Front, Spoil);

type Spoil = fn(Line) -> Option<Line>;

impl Producer for Wrong {
    fn holds(&self, at: Position) -> BoxFuture<'_, Result<Holds, LogError>> {
        self.0.holds(at)
    }

    fn snapshot(&self, at: Option<Position>) -> BoxFuture<'_, Result<Lines, LogError>> {
        Box::pin(async move {
            let mut right = self.0.snapshot(at).await?;
            let (to, lines) = tokio::sync::mpsc::channel(100);
            while let Some(line) = right.recv().await {
                if let Some(line) = (self.1)(line?) {
                    to.send(Ok(line)).await.unwrap();
                }
            }
            Ok(lines)
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_not_whole_or_of_another_stream_is_refused() {
    let wrongs: [(Spoil, &str); 3] = [
        (
            |line| (!matches!(line, Line::Position { .. })).then_some(line),
            "its position",
        ),
        (
            |line| match line {
                Line::End { rows } => Some(Line::End { rows: rows + 1 }),
                other => Some(other),
            },
            "not whole",
        ),
        (
            |line| match line {
                Line::Position {
                    epoch, at, holds, ..
                } => {
                    let stream = "PALLETS".to_owned();
                    Some(Line::Position {
                        stream,
                        epoch,
                        at,
                        holds,
                    })
                }
                other => Some(other),
            },
            "is of stream PALLETS",
        ),
    ];
    for (wrong, said) in wrongs {
        let mut world = World::with(3).await;
        world.consumer = totals(Wrong(world.front.clone(), wrong));
        world.broker.trim(2);
        let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
        let error = follower.step().await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        assert_eq!(world.cached().await, (Vec::new(), None));
    }
}

#[tokio::test(start_paused = true)]
async fn an_operator_can_have_a_cache_rebuilt() {
    let world = World::with(4).await;
    world.follow().await;
    let spoil = world
        .reader
        .write(|tx| tx.execute("update totals set total_g = 0", []));
    spoil.await.unwrap();
    world.consumer.rebuild();
    let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Rebuilt(3));
    assert_eq!(
        follower.step().await.unwrap(),
        Progress::Connected,
        "and once"
    );
    world.assert_equal().await;
    world.write(3).await;
    drop(follower);
    world.follow().await;
    world.assert_equal().await;
    assert_eq!(world.rebuilt(), 1);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_that_a_snapshot_makes_good_move_to_the_audit() {
    let world = World::with(2).await;
    for version in [7, 8] {
        let event = weighed("a", 5, version); // its own table does not have it: dead here, and parked behind it
        world
            .producer
            .write(move |tx| emit(tx, &event))
            .await
            .unwrap();
    }
    meet(&world.producer, &world.broker).await;
    world.follow().await;
    assert_eq!(count(&world.reader, "relay_dead_letter").await, 2);
    world.consumer.rebuild();
    let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
    follower.step().await.unwrap();
    assert_eq!(count(&world.reader, "relay_dead_letter").await, 0);
    assert_eq!(world.consumer.status().borrow().dead_letters, 0);
    let sql =
        "select group_concat(seq), min(note), min(length(envelope)) from relay_dead_letter_audit";
    let read = world.reader.read(move |rows| {
        rows.query_row(sql, [], |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, u64>(2)?,
            ))
        })
    });
    let (places, note, bytes) = read.await.unwrap();
    assert_eq!(
        (places.as_str(), note.as_str()),
        ("3,4", "a snapshot took its place")
    );
    assert!(bytes > 100, "with their bytes");
}

/// While the new rows go in, everybody else sees the old ones, at the old offset.
#[tokio::test(start_paused = true)]
async fn the_cache_and_its_offset_are_swapped_in_one_transaction() {
    let mut world = World::with(5).await;
    let path = world.reader.path().to_owned();
    let looked = Arc::new(AtomicU64::new(0));
    let known = looked.clone();
    world.consumer = Consumer::projection("parcel-totals", |_, _: &Received<Weighed>| {
        Err(ApplyError::Transient("this test only loads".to_owned()))
    })
    .loads(
        &["totals"],
        move |rows, total: &Total| {
            let beside = Connection::open(&path)?;
            let sql = "select (select count(*) from totals), (select seq from relay_offset)";
            let seen = beside.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if seen != (1, Some(4)) {
                return Err(ApplyError::Fatal(format!(
                    "half a cache was seen: {seen:?}"
                )));
            }
            known.fetch_add(1, Ordering::Relaxed);
            let sql = "insert into totals values (?1, ?2, ?3, ?4)";
            rows.execute(
                sql,
                (&total.parcel, total.version, total.times, total.total_g),
            )?;
            Ok(())
        },
        share,
    )
    .asks(Arc::new(world.front.clone()));
    let id = EventId::draw(&System);
    let old = world.reader.write(move |tx| {
        tx.execute("insert into totals values ('old', 1, 1, 1)", [])?;
        let sql = "insert into relay_offset values ('parcel-totals', 'PARCELS', 4, ?1, 1)";
        tx.execute(sql, [id])
    });
    old.await.unwrap();
    let mut follower = world.consumer.follow(&world.reader, world.broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Rebuilt(3));
    assert_eq!(looked.load(Ordering::Relaxed), 3);
    world.assert_equal().await;
}

/// The stream begins after the producer's snapshot: each load ends where the one before it did.
#[tokio::test(start_paused = true)]
async fn a_snapshot_that_does_not_help_is_not_loaded_over_and_over() {
    let world = World::with(9).await;
    let elsewhere = Scratch::new();
    let behind = elsewhere.producer().await;
    weigh_many(&behind, 3).await;
    meet(&behind, &MemoryBroker::new(2)).await;
    world.front.serve(&behind);
    world.broker.trim(6);
    let mut follower = world.consumer.follow(&world.reader, world.broker.clone());
    for loads in 1..=3 {
        let mut said = String::new();
        for _ in 0..50 {
            if let Err(error) = follower.step().await {
                said = error.to_string();
            }
        }
        assert_eq!(world.rebuilt(), loads);
        assert!(
            said.contains("events are gone; the cure did not help"),
            "{said}"
        );
        tokio::time::sleep(Duration::from_secs(120)).await; // longer than the longest delay
    }
    assert_eq!(
        world.loads().await,
        2,
        "from nothing to 3; from 3 to 3, and that again is no news"
    );
    world.front.serve(&world.producer);
    world.follow().await;
    world.assert_equal().await;
}

/// The event after the offset names another one before it, and the producer's log holds what was applied.
#[tokio::test(start_paused = true)]
async fn a_stream_that_forks_where_its_producer_did_not_is_read_again_and_loads_nothing() {
    let world = World::with(3).await;
    world.follow().await;
    let stranger = Scratch::new();
    let stranger = stranger.producer().await;
    let other = weigh_many(&stranger, 4).await.pop().unwrap();
    let mut session = world.broker.connect().await.unwrap();
    let head = session.head().await.unwrap().unwrap();
    session.append_after(&head, &[other]).await.unwrap();

    let mut follower = world.consumer.follow(&world.reader, world.broker.clone());
    for _ in 0..50 {
        let said = follower.step().await.unwrap_err().to_string();
        assert!(
            said.contains("its producer's log holds the applied event"),
            "{said}"
        );
    }
    session.delete(&head.incarnation).await.unwrap();
    meet(&world.producer, &world.broker).await;
    weigh_many(&world.producer, 2).await;
    meet(&world.producer, &world.broker).await;
    drop(follower);
    world.follow().await;
    world.assert_equal().await;
    assert_eq!(world.rebuilt(), 0);
}

/// A reader that hands out, once in each session, another log's event where the next one is due.
struct Strays {
    broker: MemoryBroker,
    stray: Record,
    sessions: AtomicU64,
}

struct StraySession {
    inner: <MemoryBroker as Connect>::Session,
    stray: Option<Record>,
}

impl Connect for Strays {
    type Session = StraySession;

    async fn connect(&self) -> Result<StraySession, LogError> {
        let first = self.sessions.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(StraySession {
            inner: self.broker.connect().await?,
            stray: first.then(|| self.stray.clone()),
        })
    }

    fn stream(&self) -> &str {
        self.broker.stream()
    }
}

impl Log for StraySession {
    async fn head(&mut self) -> Result<Option<Head>, LogError> {
        self.inner.head().await
    }

    async fn read_after(
        &mut self,
        after: u64,
        limit: usize,
        wait: Duration,
    ) -> Result<Vec<Record>, LogError> {
        let due = |stray: &mut Record| stray.seq == after + 1;
        match self.stray.take_if(due) {
            Some(stray) => Ok(vec![stray]),
            None => self.inner.read_after(after, limit, wait).await,
        }
    }
}

/// Live delivery can hand out an event of an older incarnation. Only the stream itself says that there is a fork.
#[tokio::test(start_paused = true)]
async fn an_event_that_does_not_follow_is_read_again_before_anything_is_loaded() {
    let world = World::with(3).await;
    world.follow().await;
    let stranger = Scratch::new();
    let stranger = stranger.producer().await;
    let reader = Strays {
        broker: world.broker.clone(),
        stray: weigh_many(&stranger, 4).await.pop().unwrap(),
        sessions: AtomicU64::new(0),
    };
    let mut follower = world.consumer.follow(&world.reader, reader);
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    let error = follower.step().await.unwrap_err().to_string();
    assert!(error.contains("reading again"), "{error}");
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    world.write(2).await;
    drop(follower);
    world.follow().await;
    world.assert_equal().await;
    assert_eq!(world.rebuilt(), 0);
}

/// It fits where the reader is, and nothing follows it: only the offset itself tells that the stream does not hold it.
#[tokio::test(start_paused = true)]
async fn a_late_event_of_a_stream_that_is_gone_is_noticed_although_nothing_follows_it() {
    let mut world = World::with(3).await;
    world.follow().await;
    let image = Image::take(world.producer.path());
    world.write(1).await;
    let gone = world.broker.records().pop().unwrap();
    world.front.leave();
    world.broker.restore(None);
    let path = world.scratch.path("restored.db");
    image.copy_to(&path);
    let restored = Database::open(path, unmarked()).await.unwrap();
    std::mem::replace(&mut world.producer, restored)
        .close()
        .await;
    meet(&world.producer, &world.broker).await;
    world.front.serve(&world.producer);

    let reader = Strays {
        broker: world.broker.clone(),
        stray: gone,
        sessions: AtomicU64::new(0),
    };
    let mut follower = world.consumer.follow(&world.reader, reader);
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    assert_eq!(follower.step().await.unwrap(), Progress::Applied(1));
    for _ in 0..20 {
        let _looked = follower.step().await;
    }
    assert_eq!(world.rebuilt(), 1);
    world.assert_equal().await;
    world.write(2).await;
    drop(follower);
    world.follow().await;
    world.assert_equal().await;
}

/// A load whose SQL does not fit its schema fails for every snapshot there is.
#[tokio::test]
async fn a_mistake_of_the_program_amid_a_load_stops_the_consumer_and_keeps_the_old_cache() {
    let mut world = World::with(3).await;
    world.follow().await;
    let before = world.cached().await;
    let nothing = |_: &Rows<'_>, _: &Received<Weighed>| Ok(());
    world.consumer = Consumer::projection("parcel-totals", nothing)
        .loads(
            &["totals"],
            |rows, _: &Total| {
                Ok(rows
                    .execute("insert into missing values (1)", [])
                    .map(drop)?)
            },
            share,
        )
        .asks(Arc::new(world.front.clone()));
    world.consumer.rebuild();
    let run = world
        .consumer
        .run(&world.reader, world.broker.clone(), Stop::new());
    let ended = tokio::time::timeout(Duration::from_secs(60), run).await;
    let fatal = ended.expect("it goes on").expect_err("it stops");
    assert!(fatal.to_string().contains("no such table"), "{fatal}");
    assert_eq!(world.cached().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_reaction_waits_and_says_why() {
    let world = World::with(5).await;
    world.broker.trim(3);
    let nothing = |_: &relay::Tx<'_>, _: &Received<Weighed>| Ok(());
    let reaction = Consumer::reaction("echo", nothing);
    let mut follower = reaction.follow(&world.reader, world.broker.reader());
    for _ in 0..2 {
        let error = follower.step().await.unwrap_err().to_string();
        assert!(error.contains("begins at 4, after the offset 0"), "{error}");
        assert!(error.contains("has no snapshot to go on from"), "{error}");
    }
    reaction.rebuild();
    let error = follower.step().await.unwrap_err().to_string();
    assert!(
        error.contains("does not say how to load a snapshot"),
        "{error}"
    );
}

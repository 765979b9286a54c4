//! Where a consumer begins, and an operator who starts one elsewhere.

use std::sync::{Arc, Mutex};

use relay::consume::{Progress, Start};
use relay::testing::AnyEvent;
use relay::testing::memory::MemoryBroker;
use relay::{Consumer, Database, Fold, Options, Received};

use crate::support::{
    Front, Scratch, Weighed, count, follow, meet, read_totals, totals, weigh_many,
};

/// A producer of so many events, and a reader that notes what it is given.
struct World {
    broker: MemoryBroker,
    producer: Database,
    reader: Database,
    seen: Arc<Mutex<Vec<u64>>>,
    _scratch: Scratch,
}

impl World {
    async fn with(events: u64) -> Self {
        let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
        let (producer, reader) = (scratch.producer().await, scratch.reader().await);
        let world = Self {
            broker,
            producer,
            reader,
            seen: Arc::default(),
            _scratch: scratch,
        };
        world.write(events).await;
        world
    }

    async fn write(&self, events: u64) {
        weigh_many(&self.producer, events).await;
        meet(&self.producer, &self.broker).await;
    }

    fn reaction(&self, start: Start) -> Consumer {
        let seen = self.seen.clone();
        let note = move |_: &relay::Tx<'_>, event: &Received<Weighed>| {
            seen.lock().unwrap().push(event.seq);
            Ok(())
        };
        Consumer::reaction("notes", note).starts(start)
    }

    /// As after a restart of its process; answers what it was given.
    async fn follow(&self, start: Start) -> Vec<u64> {
        follow(&self.reaction(start), &self.reader, &self.broker).await;
        std::mem::take(&mut *self.seen.lock().unwrap())
    }

    async fn fails(&self, start: Start) -> String {
        let consumer = self.reaction(start);
        let mut follower = consumer.follow(&self.reader, self.broker.reader());
        follower.step().await.unwrap_err().to_string()
    }

    async fn start_at(&self, start: Start) -> Option<u64> {
        let (consumer, reader) = (self.reaction(Start::First), self.broker.reader());
        let planned = consumer.plan_start(&reader, start).await.unwrap();
        let done = consumer
            .start_at(&self.reader, &reader, start)
            .await
            .unwrap();
        assert_eq!(planned, done);
        done.map(|at| at.seq)
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_consumer_begins_where_its_program_says_and_nowhere_else_ever_after() {
    let cases = [
        (Start::First, vec![1, 2, 3, 4], vec![5, 6]),
        (Start::At(0), vec![1, 2, 3, 4], vec![5, 6]),
        (Start::At(3), vec![4], vec![5, 6]),
        (Start::Now, vec![], vec![5, 6]),
    ];
    for (start, first, later) in cases {
        let world = World::with(4).await;
        assert_eq!(world.follow(start).await, first, "{start:?}");
        world.write(2).await;
        assert_eq!(world.follow(start).await, later, "{start:?}");
        let again = world.follow(Start::At(1)).await;
        assert!(again.is_empty(), "its place is stored: {again:?}");
    }
}

/// What it saw first was an empty stream: all that comes is after that, whenever its process runs again.
#[tokio::test(start_paused = true)]
async fn now_on_an_empty_stream_is_the_first_event() {
    let world = World::with(0).await;
    let consumer = world.reaction(Start::Now);
    let mut follower = consumer.follow(&world.reader, world.broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    drop(follower);
    world.write(3).await;
    assert_eq!(world.follow(Start::Now).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_the_stream_does_not_reach_is_waited_for_and_one_that_is_gone_is_refused() {
    let world = World::with(4).await;
    let said = world.fails(Start::At(6)).await;
    assert!(
        said.contains("begins after event 6, and the stream ends at 4"),
        "{said}"
    );
    world.broker.trim(3);
    let said = world.fails(Start::At(2)).await;
    assert!(said.contains("begins at 4, after the offset 2"), "{said}");
    assert!(said.contains("say with start-at where it begins"), "{said}");
    let said = world.fails(Start::First).await;
    assert!(said.contains("begins at 4, after the offset 0"), "{said}");
    assert_eq!(
        world.follow(Start::At(3)).await,
        [4],
        "the event after it names it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_cache_may_begin_with_a_snapshot_of_a_stream_that_is_whole() {
    let world = World::with(5).await;
    let consumer = totals(Front::of(&world.producer)).starts(Start::Snapshot);
    let mut follower = consumer.follow(&world.reader, world.broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Rebuilt(3));
    drop(follower);
    world.write(2).await;
    follow(&consumer, &world.reader, &world.broker).await;
    assert_eq!(consumer.status().borrow().rebuilt, 1);
    let theirs = world.producer.read(read_totals).await.unwrap();
    assert_eq!(world.reader.read(read_totals).await.unwrap(), theirs);
}

/// A snapshot of nothing is loaded once: then the first event comes.
#[tokio::test(start_paused = true)]
async fn a_cache_may_begin_with_a_snapshot_of_nothing() {
    let world = World::with(0).await;
    let consumer = totals(Front::of(&world.producer)).starts(Start::Snapshot);
    let mut follower = consumer.follow(&world.reader, world.broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Rebuilt(0));
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    world.write(2).await;
    drop(follower);
    follow(&consumer, &world.reader, &world.broker).await;
    assert_eq!(consumer.status().borrow().rebuilt, 1);
    assert_eq!(count(&world.reader, "totals").await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_reaction_behind_a_trimmed_stream_goes_on_where_an_operator_says() {
    let world = World::with(3).await;
    world.follow(Start::First).await;
    world.write(5).await;
    world.broker.trim(5);
    let said = world.fails(Start::First).await;
    assert!(said.contains("begins at 6, after the offset 3"), "{said}");
    assert!(
        said.contains("say with start-at where it goes on"),
        "{said}"
    );

    assert_eq!(
        world.start_at(Start::First).await,
        Some(5),
        "the oldest that is kept"
    );
    assert_eq!(world.follow(Start::First).await, [6, 7, 8]);
    assert_eq!(world.start_at(Start::At(6)).await, Some(6));
    assert_eq!(world.follow(Start::First).await, [7, 8], "back, too");
    world.write(2).await;
    assert_eq!(world.start_at(Start::Now).await, Some(10));
    assert_eq!(world.follow(Start::First).await, [] as [u64; 0]);
    assert_eq!(count(&world.reader, "relay_audit").await, 3);
    let consumer = world.reaction(Start::First);
    let reader = world.broker.reader();
    let beyond = consumer.start_at(&world.reader, &reader, Start::At(11));
    let said = beyond.await.unwrap_err().to_string();
    assert!(said.ends_with("the stream ends at 10"), "{said}");
}

/// Its own log says what it has answered, so it is asked again only about the others.
#[tokio::test(start_paused = true)]
async fn a_reaction_that_is_started_further_back_answers_nothing_twice() {
    let world = World::with(6).await;
    let seen = world.seen.clone();
    let answer_even = move |tx: &relay::Tx<'_>, event: &Received<Weighed>| {
        seen.lock().unwrap().push(event.seq);
        if event.seq.is_multiple_of(2) {
            emit_noticed(tx, event)?;
        }
        Ok(())
    };
    let consumer = Consumer::reaction("notes", answer_even);
    follow(&consumer, &world.reader, &world.broker).await;
    world.seen.lock().unwrap().clear();
    assert_eq!(world.start_at(Start::At(2)).await, Some(2));
    follow(&consumer, &world.reader, &world.broker).await;
    assert_eq!(*world.seen.lock().unwrap(), [3, 5]);
    assert_eq!(world.reader.outbox().committed(), 3);
}

fn emit_noticed(tx: &relay::Tx<'_>, event: &Received<Weighed>) -> Result<u64, relay::EmitError> {
    tx.emit(&AnyEvent::new(
        "scales.noticed.v1",
        &event.aggregate,
        &event.event,
    ))
}

#[tokio::test(start_paused = true)]
async fn a_cache_is_not_started_elsewhere_but_rebuilt() {
    let world = World::with(3).await;
    let consumer = totals(Front::of(&world.producer));
    let reader = world.broker.reader();
    let refused = consumer.start_at(&world.reader, &reader, Start::Now);
    let said = refused.await.unwrap_err().to_string();
    assert!(said.contains("rebuild it"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_cannot_load_a_snapshot_cannot_begin_with_one() {
    let world = World::with(1).await;
    let consumer = world.reaction(Start::Snapshot);
    let run = consumer.run(&world.reader, world.broker.reader(), relay::Stop::new());
    let run = tokio::time::timeout(std::time::Duration::from_secs(60), run).await;
    let said = run.expect("it ends").unwrap_err().to_string();
    assert!(said.contains("cannot begin with a snapshot"), "{said}");
}

relay::events! {
    enum Spaced on "PAR CELS" { "parcels.weighed.v1" => Weighed(Weighed) about parcel }
}

/// Its name travels in causes, between spaces.
#[tokio::test(start_paused = true)]
async fn a_consumer_whose_name_has_a_space_is_refused_before_it_applies_anything() {
    let world = World::with(1).await;
    for consumer in [
        Consumer::reaction("my notes", |_, _: &Received<Weighed>| Ok(())),
        Consumer::reaction("notes", |_, _: &Received<Spaced>| Ok(())),
        Consumer::reaction("", |_, _: &Received<Weighed>| Ok(())),
    ] {
        let run = consumer.run(&world.reader, world.broker.reader(), relay::Stop::new());
        let said = run.await.unwrap_err().to_string();
        assert!(said.contains("leave out the spaces"), "{said}");
    }
}

#[tokio::test]
async fn a_part_that_lacks_its_table_is_refused_at_the_start_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let fold = Fold::new(&["notes"], |_, _: &Received<AnyEvent>| Ok(()));
    let opened = Database::open(&path, Options::new("a", "A", &[]).fold(fold.clone())).await;
    let refusal = opened.err().unwrap().to_string();
    assert!(
        refusal.contains("has no table notes") && refusal.contains("add a migration"),
        "{refusal}"
    );

    let table = "create table notes (id text primary key) strict";
    let db = Database::open(&path, Options::new("a", "A", &[table]).fold(fold)).await;
    let db = db.unwrap();
    let keeps = |table: &str| {
        let consumer = Consumer::projection("a-cache", |_, _: &Received<Weighed>| Ok(()));
        consumer.loads(&[table], |_, _: &u64| Ok(()), |_, _| Ok(()))
    };
    let refusal = keeps("note_cache")
        .check(&db)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refusal.contains("a-cache keeps its cache in table note_cache"),
        "{refusal}"
    );
    keeps("notes").check(&db).await.unwrap();
}

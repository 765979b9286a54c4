//! Reactions that were put back: what they have answered once they do not answer again, and nothing stays unanswered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use relay::consume::Start;
use relay::log::{AppendLog, Log, Record};
use relay::operate::{adopt_stream, backup, restore};
use relay::publish::Case;
use relay::testing::AnyEvent;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Fold, Options, Received, Tx};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{
    Image, Scratch, Weighed, count, letters_of, meet, outbox_rows, weigh_again, weigh_many,
};

const MIGRATIONS: &[&str] = &["create table notices (parcel_event integer primary key) strict"];

/// A parcel was noticed.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Noticed {
    parcel_event: u64,
}

relay::events! {
    enum ScaleEvent on "SCALES" { "scales.noticed.v1" => Noticed(Noticed) about parcel_event }
}

fn options() -> Options {
    Options::new("scale-service", "SCALES", MIGRATIONS).fold(Fold::new(
        &["notices"],
        |rows, event: &Received<ScaleEvent>| {
            let ScaleEvent::Noticed(noticed) = &event.event;
            rows.execute("insert into notices values (?1)", [noticed.parcel_event])?;
            Ok(())
        },
    ))
}

/// Answers every second event.
fn notices() -> Consumer {
    Consumer::reaction("notices", |tx, event: &Received<Weighed>| {
        if event.seq.is_multiple_of(2) {
            return Ok(());
        }
        if event.event.weight_g == 13 {
            return Err(ApplyError::Rejected("unlucky".to_owned()));
        }
        store_and_notice(tx, event)
    })
}

/// Answers everything.
fn cured() -> Consumer {
    Consumer::reaction("notices", store_and_notice)
}

fn store_and_notice(tx: &Tx<'_>, event: &Received<Weighed>) -> Result<(), ApplyError> {
    let noticed = Noticed {
        parcel_event: event.seq,
    };
    tx.execute("insert into notices values (?1)", [event.seq])?;
    tx.emit(&AnyEvent::new(
        "scales.noticed.v1",
        &event.aggregate,
        &noticed,
    ))?;
    Ok(())
}

/// What was answered, in order.
async fn answered(db: &Database) -> Vec<u64> {
    let rows = outbox_rows(db).await;
    let of = |bytes: &[u8]| {
        let envelope = relay::event::Envelope::parse(bytes).unwrap();
        serde_json::from_str::<Noticed>(envelope.data.get())
            .unwrap()
            .parcel_event
    };
    rows.iter().map(|row| of(&row.bytes)).collect()
}

/// The parcels' stream with this many events, and the scales' own, which is still empty.
struct World {
    scratch: Scratch,
    parcels: MemoryBroker,
    producer: Database,
    scales: MemoryBroker,
    db: Database,
}

impl World {
    async fn with(events: u64) -> Self {
        let scratch = Scratch::new();
        let (parcels, scales) = (MemoryBroker::new(1), MemoryBroker::new(2));
        let producer = scratch.producer().await;
        weigh_many(&producer, events).await;
        meet(&producer, &parcels).await;
        let db = Database::open(scratch.path("scales.db"), options())
            .await
            .unwrap();
        Self {
            scratch,
            parcels,
            producer,
            scales,
            db,
        }
    }

    async fn weigh(&self, events: u64) {
        weigh_many(&self.producer, events).await;
        meet(&self.producer, &self.parcels).await;
    }

    /// Reacts to everything there is, and publishes.
    async fn react(&self) {
        react(&self.db, &self.parcels).await;
        meet(&self.db, &self.scales).await;
    }

    async fn open(&mut self) {
        self.db = Database::open(self.scratch.path("scales.db"), options())
            .await
            .unwrap();
    }
}

async fn react(db: &Database, parcels: &MemoryBroker) {
    react_with(notices(), db, parcels).await;
}

async fn react_with(consumer: Consumer, db: &Database, parcels: &MemoryBroker) {
    let mut follower = consumer.follow(db, parcels.reader());
    for _ in 0..50 {
        let _retried = follower.step().await;
        if consumer.status().borrow().offset == parcels.records().len() as u64 {
            return;
        }
    }
    panic!("stuck: {:?}", consumer.status().borrow());
}

#[tokio::test(start_paused = true)]
async fn a_restored_reaction_answers_nothing_twice_and_leaves_nothing_out() {
    let mut world = World::with(3).await;
    world.react().await;
    let copy = world.scratch.path("backup.db");
    backup(world.db.path(), &options(), &copy).unwrap();
    world.weigh(4).await;
    world.react().await;
    assert_eq!(answered(&world.db).await, [1, 3, 5, 7]);
    world.db.close().await;
    restore(&copy, &options(), &world.scratch.path("scales.db")).unwrap();
    world.open().await;

    // Marked, it does not answer: it does not know yet what it has said.
    let mut early = notices().follow(&world.db, world.parcels.reader());
    early.step().await.unwrap();
    let error = early.step().await.unwrap_err().to_string();
    assert!(
        error.contains("until this database has met its stream"),
        "{error}"
    );
    drop(early);
    assert_eq!(answered(&world.db).await, [1, 3]);

    world.weigh(3).await;
    let cases = meet(&world.db, &world.scales).await;
    assert_eq!(cases, [Case::AheadAtFirstContact, Case::Equal]);
    world.react().await;
    assert_eq!(answered(&world.db).await, [1, 3, 5, 7, 9]);
    assert_eq!(count(&world.db, "notices").await, 5);
    assert_eq!(count(&world.db, "relay_dead_letter").await, 0);
}

/// Its file is from before its first look at the stream. Its log says that it had begun before event 3.
#[tokio::test(start_paused = true)]
async fn a_reaction_that_began_now_and_lost_its_file_begins_before_its_first_answer() {
    let mut world = World::with(2).await;
    let image = Image::take(world.db.path());
    let consumer = || notices().starts(Start::Now);
    react_with(consumer(), &world.db, &world.parcels).await;
    world.weigh(4).await;
    react_with(consumer(), &world.db, &world.parcels).await;
    meet(&world.db, &world.scales).await;
    assert_eq!(answered(&world.db).await, [3, 5]);

    world.weigh(3).await;
    let path = world.scratch.path("older.db");
    image.copy_to(&path);
    let older = Database::open(path, options()).await.unwrap();
    std::mem::replace(&mut world.db, older).close().await;
    meet(&world.db, &world.scales).await;
    react_with(consumer(), &world.db, &world.parcels).await;
    assert_eq!(answered(&world.db).await, [3, 5, 7, 9]);
}

/// It was rejected, and later, after a retry, answered. The copy is from between the two.
#[tokio::test(start_paused = true)]
async fn an_imported_answer_takes_its_event_from_the_dead_letters() {
    let mut world = World::with(0).await;
    weigh_again(&world.producer, "a", 13).await.unwrap();
    meet(&world.producer, &world.parcels).await;
    react(&world.db, &world.parcels).await;
    assert_eq!(count(&world.db, "relay_dead_letter").await, 1);
    let image = Image::take(world.db.path());
    let cured = cured();
    assert_eq!(cured.retry(&world.db, "a").await.unwrap().applied, 1);
    meet(&world.db, &world.scales).await;
    world.db.close().await;
    image.roll_back(&world.scratch.path("scales.db"));
    world.open().await;
    assert_eq!(count(&world.db, "relay_dead_letter").await, 1);
    meet(&world.db, &world.scales).await;
    assert_eq!(count(&world.db, "relay_dead_letter").await, 0);
    assert_eq!(cured.retry(&world.db, "a").await.unwrap().applied, 0);
    assert_eq!(answered(&world.db).await, [1]);
}

/// Quarantined answers are in no log: the events they answered count as unanswered.
#[tokio::test(start_paused = true)]
async fn answers_that_an_adoption_sets_aside_are_given_again() {
    let mut world = World::with(3).await;
    world.react().await;
    let image = Image::take(world.db.path());
    image.copy_to(&world.scratch.path("rival.db"));
    let mut unmarked = options();
    unmarked.open_without_stream = true;
    let rival = Database::open(world.scratch.path("rival.db"), unmarked)
        .await
        .unwrap();
    world.weigh(2).await;
    // The rival answers 5 and is the one that publishes; here 5 and 9 are answered while the broker is away, and 7 is dead.
    react(&rival, &world.parcels).await;
    meet(&rival, &world.scales).await;
    world.weigh(1).await;
    weigh_again(&world.producer, "a", 13).await.unwrap();
    world.weigh(2).await;
    react(&world.db, &world.parcels).await;
    assert_eq!(meet(&world.db, &world.scales).await, [Case::Forked]);
    world.db.close().await;
    world.open().await;
    adopt_stream(&world.db, &world.scales).await.unwrap();
    meet(&world.db, &world.scales).await;
    world.react().await;
    assert_eq!(answered(&world.db).await, [1, 3, 5, 9]);
    let letters = letters_of(&notices(), &world.db).await;
    assert_eq!(
        letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(),
        [7]
    );
}

/// None of its answers is left, and what lay before its start was never its own to answer.
#[tokio::test(start_paused = true)]
async fn an_adoption_takes_a_reaction_back_to_where_it_began_and_no_further() {
    let mut world = World::with(3).await;
    let late = || notices().starts(Start::Now);
    react_with(late(), &world.db, &world.parcels).await;
    assert_eq!(answered(&world.db).await, [] as [u64; 0]);
    let image = Image::take(world.db.path());
    image.copy_to(&world.scratch.path("rival.db"));
    let rival = Database::open(world.scratch.path("rival.db"), unmarked())
        .await
        .unwrap();
    world.weigh(2).await;
    react_with(late(), &rival, &world.parcels).await;
    meet(&rival, &world.scales).await;
    world.weigh(2).await;
    react_with(late(), &world.db, &world.parcels).await;
    assert_eq!(answered(&world.db).await, [5, 7]);
    assert_eq!(meet(&world.db, &world.scales).await, [Case::Forked]);
    world.db.close().await;
    world.open().await;
    adopt_stream(&world.db, &world.scales).await.unwrap();
    meet(&world.db, &world.scales).await;
    react_with(late(), &world.db, &world.parcels).await;
    assert_eq!(answered(&world.db).await, [5, 7]);
}

/// Answers every event with two, as far as the service's tables lack them. Counts how often it is asked.
fn pairs(asked: &Arc<AtomicUsize>) -> Consumer {
    let asked = asked.clone();
    let answer = move |tx: &Tx<'_>, event: &Received<Weighed>| {
        asked.fetch_add(1, Ordering::Relaxed);
        for part in [1, 2] {
            let parcel_event = event.seq * 10 + part;
            let sql = "insert or ignore into notices values (?1)";
            if tx.execute(sql, [parcel_event])? == 1 {
                notice(tx, parcel_event)?;
            }
        }
        Ok(())
    };
    Consumer::reaction("pairs", answer)
}

fn notice(tx: &Tx<'_>, parcel_event: u64) -> Result<u64, relay::EmitError> {
    tx.emit(&AnyEvent::new(
        "scales.noticed.v1",
        "a",
        &Noticed { parcel_event },
    ))
}

async fn import_records(db: &Database, records: &[Record]) {
    let mut outbox = db.outbox();
    let head = outbox.head().await.unwrap().unwrap();
    outbox.append_after(&head, records).await.unwrap();
}

fn unmarked() -> Options {
    Options {
        open_without_stream: true,
        ..options()
    }
}

/// Two events were answered with two each. Of the four answers so many come home.
#[tokio::test(start_paused = true)]
async fn an_answer_imported_in_part_is_finished_and_a_whole_one_is_not_given_again() {
    let world = World::with(2).await;
    let image = Image::take(world.db.path());
    let asked = Arc::new(AtomicUsize::new(0));
    react_with(pairs(&asked), &world.db, &world.parcels).await;
    let lived = outbox_rows(&world.db).await;
    assert_eq!(answered(&world.db).await, [11, 12, 21, 22]);
    for (home, asked_again) in [(0, 2), (1, 2), (2, 1), (3, 1), (4, 0)] {
        let path = world.scratch.path(&format!("scales-{home}.db"));
        image.copy_to(&path);
        let db = Database::open(path, unmarked()).await.unwrap();
        import_records(&db, &lived[..home]).await;
        let asked = Arc::new(AtomicUsize::new(0));
        react_with(pairs(&asked), &db, &world.parcels).await;
        assert_eq!(answered(&db).await, [11, 12, 21, 22], "{home} was imported");
        assert_eq!(asked.load(Ordering::Relaxed), asked_again, "{home}");
    }
}

/// All but the last say that more follows; what is rolled back on the way leaves no such word behind.
#[tokio::test(start_paused = true)]
async fn only_the_last_event_of_an_answer_ends_it() {
    let world = World::with(1).await;
    let answer = |tx: &Tx<'_>, event: &Received<Weighed>| {
        notice(tx, event.seq * 10 + 1)?;
        tx.execute_batch("savepoint tried")?;
        notice(tx, event.seq * 10 + 2)?;
        tx.execute_batch("rollback to tried; release tried")?;
        notice(tx, event.seq * 10 + 3)?;
        tx.execute_batch("savepoint tried")?;
        notice(tx, event.seq * 10 + 4)?;
        tx.execute_batch("rollback to tried; release tried")?;
        Ok(())
    };
    let consumer = Consumer::reaction("tries", answer);
    react_with(consumer, &world.db, &world.parcels).await;
    assert_eq!(answered(&world.db).await, [11, 13]);
    let says_more = outbox_rows(&world.db).await.into_iter().map(|row| {
        let envelope = relay::event::Envelope::parse(&row.bytes).unwrap();
        let cause = envelope.cause.unwrap();
        assert!(cause.starts_with("tries PARCELS 1 "), "{cause}");
        cause.ends_with(" more")
    });
    assert_eq!(says_more.collect::<Vec<_>>(), [true, false]);
}

/// The very first event of a log may be rolled back, too.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_tried_twice_may_begin_a_log() {
    let world = World::with(1).await;
    let answer = |tx: &Tx<'_>, event: &Received<Weighed>| {
        tx.execute_batch("savepoint tried")?;
        notice(tx, event.seq * 10 + 1)?;
        tx.execute_batch("rollback to tried; release tried")?;
        notice(tx, event.seq * 10 + 2)?;
        Ok(())
    };
    let consumer = Consumer::reaction("tries", answer);
    react_with(consumer, &world.db, &world.parcels).await;
    assert_eq!(answered(&world.db).await, [12]);
}

/// The other line holds only the first half of the answer: the second is in no log any more.
#[tokio::test(start_paused = true)]
async fn an_answer_that_an_adoption_cuts_in_two_is_finished() {
    let mut world = World::with(1).await;
    let image = Image::take(world.db.path());
    let asked = Arc::new(AtomicUsize::new(0));
    react_with(pairs(&asked), &world.db, &world.parcels).await;
    let lived = outbox_rows(&world.db).await;
    image.copy_to(&world.scratch.path("rival.db"));
    let rival = Database::open(world.scratch.path("rival.db"), unmarked())
        .await
        .unwrap();
    import_records(&rival, &lived[..1]).await;
    let write = rival.write(|tx| {
        tx.execute("insert into notices values (99)", [])?;
        notice(tx, 99)
    });
    write.await.unwrap();
    meet(&rival, &world.scales).await;
    assert_eq!(meet(&world.db, &world.scales).await, [Case::Forked]);
    world.db.close().await;
    world.open().await;
    adopt_stream(&world.db, &world.scales).await.unwrap();
    meet(&world.db, &world.scales).await;
    react_with(pairs(&asked), &world.db, &world.parcels).await;
    assert_eq!(answered(&world.db).await, [11, 99, 12]);
}

/// 3 was answered before 1, which had been a dead letter. That 1 is the last answer that is left says nothing of 3.
#[tokio::test(start_paused = true)]
async fn an_adoption_remembers_every_answer_that_is_left_whatever_their_order() {
    let mut world = World::with(0).await;
    weigh_again(&world.producer, "a", 13).await.unwrap();
    world.weigh(2).await;
    world.react().await;
    let retried = cured().retry(&world.db, "a").await;
    assert_eq!(retried.unwrap().applied, 1);
    meet(&world.db, &world.scales).await;
    assert_eq!(answered(&world.db).await, [3, 1]);
    let image = Image::take(world.db.path());
    image.copy_to(&world.scratch.path("rival.db"));
    let rival = Database::open(world.scratch.path("rival.db"), unmarked())
        .await
        .unwrap();
    world.weigh(2).await;
    react(&rival, &world.parcels).await;
    meet(&rival, &world.scales).await;
    react(&world.db, &world.parcels).await;
    assert_eq!(meet(&world.db, &world.scales).await, [Case::Forked]);
    world.db.close().await;
    world.open().await;
    adopt_stream(&world.db, &world.scales).await.unwrap();
    meet(&world.db, &world.scales).await;
    world.react().await;
    assert_eq!(answered(&world.db).await, [3, 1, 5]);
    assert_eq!(count(&world.db, "relay_dead_letter").await, 0);
}

//! Reactions whose stream has forked: they go on from before the fork, and each event of the line that is left is answered
//! exactly once.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use relay::consume::{Progress, Start};
use relay::event::{Envelope, EventId};
use relay::log::Record;
use relay::operate::new_epoch;
use relay::testing::AnyEvent;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Received, Tx};

use crate::support::{
    Front, Image, Scratch, Weighed, count, letters_of, meet, outbox_rows, seeds, unmarked,
    weigh_again, weigh_many,
};

/// Answers parcels of an even weight with an event. A dead letter: 13 g.
fn evens(front: &Front) -> Consumer {
    let answer = |tx: &Tx<'_>, event: &Received<Weighed>| {
        if event.event.weight_g == 13 {
            return Err(ApplyError::Rejected("unlucky".to_owned()));
        }
        if event.event.weight_g % 2 == 0 {
            tx.emit(&AnyEvent::new(
                "scales.noticed.v1",
                &event.aggregate,
                &event.event,
            ))?;
        }
        Ok(())
    };
    Consumer::reaction("evens", answer).asks(Arc::new(front.clone()))
}

/// The parcels' stream, and a reaction to it.
struct World {
    scratch: Scratch,
    broker: MemoryBroker,
    front: Front,
    producer: Database,
    reader: Database,
    /// Lines that this producer has had.
    lines: u32,
}

impl World {
    async fn new() -> Self {
        let (scratch, broker) = (Scratch::quick(), MemoryBroker::new(1));
        let (producer, reader) = (scratch.producer().await, scratch.reader().await);
        Self {
            front: Front::of(&producer),
            scratch,
            broker,
            producer,
            reader,
            lines: 1,
        }
    }

    async fn write(&self, weights: &[i64]) {
        for weight_g in weights {
            weigh_again(&self.producer, "a", *weight_g).await.unwrap();
        }
        meet(&self.producer, &self.broker).await;
    }

    /// The line that went on from `image` is the one that is left: it has events of its own, and takes the stream.
    async fn fork(&mut self, image: &Image, weights: &[i64]) {
        self.front.leave();
        self.lines += 1;
        let path = self.scratch.path(&format!("line-{}.db", self.lines));
        image.copy_to(&path);
        let kept = Database::open(path, unmarked()).await.unwrap();
        std::mem::replace(&mut self.producer, kept).close().await;
        for weight_g in weights {
            weigh_again(&self.producer, "a", *weight_g).await.unwrap();
        }
        meet(&self.producer, &self.broker).await;
        new_epoch(&self.producer, &self.broker).await.unwrap();
        let path = self.producer.path().to_owned();
        self.producer.close().await;
        self.producer = Database::open(path, unmarked()).await.unwrap();
        meet(&self.producer, &self.broker).await;
        self.front.serve(&self.producer);
    }

    /// Steps until everything is applied; answers where it went back to, each time it did.
    async fn react(&self, consumer: &Consumer) -> Vec<u64> {
        let mut follower = consumer.follow(&self.reader, self.broker.reader());
        let mut resumed = Vec::new();
        for _ in 0..200 {
            if let Ok(Progress::Resumed(after)) = follower.step().await {
                resumed.push(after);
            }
            let head = self.broker.records().last().map_or(0, |last| last.seq);
            let status = consumer.status().borrow().clone();
            if status.offset == head && status.trouble.is_none() {
                return resumed;
            }
        }
        panic!("stuck: {:?}", consumer.status().borrow());
    }

    /// What a consumer that cannot go on says, step after step.
    async fn stands_still(&self, consumer: &Consumer) -> String {
        let mut follower = consumer.follow(&self.reader, self.broker.reader());
        let mut said = String::new();
        for _ in 0..5 {
            said = follower.step().await.unwrap_err().to_string();
        }
        said
    }

    /// How often each event was answered.
    async fn answered(&self) -> BTreeMap<EventId, u64> {
        let mut answered = BTreeMap::new();
        for row in outbox_rows(&self.reader).await {
            let envelope = Envelope::parse(&row.bytes).unwrap();
            let cause = envelope.cause.unwrap();
            let id = cause.split(' ').nth(3).unwrap().parse().unwrap();
            *answered.entry(id).or_default() += 1;
        }
        answered
    }

    /// Each event of the stream that wants an answer has one, and none has two.
    async fn assert_answered_once(&self) {
        let answered = self.answered().await;
        assert!(answered.values().all(|times| *times == 1), "{answered:?}");
        for record in self.broker.records() {
            let (id, weight_g) = weight_of(&record);
            let has_answer = answered.contains_key(&id);
            let wants_one = weight_g % 2 == 0 && weight_g != 13;
            assert_eq!(has_answer, wants_one, "event {}", record.seq);
        }
    }
}

fn weight_of(record: &Record) -> (EventId, i64) {
    let envelope = Envelope::parse(&record.bytes).unwrap();
    let event: Weighed = serde_json::from_str(envelope.data.get()).unwrap();
    (envelope.id, event.weight_g)
}

#[tokio::test(start_paused = true)]
async fn a_reaction_goes_on_after_a_fork_and_answers_what_the_line_that_is_left_holds() {
    let mut world = World::new().await;
    let consumer = evens(&world.front);
    world.write(&[2, 1, 4, 1]).await;
    let image = Image::take(world.producer.path());
    world.write(&[1, 6, 8]).await;
    world.react(&consumer).await;
    world.fork(&image, &[10, 1, 1, 12]).await;
    assert_eq!(
        world.react(&consumer).await,
        [3],
        "the last answer before the fork"
    );
    world.assert_answered_once().await;
    let aside = world.reader.quarantined().await.unwrap();
    let places: Vec<u64> = aside.iter().map(|lost| lost.seq).collect();
    assert_eq!(
        places,
        [6, 7],
        "the answered ones, and the last one applied"
    );
    assert_eq!(count(&world.reader, "relay_audit").await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_left_may_be_the_shorter_one() {
    let mut world = World::new().await;
    let consumer = evens(&world.front);
    world.write(&[2]).await;
    let image = Image::take(world.producer.path());
    world.write(&[4, 6, 8, 10]).await;
    world.react(&consumer).await;
    world.fork(&image, &[12]).await;
    assert_eq!(world.react(&consumer).await, [1]);
    world.assert_answered_once().await;
}

/// Two forks, at places that the seed draws, with a reaction that is at any place when they come.
#[tokio::test(start_paused = true)]
async fn fork_after_fork_every_event_of_the_stream_is_answered_once() {
    for seed in seeds(40) {
        println!("seed {seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let mut world = World::new().await;
        let consumer = evens(&world.front);
        let mut drawn = |from: usize| -> Vec<i64> {
            let count = random.random_range(from..6);
            (0..count).map(|_| random.random_range(1..=6)).collect()
        };
        world.write(&drawn(0)).await;
        for _ in 0..2 {
            world.write(&drawn(0)).await;
            world.react(&consumer).await;
            world.write(&drawn(0)).await;
            let image = Image::take(world.producer.path());
            world.write(&drawn(1)).await;
            world.react(&consumer).await;
            world.write(&drawn(0)).await;
            world.fork(&image, &drawn(1)).await;
            world.react(&consumer).await;
            world.write(&drawn(0)).await;
            world.react(&consumer).await;
            world.assert_answered_once().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn dead_letters_of_the_other_line_move_to_the_audit_and_those_before_the_fork_stay() {
    let mut world = World::new().await;
    let consumer = evens(&world.front);
    world.write(&[13]).await;
    let image = Image::take(world.producer.path());
    world.write(&[2]).await;
    weigh_again(&world.producer, "b", 13).await.unwrap();
    meet(&world.producer, &world.broker).await;
    world.react(&consumer).await;
    assert_eq!(count(&world.reader, "relay_dead_letter").await, 3);
    world.fork(&image, &[4]).await;
    assert_eq!(
        world.react(&consumer).await,
        [1],
        "it is known that 1 was tried"
    );
    let known = letters_of(&consumer, &world.reader).await;
    let letters: Vec<_> = known.iter().map(|letter| letter.seq).collect();
    assert_eq!(
        letters,
        [1, 2],
        "the one that was rejected, and the one behind it"
    );
    let stream = world.broker.records();
    assert_eq!(known[1].event_id, weight_of(&stream[1]).0);
    assert_eq!(count(&world.reader, "relay_dead_letter_audit").await, 2);
}

/// It began after event 3, which the line that is left does not hold: what there is before is not its own to answer.
#[tokio::test(start_paused = true)]
async fn a_reaction_that_began_on_the_other_line_waits_for_an_operator() {
    let mut world = World::new().await;
    let consumer = evens(&world.front).starts(Start::Now);
    world.write(&[2]).await;
    let image = Image::take(world.producer.path());
    world.write(&[4, 6]).await;
    world.react(&consumer).await;
    world.write(&[8]).await;
    world.react(&consumer).await;
    assert_eq!(world.answered().await.len(), 1);
    world.fork(&image, &[10, 12]).await;
    let said = world.stands_still(&consumer).await;
    assert!(
        said.contains("say with start-at where it goes on"),
        "{said}"
    );

    let reader = world.broker.reader();
    let to = consumer.start_at(&world.reader, &reader, Start::At(1));
    assert_eq!(to.await.unwrap().unwrap().seq, 1);
    world.react(&consumer).await;
    assert_eq!(world.answered().await.len(), 3, "10 and 12");
}

#[tokio::test(start_paused = true)]
async fn a_reaction_whose_last_held_answer_is_kept_nowhere_waits_for_an_operator() {
    let mut world = World::new().await;
    let consumer = evens(&world.front);
    world.write(&[2, 1, 1]).await;
    let image = Image::take(world.producer.path());
    world.write(&[1]).await;
    world.react(&consumer).await;
    world.fork(&image, &[1, 4]).await;
    let prune = "delete from relay_outbox where seq < 3";
    let pruned = world.producer.write(|tx| tx.execute(prune, []));
    pruned.await.unwrap();
    let said = world.stands_still(&consumer).await;
    assert!(
        said.contains("say with start-at where it goes on"),
        "{said}"
    );
    assert_eq!(count(&world.reader, "relay_audit").await, 0);
}

/// What its own log does not keep any more it may have answered: it goes back to no place before that.
#[tokio::test(start_paused = true)]
async fn a_reaction_whose_own_log_is_pruned_never_goes_back_before_the_answers_it_keeps() {
    for (is_letter, start) in [
        (false, Start::First),
        (true, Start::First),
        (false, Start::At(1)),
    ] {
        let mut world = World::new().await;
        let consumer = evens(&world.front).starts(start);
        let first = if is_letter { 13 } else { 1 };
        weigh_again(&world.producer, "b", first).await.unwrap();
        world.write(&[2, 4]).await;
        let image = Image::take(world.producer.path());
        world.write(&[6]).await;
        world.react(&consumer).await;
        let prune = "delete from relay_outbox where seq < 3";
        let pruned = world.reader.write(|tx| tx.execute(prune, []));
        assert_eq!(pruned.await.unwrap(), 2, "the answers to 2 and 4");
        world.fork(&image, &[8, 1]).await;
        let said = world.stands_still(&consumer).await;
        assert!(
            said.contains("say with start-at where it goes on"),
            "{said}"
        );
        assert_eq!(world.answered().await.len(), 1, "6, and nothing twice");
    }
}

/// It was started on the line that is left, so the answers to both lines are in its log.
#[tokio::test(start_paused = true)]
async fn answers_to_another_line_lead_to_no_second_answer() {
    let mut world = World::new().await;
    let consumer = evens(&world.front);
    world.write(&[2, 1]).await;
    let image = Image::take(world.producer.path());
    world.write(&[4]).await;
    world.react(&consumer).await;
    world.fork(&image, &[1, 6]).await;
    let reader = world.broker.reader();
    let to = consumer.start_at(&world.reader, &reader, Start::At(2));
    assert_eq!(to.await.unwrap().unwrap().seq, 2);
    world.react(&consumer).await;
    let image = Image::take(world.producer.path());
    world.write(&[1]).await;
    world.react(&consumer).await;
    world.fork(&image, &[1, 8]).await;
    assert_eq!(
        world.react(&consumer).await,
        [2],
        "3 is of the other line, so halving ends before it"
    );
    world.assert_answered_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_reaction_that_has_answered_nothing_reads_everything_again() {
    let mut world = World::new().await;
    let consumer = evens(&world.front);
    world.write(&[1, 1]).await;
    let image = Image::take(world.producer.path());
    world.write(&[1, 1]).await;
    world.react(&consumer).await;
    world.fork(&image, &[2, 1]).await;
    assert_eq!(world.react(&consumer).await, [0]);
    world.assert_answered_once().await;
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_does_not_answer_changes_nothing() {
    let mut world = World::new().await;
    let consumer = evens(&world.front);
    weigh_many(&world.producer, 2).await;
    let image = Image::take(world.producer.path());
    world.write(&[2]).await;
    world.react(&consumer).await;
    world.fork(&image, &[4]).await;
    world.front.leave();
    let said = world.stands_still(&consumer).await;
    assert!(said.contains("the producer does not run"), "{said}");
    assert!(said.contains("this is another log"), "{said}");
    world.front.serve(&world.producer);
    assert_eq!(world.react(&consumer).await, [2]);
}

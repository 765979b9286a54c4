//! Dead letters: a poison event holds up only its own key, comes back in order, and nothing of it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use relay::consume::{LetterState, Progress};
use relay::rusqlite;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Received, Rows, Stop};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::support::{
    Scratch, Weighed, applied, catch_up, count, emit, letters_of, outbox_rows, owned, publish,
    remember, weigh, weighed,
};

#[tokio::test(start_paused = true)]
async fn a_poison_event_parks_its_key_and_no_other_and_a_retry_applies_all_in_order() {
    let scratch = Scratch::new();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    let cured = Arc::new(AtomicBool::new(false));
    let consumer = Consumer::projection("parcel-history", {
        let cured = cured.clone();
        move |rows, event: &Received<Weighed>| match event.event.weight_g {
            13 if !cured.load(Ordering::Relaxed) => Err(ApplyError::Rejected("unlucky".to_owned())),
            _ => remember(rows, event),
        }
    });
    for (parcel, weight_g, version) in [
        ("a", 1, 1),
        ("b", 13, 1),
        ("a", 2, 2),
        ("b", 2, 2),
        ("b", 3, 3),
        ("a", 3, 3),
    ] {
        weigh(&producer, parcel, weight_g, version).await;
    }
    publish(&producer, &broker).await;
    catch_up(&consumer, &reader, &broker).await;

    let states: Vec<_> = letters_of(&consumer, &reader)
        .await
        .into_iter()
        .map(|letter| (letter.seq, letter.state))
        .collect();
    assert_eq!(
        states,
        [
            (2, LetterState::Dead),
            (4, LetterState::Parked),
            (5, LetterState::Parked)
        ]
    );
    assert_eq!(
        applied(&reader).await,
        [(1, "a"), (3, "a"), (6, "a")].map(owned)
    );
    assert_eq!(consumer.status().borrow().dead_letters, 3);

    let in_vain = consumer.retry(&reader, "b").await.unwrap();
    assert_eq!(
        (in_vain.applied, in_vain.stopped_at),
        (0, Some((2, "unlucky".to_owned())))
    );
    assert_eq!(letters_of(&consumer, &reader).await[0].attempts, 2);

    cured.store(true, Ordering::Relaxed);
    let retried = consumer.retry(&reader, "b").await.unwrap();
    assert_eq!((retried.applied, retried.stopped_at), (3, None));
    let expected = [(1, "a"), (3, "a"), (6, "a"), (2, "b"), (4, "b"), (5, "b")];
    assert_eq!(
        applied(&reader).await,
        expected.map(owned),
        "b's events came in their order"
    );
    assert_eq!(count(&reader, "relay_dead_letter").await, 0);
    assert_eq!(count(&reader, "relay_dead_letter_audit").await, 3);
    assert_eq!(consumer.status().borrow().dead_letters, 0);

    weigh(&producer, "b", 4, 4).await;
    publish(&producer, &broker).await;
    catch_up(&consumer, &reader, &broker).await;
    assert_eq!(
        applied(&reader).await.last(),
        Some(&owned((7, "b"))),
        "the key flows again"
    );
}

#[tokio::test(start_paused = true)]
async fn a_discard_gives_up_one_event_keeps_its_bytes_and_releases_the_rest() {
    let scratch = Scratch::new();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    let consumer = Consumer::projection("weights", |rows, event: &Received<Weighed>| {
        let sql = "insert or replace into parcels values (?1, ?2)"; // the schema refuses weights below 1
        rows.execute(sql, (&event.event.parcel, event.event.weight_g))?;
        Ok(())
    });
    for (weight_g, version) in [(-5, 1), (7, 2)] {
        let event = weighed("a", weight_g, version);
        producer.write(move |tx| emit(tx, &event)).await.unwrap();
    }
    publish(&producer, &broker).await;
    catch_up(&consumer, &reader, &broker).await;
    let parked = consumer.discard(&reader, 2, "not this one").await;
    assert!(
        parked.unwrap().is_none(),
        "a parked event cannot be discarded"
    );

    let released = consumer.discard(&reader, 1, "a scale was broken").await;
    let released = released.unwrap().unwrap();
    assert_eq!((released.applied, released.stopped_at), (1, None));
    let kept = reader.read(|rows| {
        let sql = "select note, envelope from relay_dead_letter_audit where action = 'discarded'";
        rows.query_row(sql, [], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?))
        })
    });
    let (note, bytes) = kept.await.unwrap();
    assert_eq!(note, "a scale was broken");
    assert_eq!(
        bytes,
        outbox_rows(&producer).await[0].bytes,
        "nothing is dropped, not even what is given up"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_contained_and_makes_a_dead_letter() {
    let scratch = Scratch::new();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    let consumer = Consumer::projection("weights", |rows, event: &Received<Weighed>| {
        assert!(event.event.parcel != "b", "no parcel b");
        remember(rows, event)
    });
    for parcel in ["a", "b", "c"] {
        weigh(&producer, parcel, 1, 1).await;
    }
    publish(&producer, &broker).await;
    catch_up(&consumer, &reader, &broker).await;
    let letters = letters_of(&consumer, &reader).await;
    assert_eq!(letters.len(), 1);
    assert!(
        letters[0].reason.contains("no parcel b"),
        "{}",
        letters[0].reason
    );
    assert_eq!(applied(&reader).await, [(1, "a"), (3, "c")].map(owned));
}

#[tokio::test(start_paused = true)]
async fn what_the_event_would_meet_again_each_time_is_a_dead_letter_and_not_a_stall() {
    let scratch = Scratch::new();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    for parcel in ["a", "b"] {
        weigh(&producer, parcel, 1, 1).await;
    }
    publish(&producer, &broker).await;
    let consumer = Consumer::projection("lookup", |rows, event: &Received<Weighed>| {
        match event.event.parcel.as_str() {
            "a" => rows.query_row("select 1 where 0", [], |_| Ok(()))?, // no rows
            _ => rows.query_row("select 1", [], |_| Ok(()))?,
        }
        Ok(())
    });
    catch_up(&consumer, &reader, &broker).await;
    let letters = letters_of(&consumer, &reader).await;
    assert_eq!(
        letters.iter().map(|letter| letter.seq).collect::<Vec<_>>(),
        [1]
    );
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Numbered {
    number: u64,
}

relay::events! {
    enum Choosy on "PARCELS" { "parcels.numbered.v1" => Numbered(Numbered) about number }
}

relay::events! {
    enum Strict on "PARCELS" { "parcels.weighed.v1" => Numbered(Numbered) about number }
}

#[tokio::test(start_paused = true)]
async fn unknown_types_are_skipped_and_counted_and_undecodable_ones_are_dead() {
    let scratch = Scratch::new();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    for parcel in ["a", "b"] {
        weigh(&producer, parcel, 1, 1).await;
    }
    publish(&producer, &broker).await;
    let choosy = Consumer::projection("choosy", |_, _: &Received<Choosy>| Ok(()));
    catch_up(&choosy, &reader, &broker).await;
    assert_eq!(choosy.status().borrow().skipped, 2);
    assert_eq!(choosy.status().borrow().dead_letters, 0);

    let strict = Consumer::projection("strict", |_, _: &Received<Strict>| Ok(()));
    catch_up(&strict, &reader, &broker).await;
    let letters = letters_of(&strict, &reader).await;
    assert_eq!(letters.len(), 2);
    assert!(
        letters[0].reason.contains("undecodable"),
        "{}",
        letters[0].reason
    );
}

/// A deploy whose SQL does not fit its schema: each of these statements would fail for every event there is.
#[tokio::test]
async fn a_mistake_of_the_program_stops_the_consumer_and_buries_nothing() {
    let mistakes: [fn(&Rows<'_>) -> rusqlite::Result<()>; 5] = [
        |rows| rows.execute("insert into missing values (1)", []).map(drop),
        |rows| rows.execute("update parcels set colour = 1", []).map(drop),
        |rows| rows.execute("insert parcels", []).map(drop),
        |rows| {
            rows.execute("delete from parcels where id = ?1", [])
                .map(drop)
        },
        |rows| rows.query_row("select 1", [], |row| row.get::<_, i64>("two").map(drop)),
    ];
    for mistake in mistakes {
        let scratch = Scratch::new();
        let (producer, reader) = (scratch.producer().await, scratch.reader().await);
        let broker = MemoryBroker::new(1);
        for parcel in ["a", "b", "c"] {
            weigh(&producer, parcel, 1, 1).await;
        }
        publish(&producer, &broker).await;
        let consumer =
            Consumer::projection("parcel-history", move |rows, event: &Received<Weighed>| {
                match event.seq {
                    1 => remember(rows, event),
                    _ => Ok(mistake(rows)?),
                }
            });
        let run = consumer.run(&reader, broker.clone(), Stop::new());
        let ended = tokio::time::timeout(Duration::from_secs(60), run).await;
        ended.expect("it goes on").expect_err("it stops");
        assert_eq!(count(&reader, "relay_dead_letter").await, 0);
        assert_eq!(
            applied(&reader).await,
            [(1, "a")].map(owned),
            "what came before is kept, and the rest waits for a better program"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_one_events_data_cannot_do_is_a_dead_letter_of_its_key() {
    let data: [fn(&Rows<'_>) -> rusqlite::Result<()>; 4] = [
        |rows| {
            rows.execute("insert into parcels values ('heavy', -1)", [])
                .map(drop)
        },
        |rows| rows.query_row("select json('{')", [], |_| Ok(())),
        |rows| rows.query_row("select 1 where false", [], |_| Ok(())),
        |rows| {
            rows.execute("insert into parcels values ('x', 'y')", [])
                .map(drop)
        },
    ];
    for unfit in data {
        let scratch = Scratch::new();
        let (producer, reader) = (scratch.producer().await, scratch.reader().await);
        let broker = MemoryBroker::new(1);
        for parcel in ["a", "b"] {
            weigh(&producer, parcel, 1, 1).await;
        }
        publish(&producer, &broker).await;
        let consumer =
            Consumer::projection("parcel-history", move |rows, event: &Received<Weighed>| {
                match event.seq {
                    1 => Ok(unfit(rows)?),
                    _ => remember(rows, event),
                }
            });
        catch_up(&consumer, &reader, &broker).await;
        assert_eq!(count(&reader, "relay_dead_letter").await, 1);
        assert_eq!(applied(&reader).await, [(2, "b")].map(owned));
    }
}

/// Parcel "b" needs something that does not answer.
fn needs_another(open: &Arc<AtomicBool>) -> Consumer {
    let open = open.clone();
    Consumer::projection(
        "parcel-history",
        move |rows, event: &Received<Weighed>| match event.event.parcel.as_str() {
            "b" if !open.load(Ordering::Relaxed) => {
                Err(ApplyError::Transient("not yet".to_owned()))
            }
            _ => remember(rows, event),
        },
    )
}

#[tokio::test(start_paused = true)]
async fn an_event_that_stays_transient_becomes_a_dead_letter_after_its_attempts_and_not_before() {
    for attempts in [1, 2, 5] {
        let scratch = Scratch::new();
        let (producer, reader) = (scratch.producer().await, scratch.reader().await);
        let broker = MemoryBroker::new(1);
        for (parcel, version) in [("a", 1), ("b", 1), ("b", 2), ("a", 2)] {
            weigh(&producer, parcel, 1, version).await;
        }
        publish(&producer, &broker).await;
        let open = Arc::new(AtomicBool::new(false));
        let consumer = needs_another(&open).gives_up_after(attempts);
        let mut follower = consumer.follow(&reader, broker.reader());
        let (mut failed, mut connected) = (0, 0);
        while consumer.status().borrow().offset < 4 {
            match follower.step().await {
                Ok(progress) => connected += u32::from(progress == Progress::Connected),
                Err(error) => {
                    let said = error.to_string();
                    assert!(
                        said.contains("event 2 is not applied yet: not yet"),
                        "{said}"
                    );
                    failed += 1;
                }
            }
        }
        assert_eq!(failed, attempts - 1);
        assert_eq!(connected, 1, "the session is not what failed");
        let dead = &letters_of(&consumer, &reader).await[0];
        assert_eq!(dead.seq, 2);
        assert_eq!(dead.reason, format!("not yet; tried {attempts} times"));
        assert_eq!(dead.attempts, attempts);
        assert_eq!(applied(&reader).await, [(1, "a"), (4, "a")].map(owned));
        open.store(true, Ordering::Relaxed);
        assert_eq!(consumer.retry(&reader, "b").await.unwrap().applied, 2);
    }
}

#[tokio::test]
async fn a_consumer_that_is_stopped_between_two_attempts_tries_again_after_its_restart() {
    let scratch = Scratch::new();
    let (producer, reader) = (scratch.producer().await, scratch.reader().await);
    let broker = MemoryBroker::new(1);
    weigh(&producer, "b", 1, 1).await;
    publish(&producer, &broker).await;
    let open = Arc::new(AtomicBool::new(false));
    let consumer = needs_another(&open);
    let stop = Stop::new();
    let run = tokio::spawn({
        let (consumer, reader, from, stop) = (
            consumer.clone(),
            reader.clone(),
            broker.reader(),
            stop.clone(),
        );
        async move { consumer.run(&reader, from, stop).await }
    });
    let mut status = consumer.status();
    let troubled = status.wait_for(|status| status.trouble.is_some());
    let troubled = tokio::time::timeout(Duration::from_secs(60), troubled).await;
    let said = troubled.unwrap().unwrap().trouble.clone().unwrap();
    assert!(said.contains("event 1 is not applied yet"), "{said}");
    stop.cancel();
    run.await.unwrap().unwrap();
    assert_eq!(count(&reader, "relay_dead_letter").await, 0);
    open.store(true, Ordering::Relaxed);
    catch_up(&consumer, &reader, &broker).await;
    assert_eq!(applied(&reader).await, [(1, "b")].map(owned));
}

//! Traces: an event says which request it came from, and an answer to it says so, too.

use relay::event::{Envelope, Trace, traced, written};
use relay::testing::AnyEvent;
use relay::testing::memory::MemoryBroker;
use relay::{Consumer, Database, Options, Received, rusqlite};

use crate::support::{MIGRATIONS, Scratch, Weighed, meet, outbox_rows, weigh};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn trace() -> Trace {
    Trace {
        traceparent: Some(PARENT.to_owned()),
        request_id: Some("r-1".to_owned()),
    }
}

/// Traceparent and request id of every event.
async fn traces(db: &Database) -> Vec<(Option<String>, Option<String>)> {
    let rows = outbox_rows(db).await;
    let of = |bytes: &[u8]| {
        let envelope = Envelope::parse(bytes).unwrap();
        let text = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| text.into_owned());
        (text(envelope.traceparent), text(envelope.requestid))
    };
    rows.iter().map(|row| of(&row.bytes)).collect()
}

fn told() -> (Option<String>, Option<String>) {
    (Some(PARENT.to_owned()), Some("r-1".to_owned()))
}

#[tokio::test]
async fn an_event_carries_the_trace_of_its_request_and_of_no_other() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let within = traced(trace(), weigh(&db, "a", 1, 1));
    let without = weigh(&db, "b", 1, 1);
    tokio::join!(within, without); // one commit, most likely
    weigh(&db, "c", 1, 1).await;
    let mut traces = traces(&db).await;
    assert_eq!(traces.pop(), Some((None, None)));
    traces.sort();
    assert_eq!(traces, [(None, None), told()]);
}

#[tokio::test]
async fn a_write_that_panics_leaves_no_trace_on_its_neighbours() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let panics = db.write(|_| -> Result<(), rusqlite::Error> { panic!("a planted panic") });
    let (panicked, _) = tokio::join!(traced(trace(), panics), weigh(&db, "a", 1, 1));
    assert!(panicked.is_err());
    assert_eq!(traces(&db).await, [(None, None)]);
}

#[tokio::test]
async fn a_write_tells_its_request_how_far_the_log_was() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh(&db, "a", 1, 1).await;
    let request = traced(trace(), async {
        assert_eq!(written(), None);
        let silent = db.write(|_| Ok::<_, rusqlite::Error>(())).await;
        silent.unwrap();
        assert_eq!(written(), Some(1), "it emitted nothing");
        weigh(&db, "b", 1, 1).await;
        assert_eq!(written(), Some(2));
        let refused = db.write(|tx| {
            crate::support::emit(tx, &crate::support::weighed("c", 1, 1)).unwrap();
            Err::<(), _>(rusqlite::Error::InvalidQuery)
        });
        refused.await.unwrap_err();
        written()
    });
    assert_eq!(request.await, Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_reaction_passes_on_the_trace_of_the_event_it_answers() {
    let scratch = Scratch::new();
    let producer = scratch.producer().await;
    traced(trace(), weigh(&producer, "a", 1, 1)).await;
    weigh(&producer, "b", 1, 1).await;
    let broker = MemoryBroker::new(1);
    meet(&producer, &broker).await;
    let options = Options::new("scale-service", "SCALES", MIGRATIONS);
    let db = Database::open(scratch.path("scales.db"), options)
        .await
        .unwrap();
    let noticed = Consumer::reaction("notices", notice);
    let mut follower = noticed.follow(&db, broker.reader());
    let stranger = Trace {
        request_id: Some("an operator".to_owned()),
        ..Trace::default()
    };
    traced(stranger, async {
        while noticed.status().borrow().offset < 2 {
            follower.step().await.unwrap();
        }
    })
    .await;
    assert_eq!(traces(&db).await, [told(), (None, None)]);
}

fn notice(tx: &relay::Tx<'_>, event: &Received<Weighed>) -> Result<(), relay::ApplyError> {
    tx.emit(&AnyEvent::new(
        "scales.noticed.v1",
        &event.aggregate,
        &event.seq,
    ))?;
    Ok(())
}

/// Recorded as they lie in a log: from before there were traces, and with one.
#[test]
fn an_envelope_decodes_with_and_without_a_trace_and_encodes_to_the_same_bytes() {
    let fixtures = ["users.created.v1", "users.created.v1.requestid"];
    let found = fixtures.map(|name| {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../event-schema/fixtures");
        let bytes = std::fs::read(format!("{folder}/{name}.json")).unwrap();
        let envelope = Envelope::parse(&bytes).unwrap();
        assert_eq!(envelope.to_bytes(), bytes.trim_ascii(), "{name}");
        (envelope.traceparent.is_some(), envelope.requestid.is_some())
    });
    assert_eq!(found, [(false, false), (true, true)]);
}

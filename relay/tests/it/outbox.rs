//! The outbox: an event is there if and only if its transaction committed, and the numbers have no holes.

use relay::event::{Envelope, MAX_ENVELOPE_BYTES};
use relay::testing::AnyEvent;
use relay::{EmitError, Event, WriteError};

use schemars::Schema;
use serde::Serialize;

use crate::support::{Scratch, Weighed, emit, outbox_rows, store_and_emit, weigh, weighed};

#[tokio::test]
async fn numbers_are_gapless_whatever_is_rolled_back() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    let writes = (0..200).map(|index| {
        let db = db.clone();
        async move {
            let event = weighed(&format!("parcel-{index}"), 1, 1);
            let write = db.write(move |tx| {
                store_and_emit(tx, &event)?;
                if index % 3 == 0 {
                    Err(EmitError::WrongStream {
                        event_type: String::new(),
                        stream: String::new(),
                    })
                } else {
                    Ok(())
                }
            });
            write.await.is_ok()
        }
    });
    let kept = futures::future::join_all(writes)
        .await
        .into_iter()
        .filter(|kept| *kept)
        .count();
    let rows = outbox_rows(&db).await;
    assert_eq!(rows.len(), kept);
    let mut prev = None;
    for (index, row) in rows.iter().enumerate() {
        let envelope = Envelope::parse(&row.bytes).unwrap();
        assert_eq!(
            (row.seq, envelope.sequence),
            (index as u64 + 1, index as u64 + 1)
        );
        assert_eq!(envelope.prev, prev, "each event names the one before it");
        prev = Some(envelope.id);
    }
}

#[tokio::test]
async fn the_envelope_is_a_cloud_event() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh(&db, "parcel-7", 1200, 3).await;
    let rows = outbox_rows(&db).await;
    let json: serde_json::Value = serde_json::from_slice(&rows[0].bytes).unwrap();
    assert_eq!(rows[0].subject, "parcels.weighed");
    assert_eq!(json["specversion"], "1.0");
    assert_eq!(json["source"], "/parcels");
    assert_eq!(json["type"], "parcels.weighed.v1");
    assert_eq!(json["subject"], "parcel-7");
    assert_eq!(json["sequence"], "00000000000000000001");
    assert_eq!(json["epoch"], 1);
    assert_eq!(json["datacontenttype"], "application/json");
    assert_eq!(json["dataschema"], "urn:freehold:schema:parcels.weighed.v1");
    assert_eq!(json["data"]["weight_g"], 1200);
    assert!(
        json.get("prev").is_none(),
        "the first event has none before it"
    );
    assert!(json["time"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn an_event_never_changes() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;
    weigh(&db, "a", 1, 1).await;
    let before = outbox_rows(&db).await;
    let changed = db.write(|tx| tx.execute("update relay_outbox set envelope = x'00'", []));
    assert!(changed.await.is_err());
    assert_eq!(outbox_rows(&db).await, before);
}

#[tokio::test]
async fn what_could_never_be_published_or_read_is_refused_at_emit() {
    let scratch = Scratch::new();
    let db = scratch.producer().await;

    let huge = weighed(&"x".repeat(MAX_ENVELOPE_BYTES), 1, 1);
    let refused = db.write(move |tx| emit(tx, &huge)).await;
    assert!(matches!(
        refused,
        Err(WriteError::Work(EmitError::TooLarge { .. }))
    ));

    let refused = db.write(|tx| emit_as(tx, "letters.sent.v1")).await;
    assert!(matches!(
        refused,
        Err(WriteError::Work(EmitError::WrongStream { .. }))
    ));

    for event_type in [
        "parcels",
        "parcels.v1",
        "parcels..x.v1",
        "parcels.a b.v1",
        "parcels.x.",
        "parcels.>.v1",
        "parcels.x\ny.v1",
        "parcels.X.v1",
        "parcels.weighed",
        "parcels.weighed.v",
    ] {
        let refused = db.write(move |tx| emit_as(tx, event_type)).await;
        assert!(
            matches!(
                refused,
                Err(WriteError::Work(EmitError::InvalidType { .. }))
            ),
            "{event_type:?}"
        );
    }

    let refused = db.write(|tx| tx.emit(&Misnamed(weighed("a", 1, 1)))).await;
    assert!(matches!(
        refused,
        Err(WriteError::Work(EmitError::Undecodable { .. }))
    ));

    assert_eq!(db.outbox().committed(), 0);
    assert!(outbox_rows(&db).await.is_empty());
}

fn emit_as(tx: &relay::Tx<'_>, event_type: &str) -> Result<u64, EmitError> {
    tx.emit(&AnyEvent::new(event_type, "a", &weighed("a", 1, 1)))
}

/// Its type is none that it decodes.
#[derive(Serialize)]
struct Misnamed(Weighed);

impl Event for Misnamed {
    const STREAM: &'static str = "PARCELS";

    fn event_type(&self) -> &str {
        "parcels.misnamed.v1"
    }

    fn aggregate(&self) -> String {
        self.0.aggregate()
    }

    fn decode(event_type: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        Ok(Weighed::decode(event_type, data)?.map(Self))
    }

    fn schemas() -> Vec<(&'static str, Schema)> {
        Vec::new()
    }
}

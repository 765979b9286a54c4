//! The file is lost, the log and the keys are not: everything answers as it did.

use serde_json::{Value, json};
use service_kit::testing::import_log;

use crate::office::said;
use crate::world::{FakeUsers, World};

#[tokio::test]
async fn a_restore_from_the_stream_brings_back_orders_devices_and_intents() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, mut device) = world.mia().await;
    let (noor, noors) = world.mia().await;
    let gone = world.device(&mia).await;
    world
        .api
        .post(&format!("/devices/{}/revoke", gone.id), &json!({}))
        .await;
    let (delivered, conflict, handed_on) = (
        world.assigned(&mia).await,
        world.assigned(&mia).await,
        world.assigned(&mia).await,
    );
    world.assign(&handed_on, &noor).await;
    let mut sent = vec![
        device.intent("pick_up", &delivered, json!({})),
        device.intent("deliver", &delivered, json!({"note": "here"})),
        device.intent("fly", "nowhere", json!({})),
        device.intent("pick_up", &conflict, json!({})),
    ];
    device.verdicts(&sent).await;
    world.cancel(&conflict).await;
    for _ in 0..2 {
        sent.push(device.intent("deliver", &conflict, json!({"note": "too late"})));
    }
    device.verdicts(&sent[4..]).await;
    let upheld = sent[4]["intent_id"].as_str().unwrap();
    let decision = json!({"decision": "upheld"});
    let decided = world
        .change(&format!("/intents/{upheld}/decision"), "*", &decision)
        .await;
    assert_eq!(decided.status, 200, "{decided:?}");
    let code = world.code(&mia).await;
    let here = device.read_on("", 50).await.next;
    let answers = device.verdicts(&sent).await;

    let home = world.bereft().await;
    import_log(&world.db, &home.db).await.unwrap();
    home.meet_stream().await;
    let paths = [
        "/orders?limit=200".to_owned(),
        "/drivers?limit=200".to_owned(),
        "/intents?limit=200".to_owned(),
        format!("/drivers/{mia}"),
        format!("/drivers/{noor}"),
        format!("/orders/{delivered}/history"),
        format!("/orders/{conflict}/history"),
    ];
    for path in &paths {
        assert_eq!(home.show(path).await, world.show(path).await, "{path}");
    }
    let (mut device, noors, gone) = (device.at(&home), noors.at(&home), gone.at(&home));
    assert_eq!(gone.feed("").await.problem(), "401 revoked");
    assert_eq!(
        noors.read_on("", 50).await.told(),
        [format!("+{handed_on}")]
    );
    let again = device.verdicts(&sent).await;
    // The customers' names are no part of this log: they come back with stream USERS.
    let nameless = |verdicts: &[Value]| -> Vec<Value> {
        let mut verdicts = verdicts.to_vec();
        for verdict in &mut verdicts {
            if let Some(current) = verdict["first"]["current"].as_object_mut() {
                current.remove("customer");
            }
        }
        verdicts
    };
    assert_eq!(nameless(&again), nameless(&answers));
    assert!(
        again
            .iter()
            .all(|verdict| said(verdict).starts_with("duplicate of"))
    );
    let read_on = device.read_on(&here, 50).await;
    assert_eq!(
        (read_on.snapshot, read_on.told()),
        (false, vec![]),
        "its place is on this log, too"
    );
    let next = device.want("pick_up", &handed_on, json!({})).await;
    assert_eq!(said(&next), "conflict another_driver");
    // Codes live for minutes and are in no log: the office draws another one.
    let late = home.enrol(&code, event_schema::DeviceId::new()).await;
    assert_eq!(late.problem(), "422 invalid_code");
}

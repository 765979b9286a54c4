//! The harness's drivers work: a device behind a switch, the office, and the sync API called directly.

use freehold_tests::{Part, Shown, SyncApi, World, paths, seconds};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

#[tokio::test]
async fn a_driver_delivers_offline_and_the_office_sees_it_as_soon_as_the_network_is_back() {
    let world = World::builder().with_drivers(1).start().await;
    let (office, driver) = (world.orders(), &world.drivers[0]);
    let user = world.users().register("Ada", "ada@example.org").await;
    let order = office
        .place(user.expect_status(201).id(), 1250, "EUR")
        .await;
    let (order, version) = (order.id().to_owned(), Some(order.version()));
    office
        .assign(&order, version, &driver.id)
        .await
        .expect_status(200);
    let device = driver.api();
    device
        .wait_until("it is there", seconds(20), |shown| {
            shown.can(&order, "pick_up")
        })
        .await;

    driver.switch.off();
    device.pick_up(&order).await.expect_status(202);
    let delivered = device.deliver(&order, Some("left with neighbour")).await;
    let intent = delivered.expect_status(202).body["intent_id"].clone();
    let shown = device.state().await.expect("it answers");
    assert_eq!(shown.status_of(&order), Some("delivered"));
    assert_eq!(office.order(&order).await.body["status"], "assigned");

    driver.switch.on();
    device.until_quiet(0).await;
    let known = office.order(&order).await.body;
    assert_eq!(
        (&known["status"], &known["note"]),
        (&json!("delivered"), &json!("left with neighbour"))
    );
    let intents = office.intents("").await.expect("all of them");
    assert_eq!(
        intents[intent.as_str().expect("an id")]["verdict"],
        "applied"
    );

    let code = office.code(&driver.id).await.expect_status(201).body["code"].clone();
    let other = SyncApi::of(&world.orders_service);
    let other = other
        .enrol(code.as_str().expect("a code"), &Uuid::now_v7().to_string())
        .await
        .expect("enrolled");
    let (_, deliveries) = other.deliveries().await.expect("a checkpoint");
    assert_eq!(deliveries[&order]["status"], "delivered");
}

/// A new device receives its deliveries at once, not at the next change.
#[tokio::test]
async fn a_device_that_is_enrolled_shows_its_deliveries_without_waiting_for_news() {
    let world = World::builder().with_drivers(2).start().await;
    let driver = &world.drivers[0];
    let order = crate::conflicts::assigned(&world, &driver.id).await;
    let other = world.drivers[1].api();
    let code = world.orders().code(&driver.id).await.expect_status(201);
    let code = code.body["code"].as_str().expect("a code").to_owned();
    other.enrol(&code).await.expect_status(200);
    // The owner keeps a question for news for eight seconds.
    other
        .wait_until("it shows them", seconds(5), |shown| {
            shown.status_of(&order) == Some("assigned")
        })
        .await;
}

/// Pasted from elsewhere, scanned, typed on any keyboard: what the device accepts is delivered, and reads the same on both sides.
#[tokio::test]
async fn any_note_is_delivered_and_reads_the_same_on_both_sides() {
    let world = World::builder().with_drivers(1).start().await;
    let (office, driver) = (world.orders(), &world.drivers[0]);
    let user = world.users().register("Ada", "ada@example.org").await;
    let notes = paths::workspace().join("event-schema/notes.json");
    let notes = std::fs::read(notes).expect("it is in the repository");
    let notes: Vec<Value> = serde_json::from_slice(&notes).expect("a list");
    let mut orders = Vec::new();
    for _ in &notes {
        let order = office.place(user.id(), 1250, "EUR").await;
        let (id, version) = (order.id().to_owned(), Some(order.version()));
        let assigned = office.assign(&id, version, &driver.id).await;
        assigned.expect_status(200);
        orders.push(id);
    }
    let device = driver.api();
    let all = |shown: &Shown| orders.iter().all(|order| shown.can(order, "pick_up"));
    device.wait_until("they are there", seconds(20), all).await;
    for (order, note) in orders.iter().zip(&notes) {
        device.pick_up(order).await.expect_status(202);
        let delivered = device.deliver(order, note["written"].as_str()).await;
        delivered.expect_status(202);
    }
    let shown = device.until_quiet(0).await;
    for (order, note) in orders.iter().zip(&notes) {
        let known = office.order(order).await.body;
        let here = shown.delivery(order).expect("it is shown");
        for side in [&known, here] {
            assert_eq!(
                (&side["status"], &side["note"]),
                (&json!("delivered"), &note["kept"]),
                "{note}"
            );
        }
    }
}

/// Until its events are imported it cannot know which devices are enrolled, and says so: no device gives up.
#[tokio::test]
async fn an_owner_that_has_lost_its_file_costs_no_device_its_enrolment() {
    let mut world = World::builder().with_drivers(1).start().await;
    let (office, driver) = (world.orders(), world.drivers[0].id.clone());
    let user = world.users().register("Ada", "ada@example.org").await;
    let order = office
        .place(user.expect_status(201).id(), 1250, "EUR")
        .await;
    let (order, version) = (order.id().to_owned(), Some(order.version()));
    let assigned = office.assign(&order, version, &driver).await;
    assigned.expect_status(200);
    let code = office.code(&driver).await.expect_status(201).body["code"].clone();
    let (code, id) = (code.as_str().expect("a code"), Uuid::now_v7().to_string());
    let second = SyncApi::of(&world.orders_service).enrol(code, &id).await;
    let second = second.expect("enrolled");
    let device = world.drivers[0].api();
    let is_there = |shown: &Shown| shown.can(&order, "pick_up");
    device
        .wait_until("it is there", seconds(20), is_there)
        .await;

    world.check().await; // its stream has everything
    world.orders_service.stop().await.expect("it stops");
    world.orders_service.delete_database().expect("deleted");
    world.broker.kill();
    world.orders_service.start().await.expect("it starts");
    let code = json!({"code": code, "device_id": id});
    for refused in [
        second.feed("").await,
        second.upload(&id, &[]).await,
        second.send(Method::POST, "/devices", &code).await,
    ] {
        let refused = refused.expect_status(503);
        assert_eq!(refused.problem(), Some("not_ready"));
        assert!(refused.headers.contains_key("retry-after"), "{refused:?}");
    }
    device.pick_up(&order).await.expect_status(202);
    let told = |shown: &Shown| {
        shown.0["sync"]["waiting_because"]
            .to_string()
            .contains("503")
    };
    let shown = device
        .wait_until("it is told to wait", seconds(30), told)
        .await;
    assert_eq!(shown.enrolment(), "valid");
    assert_eq!(shown.status_of(&order), Some("picked_up"));

    world.broker.start().await.expect("it starts");
    device.until_quiet(0).await;
    assert_eq!(office.order(&order).await.body["status"], "picked_up");
    second.feed("").await.expect_status(200);
}

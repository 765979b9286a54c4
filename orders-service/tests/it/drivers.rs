//! Drivers: who delivers, and what becomes of their orders and devices when they do so no more.

use event_schema::{DeviceId, DriverId};
use serde_json::{Value, json};

use crate::world::{FakeUsers, World};

async fn world() -> World {
    World::start(FakeUsers::Know).await
}

#[tokio::test]
async fn a_driver_is_enrolled_and_shown_with_their_devices() {
    let world = world().await;
    let made = world
        .api
        .post("/drivers", &json!({"name": "Zoë Müller"}))
        .await;
    assert_eq!((made.status, made.header("etag")), (201, "\"1\""));
    let expected = json!({
        "id": made.json()["id"], "name": "Zoë Müller", "revoked": false, "version": 1,
        "enrolled_at": made.json()["enrolled_at"], "revoked_at": null,
    });
    assert_eq!(made.json(), expected);
    let zoe = made.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(made.header("location"), format!("/drivers/{zoe}"));
    let device = world.device(&zoe).await;
    let shown = world.api.get(&format!("/drivers/{zoe}")).await;
    assert_eq!(shown.header("etag"), "\"2\"");
    let devices = shown.json()["devices"].clone();
    assert_eq!(devices[0]["id"], json!(device.id));
    assert_eq!(
        (&devices[0]["revoked"], &devices[1]),
        (&json!(false), &Value::Null)
    );
    assert!(!shown.text.contains("fhd_"), "{}", shown.text);
}

#[tokio::test]
async fn an_invalid_drivers_name_is_refused() {
    let world = world().await;
    for name in ["", "  ", "two\nlines", &"x".repeat(201)] {
        let refused = world.api.post("/drivers", &json!({"name": name})).await;
        assert_eq!(refused.problem(), "422 invalid_name", "{name:?}");
    }
    let stranger = DriverId::new();
    for path in [
        format!("/drivers/{stranger}/revoke"),
        format!("/drivers/{stranger}/codes"),
    ] {
        let refused = world.change(&path, "*", &json!({})).await;
        assert_eq!(refused.problem(), "404 driver_not_found", "{path}");
    }
    let unknown = world.api.get(&format!("/drivers/{stranger}")).await;
    assert_eq!(unknown.problem(), "404 driver_not_found");
    let device = format!("/devices/{}/revoke", DeviceId::new());
    let unknown = world.api.post(&device, &json!({})).await;
    assert_eq!(unknown.problem(), "404 device_not_found");
    assert_eq!(world.head(), 0);
}

#[tokio::test]
async fn the_list_shows_every_driver_once_page_by_page() {
    let world = world().await;
    let mut enrolled = Vec::new();
    for name in ["Mia", "Noor", "Ivan", "Zoë", "Al"] {
        enrolled.push(world.driver(name).await);
    }
    let (mut listed, mut query) = (Vec::new(), "limit=2".to_owned());
    loop {
        let page = world.show(&format!("/drivers?{query}")).await;
        let items = page["items"].as_array().unwrap().iter();
        listed.extend(items.map(|driver| driver["id"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, enrolled);
}

#[tokio::test]
async fn a_driver_who_is_revoked_loses_their_open_orders_and_their_devices_at_once() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let other = world.device(&mia).await;
    let (noor, noors) = world.mia().await;
    let (assigned, picked_up) = (world.assigned(&mia).await, world.assigned(&mia).await);
    let (done, noors_own) = (world.assigned(&mia).await, world.assigned(&noor).await);
    for (kind, order) in [
        ("pick_up", &picked_up),
        ("pick_up", &done),
        ("deliver", &done),
    ] {
        device.want(kind, order, json!({})).await;
    }
    let (head, path) = (world.head(), format!("/drivers/{mia}/revoke"));
    assert_eq!(
        world.api.post(&path, &json!({})).await.problem(),
        "428 precondition_required"
    );
    let stale = world.change(&path, "\"1\"", &json!({})).await;
    assert_eq!(
        (stale.problem(), stale.header("etag")),
        ("412 version_mismatch".to_owned(), "\"3\"")
    );
    assert_eq!(world.head(), head);

    let revoked = world.change(&path, "\"3\"", &json!({})).await;
    assert_eq!(
        (revoked.status, &revoked.json()["revoked"]),
        (200, &json!(true))
    );
    let told = [
        "orders.driver_revoked.v1",
        "orders.released.v1",
        "orders.released.v1",
    ];
    assert_eq!(world.told_after(head).await, told);
    assert_eq!(
        revoked.header("freehold-position"),
        format!("orders@{}", head + 3)
    );
    assert_eq!(world.stands(&assigned).await, "placed 3");
    assert_eq!(world.stands(&picked_up).await, "placed 4");
    assert_eq!(world.stands(&done).await, "delivered 4");
    assert_eq!(world.stands(&noors_own).await, "assigned 2");

    let intent = device.intent("deliver", &picked_up, json!({}));
    assert_eq!(device.send(&[intent]).await.problem(), "401 revoked");
    for device in [&device, &other] {
        assert_eq!(device.feed("").await.problem(), "401 revoked");
    }
    assert_eq!(noors.feed("").await.status, 200);
    assert_eq!(world.head(), head + 3, "what it sent is not taken");
    let again = world.change(&path, "*", &json!({})).await;
    assert_eq!(again.problem(), "409 driver_revoked");
}

#[tokio::test]
async fn a_device_that_is_revoked_is_shut_out_alone_until_it_enrols_again() {
    let world = world().await;
    let (mia, device) = world.mia().await;
    let other = world.device(&mia).await;
    let order = world.assigned(&mia).await;
    let path = format!("/devices/{}/revoke", device.id);
    let revoked = world.api.post(&path, &json!({})).await;
    assert_eq!(
        (revoked.status, &revoked.json()["revoked"]),
        (200, &json!(true))
    );
    let head = world.head();
    let again = world.api.post(&path, &json!({})).await;
    assert_eq!(
        (again.status, world.head()),
        (200, head),
        "it is so already"
    );
    assert_eq!(device.feed("").await.problem(), "401 revoked");
    assert_eq!(other.feed("").await.status, 200);
    assert_eq!(world.stands(&order).await, "assigned 2");

    let code = world.code(&mia).await;
    let enrolled = world.enrol_again(&code, device.id, &device.token).await;
    assert_eq!(enrolled.status, 201);
    let anew = crate::office::Device::with(&world, device.id, &enrolled);
    assert_eq!(anew.feed("").await.status, 200);
    assert_eq!(device.feed("").await.problem(), "401 unauthorized");
}

/// The driver is shown with their devices, so it is the driver's version that an operator has read.
#[tokio::test]
async fn a_header_that_names_a_version_is_heeded_where_none_is_asked_for() {
    let world = World::start(FakeUsers::Know).await;
    let (mia, device) = world.mia().await;
    let tag = world.api.get(&format!("/drivers/{mia}")).await;
    let tag = tag.header("etag").to_owned();
    let (codes, revoke) = (
        format!("/drivers/{mia}/codes"),
        format!("/devices/{}/revoke", device.id),
    );
    let head = world.head();
    for path in [&codes, &revoke] {
        let stale = world.change(path, "\"999\"", &json!({})).await;
        assert_eq!(
            (stale.problem(), stale.header("etag")),
            ("412 version_mismatch".to_owned(), &*tag)
        );
        let none = world.change(path, "999", &json!({})).await;
        assert_eq!(none.problem(), "400 invalid_if_match");
    }
    assert_eq!(world.head(), head);
    assert_eq!(world.change(&codes, &tag, &json!({})).await.status, 201);
    assert_eq!(world.change(&revoke, &tag, &json!({})).await.status, 200);
}

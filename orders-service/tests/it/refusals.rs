//! What refusals cost: they change no order and no driver, and a device has a budget of them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use event_schema::{DeviceId, IntentId, OrderId};
use relay::rusqlite;
use serde_json::{Value, json};

use crate::office::{Device, but, said};
use crate::world::{FakeUsers, World};

async fn world() -> World {
    World::start(FakeUsers::Know).await
}

#[tokio::test]
async fn a_refused_intent_changes_no_version_that_an_operator_has_read() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    device.want("pick_up", &order, json!({})).await;
    let (stands, driver) = (
        world.stands(&order).await,
        driver_version(&world, &mia).await,
    );
    let shown = world.show(&format!("/orders/{order}")).await;
    for (intent, verdict) in [
        (
            device.intent("pick_up", &order, json!({})),
            "superseded already_picked_up",
        ),
        (
            device.intent("fly", &order, json!({})),
            "rejected unknown_kind",
        ),
        (
            device.intent(
                "decide_conflict",
                &order,
                json!({"intent_id": IntentId::new(), "decision": "accepted"}),
            ),
            "rejected conflict_not_found",
        ),
        (
            device.intent("pick_up", &OrderId::new().to_string(), json!({})),
            "rejected order_not_found",
        ),
        (
            device.intent("fly", "no order", json!({})),
            "rejected unknown_kind",
        ),
    ] {
        assert_eq!(said(&device.verdicts(&[intent]).await[0]), verdict);
        assert_eq!(world.stands(&order).await, stands, "{verdict}");
        assert_eq!(driver_version(&world, &mia).await, driver, "{verdict}");
    }
    assert_eq!(world.show(&format!("/orders/{order}")).await, shown);
    let cancel = json!({"reason": "out_of_stock"});
    let version = format!("\"{}\"", shown["version"]);
    let cancelled = world
        .change(&format!("/orders/{order}/cancel"), &version, &cancel)
        .await;
    assert_eq!(cancelled.status, 200, "{cancelled:?}");
    let late = device.want("deliver", &order, json!({})).await;
    assert_eq!(said(&late), "conflict order_cancelled");
    assert_eq!(world.stands(&order).await, "cancelled 4");
    let version = format!("\"{driver}\"");
    let revoked = world
        .change(&format!("/drivers/{mia}/revoke"), &version, &json!({}))
        .await;
    assert_eq!(revoked.status, 200, "{revoked:?}");
}

#[tokio::test]
async fn a_former_drivers_intents_do_not_touch_the_new_drivers_order() {
    let world = world().await;
    let (mia, mut mias) = world.mia().await;
    let (noor, noors) = world.mia().await;
    let order = world.assigned(&mia).await;
    world.assign(&order, &noor).await;
    let (stands, place) = (world.stands(&order).await, noors.read_on("", 50).await.next);
    let conflict = mias.want("pick_up", &order, json!({})).await;
    assert_eq!(said(&conflict), "conflict another_driver");
    let at_mias = mias.read_on("", 50).await.next;
    let word = json!({"intent_id": conflict["intent_id"], "decision": "insisted"});
    let insisted = mias.want("decide_conflict", &order, word).await;
    assert_eq!(said(&insisted), "applied");
    assert_eq!(world.stands(&order).await, stands);
    let heard = noors.read_on(&place, 50).await;
    assert_eq!((heard.told(), heard.judged.len()), (Vec::new(), 0));
    let heard = mias.read_on(&at_mias, 50).await;
    assert_eq!((heard.told(), heard.judged.len()), (Vec::new(), 1));
}

#[tokio::test]
async fn the_tag_of_a_conflict_moves_with_each_word_about_it_and_the_orders_stays() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    world.cancel(&order).await;
    let stands = world.stands(&order).await;
    let conflict = device.want("pick_up", &order, json!({})).await;
    let path = format!("/intents/{}", conflict["intent_id"].as_str().unwrap());
    let mut tags = vec![world.api.get(&path).await.header("etag").to_owned()];
    let word = json!({"intent_id": conflict["intent_id"], "decision": "insisted"});
    device.want("decide_conflict", &order, word).await;
    tags.push(world.api.get(&path).await.header("etag").to_owned());
    let (decision, dismissed) = (format!("{path}/decision"), json!({"decision": "dismissed"}));
    let stale = world.change(&decision, &tags[0], &dismissed).await;
    assert_eq!(stale.problem(), "412 version_mismatch");
    let done = world.change(&decision, &tags[1], &dismissed).await;
    assert_eq!(done.status, 200, "{done:?}");
    tags.push(done.header("etag").to_owned());
    assert_eq!(tags, ["\"3.0\"", "\"3.1\"", "\"3.2\""]);
    assert_eq!(world.stands(&order).await, stands);
}

#[tokio::test]
async fn a_code_is_good_for_ten_lost_answers_and_not_for_a_flood() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    let (code, device) = (world.code(&mia).await, DeviceId::new());
    for _ in 0..10 {
        assert_eq!(world.enrol(&code, device).await.status, 201);
    }
    let (head, driver) = (world.head(), driver_version(&world, &mia).await);
    let refused = world.enrol(&code, device).await;
    assert_eq!(refused.problem(), "422 invalid_code");
    assert_eq!(world.head(), head);
    assert_eq!(driver_version(&world, &mia).await, driver);
}

#[tokio::test]
async fn an_order_takes_twenty_reports_and_moves_no_further() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let problem = json!({"problem": "nobody_home"});
    for _ in 0..20 {
        let told = device.want("report_problem", &order, problem.clone()).await;
        assert_eq!(said(&told), "applied");
    }
    let told = device.want("report_problem", &order, problem.clone()).await;
    assert_eq!(
        said(&told),
        "rejected too_many_problems",
        "the driver is to see it"
    );
    assert_eq!(world.stands(&order).await, "assigned 22");
    assert_eq!(
        said(&device.want("pick_up", &order, json!({})).await),
        "applied"
    );
}

#[tokio::test]
async fn a_device_that_sends_nothing_but_refusals_fills_neither_file_nor_log() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let before = bytes(&world).await;
    for _ in 0..200 {
        device.send(&flood(&mut device.clone(), 20, 2_500)).await;
        device.seq += 20;
    }
    let (file, log) = bytes(&world).await;
    println!("file {}, log {}", file - before.0, log - before.1);
    assert!(
        file - before.0 < 6_000_000,
        "file grew by {}",
        file - before.0
    );
    assert!(log - before.1 < 1_500_000, "log grew by {}", log - before.1);

    let head = world.head();
    let told = device
        .want("pick_up", &OrderId::new().to_string(), json!({}))
        .await;
    assert_eq!(said(&told), "retry_later budget_spent");
    let after = told["after_ms"].as_u64().unwrap();
    assert!((60_000..=900_000).contains(&after), "{after}");
    assert_eq!(world.head(), head);
    for step in ["pick_up", "deliver"] {
        let told = device.want(step, &order, json!({})).await;
        assert_eq!(said(&told), "applied", "a delivery has no budget");
    }
    let mut another = world.device(&mia).await;
    let told = another.want("fly", "nowhere", json!({})).await;
    assert_eq!(
        said(&told),
        "rejected unknown_kind",
        "each device has its own"
    );
}

#[tokio::test]
async fn a_driver_with_many_devices_has_one_budget_more() {
    let world = world().await;
    let mia = world.driver("Mia").await;
    for told in ["rejected", "rejected", "retry_later"] {
        let mut device = world.device(&mia).await;
        for _ in 0..5 {
            device.send(&flood(&mut device.clone(), 100, 9)).await;
            device.seq += 100;
        }
        let last = device.seq;
        let known = verdicts_of(&world, &device).await;
        let expected = if told == "rejected" { last } else { 0 };
        assert_eq!(known, expected, "{told}");
    }
}

/// Two other devices of the driver have spent it.
#[tokio::test]
async fn a_spent_budget_holds_no_delivery_and_ends_with_the_devices_that_spent_it() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (order, cancelled) = (world.assigned(&mia).await, world.assigned(&mia).await);
    world.cancel(&cancelled).await;
    let lost = [world.device(&mia).await, world.device(&mia).await];
    for mut device in lost.clone() {
        for _ in 0..5 {
            device.send(&flood(&mut device.clone(), 100, 9)).await;
            device.seq += 100;
        }
    }
    let told = device.want("fly", "nowhere", json!({})).await;
    assert_eq!(said(&told), "retry_later budget_spent");
    let first = device.seq;
    let sent = [
        device.intent("report_problem", &order, json!({"problem": "other"})),
        but(
            device.intent("pick_up", &order, json!({})),
            "after_seq",
            first + 1,
        ),
        but(
            device.intent("deliver", &order, json!({})),
            "after_seq",
            first + 2,
        ),
        device.intent("deliver", &cancelled, json!({"note": "handed over"})),
    ];
    let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
    let expected = ["applied", "applied", "applied", "conflict order_cancelled"];
    assert_eq!(words, expected);
    for lost in &lost {
        let revoke = format!("/devices/{}/revoke", lost.id);
        world.api.post(&revoke, &json!({})).await;
    }
    let told = device.want("fly", "nowhere", json!({})).await;
    assert_eq!(said(&told), "rejected unknown_kind");
}

/// Each is refused for good, so that nothing waits behind it; the first of them are kept.
#[tokio::test]
async fn refusals_about_an_order_are_limited_and_its_delivery_goes_on() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (order, before) = (world.assigned(&mia).await, world.head());
    for (kind, refused) in [("fly", "unknown_kind"), ("deliver", "not_picked_up")] {
        for n in 0..30 {
            let told = device.want(kind, &order, json!({})).await;
            let why = if n < 20 { refused } else { "too_many_refusals" };
            assert_eq!(said(&told), format!("rejected {why}"), "{n}");
        }
    }
    assert_eq!(world.head(), before + 40);
    let mut sent = vec![
        device.intent("fly", &order, json!({})),
        device.intent("report_problem", &order, json!({"problem": "other"})),
        device.intent("pick_up", &order, json!({})),
        device.intent("deliver", &order, json!({})),
    ];
    for (at, intent) in sent.iter_mut().enumerate().skip(1) {
        *intent = but(intent.clone(), "after_seq", 60 + at);
    }
    let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
    let expected = [
        "rejected too_many_refusals",
        "applied",
        "applied",
        "applied",
    ];
    assert_eq!(words, expected);
}

#[tokio::test]
async fn an_operators_version_holds_while_devices_send_refusals() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let orders: Vec<_> = futures::future::join_all((0..12).map(|_| world.assigned(&mia))).await;
    let (about, done) = (orders.clone(), AtomicBool::new(false));
    let refusals = async {
        while !done.load(Ordering::Relaxed) {
            for order in &about {
                for (kind, order) in [
                    ("deliver", order.as_str()),
                    ("fly", order),
                    ("fly", "nowhere"),
                ] {
                    device.want(kind, order, json!({})).await;
                    tokio::task::yield_now().await;
                }
            }
        }
    };
    let changes = async {
        for order in &orders {
            let path = format!("/orders/{order}");
            let tag = world.api.get(&path).await.header("etag").to_owned();
            let head = world.head();
            while world.head() < head + 3 {
                tokio::task::yield_now().await; // others were refused meanwhile
            }
            let cancel = json!({"reason": "out_of_stock"});
            let cancelled = world.change(&format!("{path}/cancel"), &tag, &cancel).await;
            assert_eq!(cancelled.status, 200, "{cancelled:?}");
        }
        done.store(true, Ordering::Relaxed);
    };
    tokio::join!(refusals, changes);
}

#[tokio::test]
async fn a_refused_intent_is_stored_shortened() {
    let world = world().await;
    let (_, mut device) = world.mia().await;
    let (long, deep) = ("é".repeat(1_500), json!({"a": ["x".repeat(20_000)]}));
    let head = world.head();
    let sent = but(
        device.intent(&long, &long, deep),
        "schema_version",
        u32::MAX,
    );
    let told = device.verdicts(std::slice::from_ref(&sent)).await;
    assert_eq!(said(&told[0]), "rejected unknown_kind");
    let event = &world.events().await[usize::try_from(head).unwrap()].1;
    assert!(event.to_string().len() < 1_200, "{event}");
    let id = sent["intent_id"].as_str().unwrap();
    let shown = world.show(&format!("/intents/{id}")).await;
    assert_eq!(shown["arguments"], Value::Null);
    for field in ["kind", "order_id"] {
        let kept = shown[field].as_str().unwrap();
        assert_eq!(kept, "é".repeat(64), "{field}");
    }
    // What a driver can really write is kept, whatever the script.
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    world.cancel(&order).await;
    let note = json!({"note": "👩".repeat(500)});
    let sent = device.intent("deliver", &order, note.clone());
    let told = device.verdicts(std::slice::from_ref(&sent)).await;
    assert_eq!(said(&told[0]), "conflict order_cancelled");
    let id = sent["intent_id"].as_str().unwrap();
    assert_eq!(
        world.show(&format!("/intents/{id}")).await["arguments"],
        note
    );
}

/// Invented orders, long words, arguments of any kind.
fn flood(device: &mut Device, intents: usize, bytes: usize) -> Vec<Value> {
    let one = |_| {
        let (lane, junk) = (
            OrderId::new().to_string(),
            json!({"junk": "x".repeat(bytes)}),
        );
        device.intent(&"k".repeat(bytes / 8 + 1), &lane, junk)
    };
    (0..intents).map(one).collect()
}

async fn driver_version(world: &World, driver: &str) -> u64 {
    let shown = world.show(&format!("/drivers/{driver}")).await;
    shown["version"].as_u64().unwrap()
}

async fn verdicts_of(world: &World, device: &Device) -> u64 {
    let id = device.id.to_string();
    let count = move |rows: &rusqlite::Connection| {
        let sql = "select count(*) from intents where device_id = ?1";
        rows.query_row(sql, [&id], |row| row.get(0))
    };
    world.db.read(count).await.unwrap()
}

/// Of the database's file and its WAL, and of all events as the stream gets them.
async fn bytes(world: &World) -> (u64, u64) {
    let read = |rows: &rusqlite::Connection| {
        let file: String = rows.query_row("select file from pragma_database_list", [], |row| {
            row.get(0)
        })?;
        let log = "select coalesce(sum(length(envelope)), 0) from relay_outbox";
        Ok::<_, rusqlite::Error>((file, rows.query_row(log, [], |row| row.get(0))?))
    };
    let (file, log) = world.db.read(read).await.unwrap();
    let size = |path: &str| fs::metadata(Path::new(path)).map_or(0, |found| found.len());
    (size(&file) + size(&format!("{file}-wal")), log)
}

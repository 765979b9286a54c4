//! What devices want: every intent is judged once, whatever is sent, how often, and in which order.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use event_schema::{IncarnationId, IntentId, OrderId};
use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::office::{Device, but, said};
use crate::world::{FakeUsers, World};

async fn world() -> World {
    World::start(FakeUsers::Know).await
}

#[tokio::test]
async fn each_intent_gets_the_verdict_that_fits_the_order() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let noor = world.driver("Noor").await;
    let order = world.assigned(&mia).await;
    let applied = device.want("pick_up", &order, json!({})).await;
    assert_eq!(
        applied,
        json!({"intent_id": applied["intent_id"], "verdict": "applied", "at": world.head()})
    );
    let again = device.want("pick_up", &order, json!({})).await;
    assert_eq!(said(&again), "superseded already_picked_up");
    assert_eq!(again["at"], world.head(), "a refusal is an event, too");
    assert!(again["detail"].as_str().unwrap().contains("picked up"));
    assert_eq!(world.stands(&order).await, "picked_up 3");

    let early = world.assigned(&mia).await;
    let rejected = device.want("deliver", &early, json!({})).await;
    assert_eq!(said(&rejected), "rejected not_picked_up");

    let cancelled = world.assigned(&mia).await;
    world.cancel(&cancelled).await;
    let conflict = device.want("pick_up", &cancelled, json!({})).await;
    assert_eq!(said(&conflict), "conflict order_cancelled");
    assert_eq!(conflict["current"]["status"], "cancelled");
    assert_eq!(conflict["current"]["note"], "sold out");
    assert_eq!(conflict["current"]["customer"], "Ada");
    let late = device
        .want("report_problem", &cancelled, json!({"problem": "damaged"}))
        .await;
    assert_eq!(said(&late), "superseded order_cancelled");

    let handed_on = world.assigned(&mia).await;
    world.assign(&handed_on, &noor).await;
    let conflict = device.want("pick_up", &handed_on, json!({})).await;
    assert_eq!(said(&conflict), "conflict another_driver");
    let why = "it is another driver's now, and its customer with it";
    assert_eq!(conflict.get("current"), None, "{why}");

    let taken_back = world.assigned(&mia).await;
    world
        .change(&format!("/orders/{taken_back}/unassign"), "*", &json!({}))
        .await;
    let conflict = device.want("pick_up", &taken_back, json!({})).await;
    assert_eq!(said(&conflict), "conflict not_assigned");
}

#[tokio::test]
async fn an_intent_based_on_the_latest_change_is_rejected_and_no_conflict() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    world.cancel(&order).await;
    let knowing = but(
        device.intent("pick_up", &order, json!({})),
        "base_version",
        3,
    );
    assert_eq!(
        said(&device.verdicts(&[knowing]).await[0]),
        "rejected order_cancelled"
    );
    // Changes by devices make no conflicts.
    let order = world.assigned(&mia).await;
    let mut other = world.device(&mia).await;
    other
        .want("report_problem", &order, json!({"problem": "other"}))
        .await;
    assert_eq!(
        said(&device.want("deliver", &order, json!({})).await),
        "rejected not_picked_up"
    );
}

/// A device of an earlier version has queued what its driver pasted.
#[tokio::test]
async fn a_note_is_cleaned_and_its_delivery_happens() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let note = json!({"note": format!("left\u{b}at\u{1d}the door\r\n{}", "x".repeat(500))});
    let sent = [
        device.intent("pick_up", &order, json!({})),
        device.intent("deliver", &order, note),
    ];
    let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
    assert_eq!(words, ["applied", "applied"]);
    let kept = format!("left at the door\n{}", "x".repeat(483));
    let shown = world.show(&format!("/orders/{order}")).await;
    assert_eq!(
        (&shown["status"], &shown["note"]),
        (&json!("delivered"), &json!(kept))
    );
}

/// The driver has gone: a device of any version may have sent what no form would take.
#[tokio::test]
async fn nothing_that_was_written_keeps_a_delivery_from_happening() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    for (version, arguments, kept) in [
        (
            2,
            json!({"note": "語".repeat(1_500)}),
            json!("語".repeat(500)),
        ),
        (
            2,
            json!({"note": "a".repeat(5_000)}),
            json!("a".repeat(500)),
        ),
        (2, json!({"note": "\0".repeat(700)}), Value::Null),
        (
            1,
            json!({"comment": "a".repeat(5_000)}),
            json!("a".repeat(500)),
        ),
        (2, json!({"note": 5}), Value::Null),
        (1, json!({"comment": 0}), Value::Null),
    ] {
        let order = world.assigned(&mia).await;
        let report = json!({"problem": "other", "note": arguments.get("note")});
        let sent = [
            device.intent("pick_up", &order, json!({})),
            device.intent("report_problem", &order, report),
            but(
                device.intent("deliver", &order, arguments.clone()),
                "schema_version",
                version,
            ),
        ];
        let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
        assert_eq!(words, ["applied"; 3], "{arguments:.40}");
        let shown = world.show(&format!("/orders/{order}")).await;
        assert_eq!(shown["note"], kept, "{arguments:.40}");
    }
}

#[tokio::test]
async fn an_intent_that_is_sent_again_gets_its_first_verdict_and_has_no_second_effect() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (order, cancelled) = (world.assigned(&mia).await, world.assigned(&mia).await);
    world.cancel(&cancelled).await;
    let sent = [
        device.intent("pick_up", &order, json!({})),
        device.intent("deliver", &order, json!({"note": "here"})),
        device.intent("pick_up", &cancelled, json!({})),
        device.intent("fly", &order, json!({})),
        device.intent("pick_up", &OrderId::new().to_string(), json!({})),
    ];
    let first = device.verdicts(&sent).await;
    let words: Vec<_> = first.iter().map(said).collect();
    let expected = [
        "applied",
        "applied",
        "conflict order_cancelled",
        "rejected unknown_kind",
        "rejected order_not_found",
    ];
    assert_eq!(words, expected);
    let (head, before) = (world.head(), world.stands(&order).await);
    for _ in 0..2 {
        let again = device.verdicts(&sent).await;
        for (again, first) in again.iter().zip(&first) {
            assert_eq!(again["verdict"], "duplicate");
            let mut with_id = again["first"].clone();
            with_id["intent_id"] = first["intent_id"].clone();
            assert_eq!(&with_id, first);
        }
        assert_eq!(
            (world.head(), world.stands(&order).await),
            (head, before.clone())
        );
    }
}

#[tokio::test]
async fn a_hundred_intents_are_judged_at_once_and_one_more_is_too_many() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let mut sent = Vec::new();
    for _ in 0..50 {
        let order = world.assigned(&mia).await;
        sent.push(device.intent("pick_up", &order, json!({})));
        sent.push(device.intent("deliver", &order, json!({})));
    }
    let head = world.head();
    let verdicts = device.verdicts(&sent).await;
    assert!(
        verdicts
            .iter()
            .all(|verdict| verdict["verdict"] == "applied")
    );
    let places: Vec<_> = verdicts
        .iter()
        .map(|verdict| verdict["at"].as_u64().unwrap())
        .collect();
    assert_eq!(places, (head + 1..=head + 100).collect::<Vec<_>>());
    sent.push(device.intent("fly", "nowhere", json!({})));
    for refused in [device.send(&sent).await, device.send(&[]).await] {
        assert_eq!(refused.problem(), "422 invalid_body");
        assert_eq!(refused.json()["errors"][0]["field"], "intents");
    }
    sent.truncate(2);
    sent.swap(0, 1);
    assert_eq!(device.send(&sent).await.problem(), "422 invalid_body");
    assert_eq!(world.head(), head + 100);
}

#[tokio::test]
async fn an_intent_that_waits_holds_its_own_lane_alone() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (one, two) = (world.assigned(&mia).await, world.assigned(&mia).await);
    let sent = [
        but(
            device.intent("pick_up", &one, json!({})),
            "schema_version",
            2,
        ),
        device.intent("deliver", &one, json!({})),
        device.intent("pick_up", &two, json!({})),
        device.intent("deliver", &two, json!({})),
    ];
    let head = world.head();
    let verdicts = device.verdicts(&sent).await;
    let words: Vec<_> = verdicts.iter().map(said).collect();
    assert_eq!(
        words,
        [
            "retry_later newer_version",
            "retry_later lane_waits",
            "applied",
            "applied"
        ]
    );
    assert!(verdicts[0]["after_ms"].as_u64().unwrap() > 0);
    assert_eq!(
        world.head(),
        head + 2,
        "nothing is decided, so nothing is told"
    );
    // Once the office understands it, it is judged as if it came now.
    let sent = [but(sent[0].clone(), "schema_version", 1), sent[1].clone()];
    let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
    assert_eq!(words, ["applied", "applied"]);
}

/// A row where the change's own is to be: its event was emitted a moment before.
#[tokio::test]
async fn an_intent_that_cannot_be_written_down_is_undone_alone_and_asked_for_again() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (one, two) = (world.assigned(&mia).await, world.assigned(&mia).await);
    let sent = [
        device.intent("pick_up", &one, json!({})),
        device.intent("pick_up", &two, json!({})),
    ];
    let (head, in_the_way) = (world.head(), one.clone());
    let plant = "insert into history (aggregate, version, seq) values (?1, 3, 999)";
    run(&world, plant, in_the_way).await;
    let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
    assert_eq!(words, ["retry_later failed", "applied"]);
    assert_eq!(world.head(), head + 1, "no event tells what did not happen");
    assert_eq!(world.stands(&one).await, "assigned 2");
    run(
        &world,
        "delete from history where aggregate = ?1 and seq = 999",
        one.clone(),
    )
    .await;
    let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
    assert_eq!(words, ["applied", "duplicate of applied"]);
}

async fn run(world: &World, sql: &'static str, order: String) {
    let write = world.db.write(move |tx| tx.execute(sql, [order]));
    let changed: Result<usize, relay::WriteError<relay::rusqlite::Error>> = write.await;
    assert_eq!(changed.map_err(|error| error.to_string()), Ok(1));
}

#[tokio::test]
async fn an_intent_waits_for_the_one_before_it_in_its_lane() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let pick_up = device.intent("pick_up", &order, json!({}));
    let deliver = but(device.intent("deliver", &order, json!({})), "after_seq", 1);
    let early = device.verdicts(std::slice::from_ref(&deliver)).await;
    assert_eq!(said(&early[0]), "retry_later out_of_order");
    let never = but(deliver.clone(), "after_seq", i64::MAX);
    let never = device.verdicts(&[never]).await;
    assert_eq!(said(&never[0]), "retry_later out_of_order");
    assert_eq!(world.stands(&order).await, "assigned 2");
    let words: Vec<_> = device
        .verdicts(&[pick_up, deliver])
        .await
        .iter()
        .map(said)
        .collect();
    assert_eq!(words, ["applied", "applied"]);
}

#[tokio::test]
async fn an_intent_waits_until_the_service_has_seen_what_its_driver_saw() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let here = device.read_on("", 50).await.next;
    let words: Vec<&str> = here.split('.').collect();
    let later = format!("f1.{}.{}.{}", words[1], world.head() + 1, words[3]);
    let sent = but(device.intent("pick_up", &order, json!({})), "seen", later);
    assert_eq!(
        said(&device.verdicts(std::slice::from_ref(&sent)).await[0]),
        "retry_later not_caught_up"
    );
    let sent = but(sent, "seen", here);
    assert_eq!(said(&device.verdicts(&[sent]).await[0]), "applied");
    let nonsense = but(
        device.intent("deliver", &order, json!({})),
        "seen",
        "long ago",
    );
    assert_eq!(said(&device.verdicts(&[nonsense]).await[0]), "applied");
}

#[tokio::test]
async fn another_drivers_order_and_one_that_does_not_exist_get_the_same_answer() {
    let world = world().await;
    let (noor, _) = world.mia().await;
    let (_, mut device) = world.mia().await;
    let noors = world.assigned(&noor).await;
    let placed = world.order().await;
    let upper = noors.to_uppercase();
    let nowhere = OrderId::new().to_string();
    for (kind, arguments) in [
        ("pick_up", json!({})),
        ("deliver", json!({"note": "mine"})),
        ("report_problem", json!({"problem": "damaged"})),
        (
            "decide_conflict",
            json!({"intent_id": IntentId::new(), "decision": "accepted"}),
        ),
        ("fly", json!({})),
        ("deliver", json!({"note": 7, "by": 8})),
    ] {
        let mut answers = Vec::new();
        for order in [&nowhere, &noors, &placed, &upper] {
            let answer = device.want(kind, order, arguments.clone()).await;
            let (id, at) = (answer["intent_id"].to_string(), answer["at"].to_string());
            assert_eq!(at, world.head().to_string());
            let blank = answer.to_string().replace(&id, "ID").replace(&at, "AT");
            answers.push(blank);
        }
        assert!(answers[0].contains("rejected"), "{answers:?}");
        assert!(
            answers.iter().all(|answer| *answer == answers[0]),
            "{answers:?}"
        );
    }
    assert_eq!(world.stands(&noors).await, "assigned 2");
    assert_eq!(world.stands(&placed).await, "placed 1");
}

#[tokio::test]
async fn an_invalid_intent_is_refused_for_good_and_its_lane_goes_on() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    for (change, word) in [
        (("kind", json!("fly")), "unknown_kind"),
        (("kind", json!("")), "unknown_kind"),
        (("schema_version", json!(0)), "invalid_arguments"),
        (("arguments", json!([])), "invalid_arguments"),
        (("arguments", json!(null)), "invalid_arguments"),
        (
            ("arguments", json!({"note": 7, "by": 8})),
            "invalid_arguments",
        ),
        (("arguments", json!({"speed": "high"})), "invalid_arguments"),
    ] {
        let intent = but(
            device.intent("deliver", &order, json!({})),
            change.0,
            change.1,
        );
        let verdict = device.verdicts(&[intent]).await.remove(0);
        assert_eq!(said(&verdict), format!("rejected {word}"));
    }
    for lane in ["", "7", "../etc", "🚲", &"x".repeat(5_000)] {
        let verdict = device.want("pick_up", lane, json!({})).await;
        assert_eq!(said(&verdict), "rejected order_not_found", "{lane:.9}");
        let (event_type, data) = world.events().await.pop().unwrap();
        let kept: String = lane.chars().take(64).collect();
        assert_eq!(
            (event_type.as_str(), &data["lane"]),
            ("orders.intent_refused.v2", &json!(kept))
        );
    }
    assert_eq!(world.stands(&order).await, "assigned 2");
    assert_eq!(
        said(&device.want("pick_up", &order, json!({})).await),
        "applied"
    );
}

#[tokio::test]
async fn an_upload_that_is_none_is_refused_as_a_whole() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let head = world.head();
    let good = device.intent("pick_up", &order, json!({}));
    for (field, value) in [
        ("intent_id", json!("7")),
        ("seq", json!(-1)),
        ("seq", json!(0)),
        ("seq", json!(u64::MAX)),
        ("after_seq", json!(u64::MAX)),
        ("base_version", json!(u64::MAX)),
        ("seq", json!("1")),
        ("order_id", json!(null)),
        ("base_version", json!(0)),
        ("kind", json!(7)),
        ("device_time_ms", json!("noon")),
    ] {
        let refused = device.send(&[but(good.clone(), field, value)]).await;
        assert_eq!(refused.problem(), "422 invalid_body", "{field}");
    }
    assert_eq!(world.head(), head);
    assert_eq!(said(&device.verdicts(&[good]).await[0]), "applied");
}

#[tokio::test]
async fn an_intents_id_that_is_another_drivers_tells_nothing_of_theirs() {
    let world = world().await;
    let (noor, mut noors) = world.mia().await;
    let (mia, mut device) = world.mia().await;
    let (hers, mine) = (world.assigned(&noor).await, world.assigned(&mia).await);
    let judged = noors.want("pick_up", &hers, json!({})).await;
    let head = world.head();
    let copied = but(
        device.intent("pick_up", &mine, json!({})),
        "intent_id",
        judged["intent_id"].clone(),
    );
    let verdict = device.verdicts(&[copied]).await.remove(0);
    assert_eq!(said(&verdict), "rejected intent_id_taken");
    assert_eq!(
        (verdict["at"].clone(), verdict.get("first")),
        (json!(0), None)
    );
    assert_eq!(world.head(), head);
    assert_eq!(world.stands(&mine).await, "assigned 2");
}

/// An event of it would be a second beginning of something else.
#[tokio::test]
async fn an_intents_id_that_is_an_orders_or_a_drivers_is_refused_and_nothing_is_written() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (mine, placed) = (world.assigned(&mia).await, world.order().await);
    let head = world.head();
    for id in [&mia, &mine, &placed] {
        for kind in ["pick_up", "deliver", "fly"] {
            let intent = but(device.intent(kind, &mine, json!({})), "intent_id", &**id);
            for _ in 0..2 {
                let told = device
                    .verdicts(std::slice::from_ref(&intent))
                    .await
                    .remove(0);
                assert_eq!(
                    (said(&told).as_str(), &told["at"]),
                    ("rejected intent_id_taken", &json!(0)),
                    "{kind}"
                );
            }
        }
    }
    assert_eq!(world.head(), head);
    assert_eq!(world.stands(&mine).await, "assigned 2");
}

#[tokio::test]
async fn a_device_that_was_copied_is_found_out_and_nothing_of_its_upload_is_taken() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let (one, two) = (world.assigned(&mia).await, world.assigned(&mia).await);
    let mut copy = device.clone();
    device.want("pick_up", &one, json!({})).await;
    let head = world.head();
    let sent = [
        copy.intent("pick_up", &two, json!({})),
        copy.intent("deliver", &two, json!({})),
    ];
    assert_eq!(copy.send(&sent).await.problem(), "409 incarnation_forked");
    let tail = [
        device.intent("pick_up", &two, json!({})),
        but(copy.intent("deliver", &two, json!({})), "seq", 1),
    ];
    let unsorted = [tail[1].clone(), tail[0].clone()];
    assert_eq!(
        device.send(&unsorted).await.problem(),
        "409 incarnation_forked"
    );
    assert_eq!(
        (world.head(), world.stands(&two).await),
        (head, "assigned 2".to_owned())
    );

    copy.incarnation = IncarnationId::new();
    let words: Vec<_> = copy.verdicts(&sent).await.iter().map(said).collect();
    assert_eq!(words, ["applied", "applied"]);
}

#[tokio::test]
async fn a_new_incarnation_that_repeats_intents_gets_duplicates() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let pick_up = device.intent("pick_up", &order, json!({}));
    let report = device.intent("report_problem", &order, json!({"problem": "damaged"}));
    device.verdicts(&[pick_up.clone(), report.clone()]).await;

    // It was restored: the answers are lost, and the numbers begin anew.
    device.incarnation = IncarnationId::new();
    let again = [
        but(pick_up, "seq", 1),
        but(but(report, "seq", 2), "after_seq", 1),
        but(device.intent("deliver", &order, json!({})), "after_seq", 2),
    ];
    let words: Vec<_> = device.verdicts(&again).await.iter().map(said).collect();
    assert_eq!(
        words,
        ["duplicate of applied", "duplicate of applied", "applied"]
    );
    assert_eq!(world.stands(&order).await, "delivered 5");
}

#[tokio::test]
async fn a_clock_that_is_a_year_off_changes_nothing() {
    let world = world().await;
    let (mia, mut device) = world.mia().await;
    let year = 366 * 86_400_000_i64;
    let mut said_of = Vec::new();
    for off in [0, year, -year, i64::MIN, i64::MAX] {
        let order = world.assigned(&mia).await;
        let now = Timestamp::now().as_millisecond().saturating_add(off);
        let sent = [
            but(
                device.intent("pick_up", &order, json!({})),
                "device_time_ms",
                now,
            ),
            but(
                device.intent("deliver", &order, json!({})),
                "device_time_ms",
                -now.saturating_add(1),
            ),
        ];
        let words: Vec<_> = device.verdicts(&sent).await.iter().map(said).collect();
        said_of.push((words, world.stands(&order).await));
        let shown = world.show(&format!("/orders/{order}")).await;
        let moment = |field: &str| -> Timestamp { shown[field].as_str().unwrap().parse().unwrap() };
        let (made, changed) = (moment("created_at"), moment("changed_at"));
        assert!(
            made <= changed && changed <= Timestamp::now(),
            "by this service's clock: {shown}"
        );
        let intent = world
            .api
            .get(&format!(
                "/intents/{}",
                sent[0]["intent_id"].as_str().unwrap()
            ))
            .await;
        assert_eq!(intent.status, 200, "{intent:?}");
    }
    assert!(said_of.iter().all(|of| *of == said_of[0]), "{said_of:?}");
}

#[tokio::test]
async fn the_first_devices_upload_is_understood_as_it_was_recorded() {
    let world = world().await;
    let (mia, device) = world.mia().await;
    let order = world.assigned(&mia).await;
    let recorded = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../event-schema/sync/upload.first-devices.json");
    let recorded = fs::read_to_string(recorded).unwrap();
    let upload: Value = serde_json::from_str(&recorded).unwrap();
    let its_order = upload["intents"][0]["order_id"].as_str().unwrap();
    let upload: Value = serde_json::from_str(&recorded.replace(its_order, &order)).unwrap();
    let answer = world
        .api
        .sending(&*device.token)
        .post("/sync/intents", &upload)
        .await;
    let words: Vec<_> = answer.json()["verdicts"]
        .as_array()
        .unwrap()
        .iter()
        .map(said)
        .collect();
    assert_eq!(words, ["applied", "applied", "superseded order_delivered"]);
    let shown = world.show(&format!("/orders/{order}")).await;
    assert_eq!(shown["note"], "left with neighbour");
}

#[tokio::test]
async fn ten_thousand_intents_of_garbage_leave_everybody_elses_orders_alone() {
    let seed = 7;
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let world = world().await;
    let (noor, _) = world.mia().await;
    let (mia, mut device) = world.mia().await;
    let (hers, mine) = (world.assigned(&noor).await, world.assigned(&mia).await);
    let others = [
        hers.clone(),
        world.order().await,
        OrderId::new().to_string(),
        "x".repeat(99),
        String::new(),
    ];
    let before = [
        world.show(&format!("/orders/{}", others[0])).await,
        world.show(&format!("/orders/{}", others[1])).await,
    ];
    let mut verdicts = BTreeMap::new();
    for _ in 0..100 {
        let sent: Vec<Value> = (0..100)
            .map(|_| garbage(&mut device, &others, &mut random))
            .collect();
        for verdict in device.verdicts(&sent).await {
            *verdicts.entry(said(&verdict)).or_insert(0) += 1;
        }
    }
    assert_eq!(verdicts.values().sum::<u32>(), 10_000);
    assert!(
        verdicts
            .keys()
            .all(|said| said.starts_with("rejected") || said.starts_with("retry_later")),
        "{verdicts:?}"
    );
    let after = [
        world.show(&format!("/orders/{}", others[0])).await,
        world.show(&format!("/orders/{}", others[1])).await,
    ];
    assert_eq!(after, before);
    assert_eq!(
        said(&device.want("pick_up", &mine, json!({})).await),
        "applied"
    );
}

fn garbage(device: &mut Device, orders: &[String], random: &mut SmallRng) -> Value {
    let kinds = [
        "pick_up",
        "deliver",
        "report_problem",
        "decide_conflict",
        "fly",
        "",
        "PICK_UP",
    ];
    let arguments = [
        json!({}),
        json!({"note": "x"}),
        json!({"problem": "damaged"}),
        json!({"intent_id": IntentId::new(), "decision": "insisted"}),
        json!([1, 2]),
        json!(null),
        json!({"note": {"deep": [[[[]]]]}, "by": 8}),
    ];
    let (kind, order) = (
        kinds.choose(random).unwrap(),
        orders.choose(random).unwrap(),
    );
    let intent = device.intent(kind, order, arguments.choose(random).unwrap().clone());
    // A lane that waits would hold what comes behind it, so what waits has a lane of its own.
    let newer = random.random_range(0..50) == 0;
    let intent = match newer {
        true => but(
            but(intent, "order_id", OrderId::new().to_string()),
            "kind",
            "pick_up",
        ),
        false => intent,
    };
    let intent = but(
        intent,
        "schema_version",
        if newer {
            u32::MAX
        } else {
            random.random_range(0..=1)
        },
    );
    but(intent, "base_version", random.random_range(1..i64::MAX))
}

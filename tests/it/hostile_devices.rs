//! Devices that lie, repeat themselves, flood, or have a broken file, against the real owner: each harms only itself, and no other
//! device notices it.
//!
//! `FREEHOLD_SEED` repeats a run's choices.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use freehold_tests::drivers::Driver;
use freehold_tests::http::Reply;
use freehold_tests::{Part, Password, SyncApi, World, eventually, outbox, seconds};
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::conflicts::{assigned, shows};
use crate::ledger::Ledger;

/// A device in the test's hands.
struct Liar {
    api: SyncApi,
    driver: String,
    device: String,
    incarnation: String,
    next: u64,
}

/// Everything of another driver: rows of tables and what their device shows.
#[derive(Debug, PartialEq)]
struct Others {
    rows: Vec<Vec<rusqlite::types::Value>>,
    deliveries: Vec<Value>,
}

const YEAR_MS: i64 = 365 * 86_400_000;
const FLOOD: u64 = 10_000;
/// How many intents that change no order orders-service accepts from one device in a day.
const BUDGET: u64 = 500;
const AT_ONCE: u64 = 100;

#[tokio::test]
async fn intents_about_anothers_orders_repeated_or_impossible_ones_affect_only_their_own_device() {
    let world = World::builder().with_drivers(1).start().await;
    let hers = assigned(&world, &world.drivers[0].id).await;
    shows(&world.drivers[0].api(), &hers, "assigned").await;
    let mut liar = Liar::join(&world).await;
    let own = assigned(&world, &liar.driver).await;
    let before = Others::of(&world, &world.drivers[0]).await;

    for kind in ["pick_up", "deliver", "report_problem", "decide_conflict"] {
        let wish = liar.wants(kind, &hers, arguments(kind));
        assert_eq!(liar.asks(&[wish]).await, ["rejected order_not_found"]);
    }
    let odd = [
        (
            liar.wants("pick_up", "no order at all", json!({})),
            "rejected order_not_found",
        ),
        (liar.wants("fly", &own, json!({})), "rejected unknown_kind"),
        (
            with(
                liar.wants("pick_up", &own, json!({})),
                "schema_version",
                json!(0),
            ),
            "rejected invalid_arguments",
        ),
        (
            liar.wants("deliver", &own, json!({"speed": 7})),
            "rejected invalid_arguments",
        ),
        (
            liar.wants("deliver", &own, json!({})),
            "rejected not_picked_up",
        ),
        (
            with(
                liar.wants("pick_up", &own, json!({})),
                "schema_version",
                json!(99),
            ),
            "retry_later newer_version",
        ),
        (
            with(
                liar.wants("pick_up", &own, json!({})),
                "after_seq",
                json!(999),
            ),
            "retry_later out_of_order",
        ),
        (
            with(
                liar.wants("pick_up", &own, json!({})),
                "seen",
                json!(liar.place_in_future(&world)),
            ),
            "retry_later not_caught_up",
        ),
    ];
    for (intent, verdict) in odd {
        assert_eq!(
            liar.asks(std::slice::from_ref(&intent)).await,
            [verdict],
            "{intent}"
        );
    }
    // From a clock that is a year slow, and one that is a year fast; then all of it again, and in another order.
    let early = liar.by_clock("pick_up", &own, -YEAR_MS);
    let late = liar.by_clock("deliver", &own, YEAR_MS);
    assert_eq!(
        liar.asks(&[early.clone(), late.clone()]).await,
        ["applied", "applied"]
    );
    let head = outbox::head(&world.orders_service.database).expect("read");
    for _ in 0..3 {
        let said = liar.asks(&[early.clone(), late.clone()]).await;
        assert_eq!(said, ["duplicate applied", "duplicate applied"]);
    }
    let backwards = liar.sends(&[late, early.clone()]).await;
    assert_eq!(backwards.expect_status(422).problem(), Some("invalid_body"));
    let other = with(early, "intent_id", json!(Uuid::now_v7().to_string()));
    let forked = liar.sends(&[other]).await;
    assert_eq!(
        forked.expect_status(409).problem(),
        Some("incarnation_forked")
    );
    assert_eq!(
        outbox::head(&world.orders_service.database).expect("read"),
        head
    );

    assert_eq!(Others::of(&world, &world.drivers[0]).await, before);
    everybody_else_works(&world, &hers).await;
}

#[tokio::test]
async fn garbage_wrong_tokens_and_positions_of_other_feeds_are_refused_clearly() {
    let world = World::builder().with_drivers(1).start().await;
    let (office, driver) = (world.orders(), &world.drivers[0]);
    let hers = assigned(&world, &driver.id).await;
    shows(&driver.api(), &hers, "assigned").await;
    let mut liar = Liar::join(&world).await;
    let before = Others::of(&world, driver).await;

    let many: Vec<_> = (0..101)
        .map(|_| liar.wants("pick_up", "x", json!({})))
        .collect();
    assert_eq!(liar.sends(&many).await.status, 422);
    assert_eq!(liar.sends(&[]).await.status, 422);
    let bodies: [&[u8]; 7] = [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{\"incarnation\": 1}",
        b"\xff\xfe",
        &[b'['; 60_000],
    ];
    for body in bodies.into_iter().chain([&vec![b' '; 2_000_000][..]]) {
        let request = liar.api.request(Method::POST, "/sync/intents");
        let reply = Reply::of(
            request
                .header("Content-Type", "application/json")
                .body(body.to_vec()),
        )
        .await;
        assert!(
            (400..500).contains(&reply.status) || reply.status == Reply::NONE,
            "{reply:?}"
        );
        assert!(
            reply.status == Reply::NONE || reply.body["code"].is_string(),
            "{reply:?}"
        );
    }

    // A body that is refused before it has come to its end costs the connection that it came on.
    let mine = eventually("a new connection is answered", seconds(10), async || {
        let page = liar.api.feed("limit=200").await;
        (page.status == 200)
            .then(|| page.body["next"].clone())
            .ok_or(page.body)
    })
    .await;
    let mine = mine.as_str().expect("a place");
    let hers_place = mine.replace(&liar.driver, &driver.id);
    for place in [
        "x",
        "f1",
        "f1.1.2.3",
        &hers_place,
        &format!("{mine}.{mine}"),
    ] {
        let refused = liar.api.feed(&format!("after={place}")).await;
        assert_eq!(
            refused.expect_status(400).problem(),
            Some("invalid_query"),
            "{place}"
        );
    }
    let invented = liar.place_in_future(&world);
    let anew = liar
        .api
        .feed(&format!("after={invented}"))
        .await
        .expect_status(200);
    assert_eq!(
        anew.body["snapshot"], true,
        "a place that does not exist begins anew"
    );
    let wish = liar.wants("pick_up", &hers, json!({}));

    for token in ["", "x", "fhd_0", &"a".repeat(5000)] {
        let stranger = liar.api.with_token(Password::known(token));
        let refused = stranger
            .upload(&liar.incarnation, std::slice::from_ref(&wish))
            .await;
        assert!(matches!(refused.status, 401 | 431), "{refused:?}");
    }
    let operator = liar.api.with_token(world.orders_service.operator.clone());
    assert_eq!(operator.feed("").await.status, 403);
    for path in [
        "/orders",
        "/drivers",
        "/intents",
        &format!("/orders/{hers}"),
    ] {
        assert_eq!(liar.api.get(path).await.status, 403, "{path}");
    }
    office.revoke_device(&liar.device).await.expect_status(200);
    for _ in 0..2 {
        let refused = liar.sends(std::slice::from_ref(&wish)).await;
        assert_eq!(refused.expect_status(401).problem(), Some("revoked"));
        assert_eq!(liar.api.feed("").await.status, 401);
    }

    assert_eq!(Others::of(&world, driver).await, before);
    everybody_else_works(&world, &hers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_intents_at_once_delay_no_other_device() {
    let world = World::builder().with_drivers(1).start().await;
    let mut liar = Liar::join(&world).await;
    let mut orders = Vec::new();
    for _ in 0..5 {
        orders.push(assigned(&world, &world.drivers[0].id).await);
    }
    let device = world.drivers[0].api();
    for order in &orders {
        shows(&device, order, "assigned").await;
    }
    let uploads: Vec<Vec<Value>> = (0..FLOOD / AT_ONCE)
        .map(|_| {
            (0..AT_ONCE)
                .map(|n| liar.wants("pick_up", &format!("lane {n}"), json!({})))
                .collect()
        })
        .collect();
    let begun = Instant::now();
    let flood: Vec<_> = uploads
        .into_iter()
        .map(|intents| {
            let (api, incarnation) = (liar.api.clone(), liar.incarnation.clone());
            tokio::spawn(async move { sent_until_answered(&api, &incarnation, &intents).await })
        })
        .collect();
    let (mut waits, mut amid) = (Vec::new(), 0);
    for order in &orders {
        let begun = Instant::now();
        device.pick_up(order).await.expect_status(202);
        device.deliver(order, None).await.expect_status(202);
        eventually("the owner knows", seconds(30), async || {
            let order = world.orders().order(order).await.body;
            (order["status"] == "delivered").then_some(()).ok_or(order)
        })
        .await;
        waits.push(begun.elapsed());
        amid += u64::from(flood.iter().any(|upload| !upload.is_finished()));
    }
    let mut refused = 0;
    for upload in flood {
        refused += upload.await.expect("it ends");
    }
    let flooded = begun.elapsed();
    let ledger = Ledger::of(&world.orders_service.database);
    println!(
        "{FLOOD} intents in {flooded:?}; meanwhile {amid} deliveries of another driver took {waits:?}"
    );
    assert_eq!(refused, BUDGET);
    assert_eq!(
        (ledger.count("rejected") as u64, ledger.count("applied")),
        (BUDGET, 10)
    );
    assert!(
        amid > 0,
        "the flood was over before anybody else did anything"
    );
    assert!(
        waits.iter().all(|wait| *wait < Duration::from_secs(5)),
        "{waits:?}"
    );
}

/// Whatever is left of the file: the program refuses it with a reason, or runs as a device that repeats nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_with_a_truncated_or_damaged_file_refuses_clearly_or_continues_and_repeats_nothing()
 {
    let seed = freehold_tests::chance::seed();
    println!("FREEHOLD_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::builder().with_drivers(1).start().await;
    let (mut refused, mut went_on, mut forked) = (0, 0, 0);
    for round in 0..12 {
        let order = assigned(&world, &world.drivers[0].id).await;
        let device = world.drivers[0].api();
        shows(&device, &order, "assigned").await;
        device.pick_up(&order).await.expect_status(202);
        until_known(&world, &order, "picked_up").await;
        world.drivers[0].switch.off();
        device
            .deliver(&order, Some("once"))
            .await
            .expect_status(202);
        world.drivers[0].app.kill();
        damage(&world.drivers[0].app.database, round, &mut random);
        match world.drivers[0].app.start().await {
            Ok(()) => went_on += 1,
            Err(error) => {
                refused += 1;
                let said = error.to_string();
                assert!(
                    said.contains("error: ") && !said.contains("panicked"),
                    "{said}"
                );
                world.drivers[0]
                    .app
                    .delete_database_and_lock()
                    .expect("deleted");
                world.drivers[0].app.start().await.expect("a new file");
            }
        }
        world.drivers[0].switch.on();
        forked += work_goes_on(&world, &order).await;
    }
    let database = &world.orders_service.database;
    let ledger = Ledger::of(database);
    ledger.expect_tables(database);
    assert!(
        ledger.orders.values().all(|order| order.delivered == 1),
        "{:?}",
        ledger.orders
    );
    println!(
        "of 12 damaged files {refused} were refused, {went_on} went on, at the end after {forked} forks; FREEHOLD_SEED={seed}"
    );
}

/// Enrolled again if it must be, the device comes to rest, and whatever was lost is done by the driver once more.
async fn work_goes_on(world: &World, order: &str) -> u64 {
    let (driver, office) = (&world.drivers[0], world.orders());
    let device = driver.api();
    if device.state().await.expect("it answers").enrolment() != "valid" {
        driver.enrol(&office).await.expect("enrolled");
    }
    let head = outbox::head(&world.orders_service.database).expect("read");
    let shown = device.until_quiet(head).await;
    if shown.status_of(order) != Some("delivered") {
        assert_eq!(
            shown.status_of(order),
            Some("picked_up"),
            "as the owner knows it: {shown}"
        );
        device.deliver(order, Some("once")).await.expect_status(202);
    }
    until_known(world, order, "delivered").await;
    let head = outbox::head(&world.orders_service.database).expect("read");
    let shown = device.until_quiet(head).await;
    assert_eq!(shown.conflicts().count(), 0, "{shown}");
    shown.forks()
}

async fn until_known(world: &World, order: &str, status: &str) {
    eventually("the owner knows", seconds(30), async || {
        world.drivers[0].api().sync().await;
        let order = world.orders().order(order).await.body;
        (order["status"] == status).then_some(()).ok_or(order)
    })
    .await;
}

/// The WAL ends early; has other bytes somewhere; is gone; and the same of the file itself.
fn damage(database: &Path, round: u64, random: &mut StdRng) {
    let mut wal = database.as_os_str().to_owned();
    wal.push("-wal");
    let wal = PathBuf::from(wal);
    let victim = if round % 6 < 4 { &wal } else { database };
    let mut bytes = std::fs::read(victim).expect("it is there: the device was killed");
    assert!(
        !bytes.is_empty(),
        "nothing to damage in {}",
        victim.display()
    );
    let at = random.random_range(0..bytes.len());
    match round % 6 {
        0 | 1 | 4 => bytes.truncate(at),
        2 | 5 => {
            let end = (at + 600).min(bytes.len());
            random.fill_bytes(&mut bytes[at..end]);
        }
        _ => bytes.clear(),
    }
    std::fs::write(victim, bytes).expect("written");
}

/// In uploads that are repeated until they are answered: a caller beyond the limit gets 429.
async fn sent_until_answered(api: &SyncApi, incarnation: &str, intents: &[Value]) -> u64 {
    loop {
        let reply = api.upload(incarnation, intents).await;
        match reply.status {
            200 => {
                let said = in_words(&reply);
                let refused = said.iter().filter(|said| said.contains("rejected"));
                return refused.count() as u64;
            }
            429 | 503 | Reply::NONE => tokio::time::sleep(Duration::from_millis(50)).await, // as a device would
            _ => panic!("{reply:?}"),
        }
    }
}

impl Liar {
    async fn join(world: &World) -> Liar {
        let office = world.orders();
        let driver = office
            .enrol_driver("Eve")
            .await
            .expect_status(201)
            .id()
            .to_owned();
        let code = office.code(&driver).await.expect_status(201).body["code"].clone();
        let device = Uuid::now_v7().to_string();
        let api = SyncApi::of(&world.orders_service);
        let api = api
            .enrol(code.as_str().expect("text"), &device)
            .await
            .expect("enrolled");
        Liar {
            api,
            driver,
            device,
            incarnation: Uuid::now_v7().to_string(),
            next: 1,
        }
    }

    fn wants(&mut self, kind: &str, lane: &str, arguments: Value) -> Value {
        let version = if kind == "deliver" { 2 } else { 1 };
        let intent = json!({"intent_id": Uuid::now_v7().to_string(), "seq": self.next, "order_id": lane, "kind": kind,
            "schema_version": version, "arguments": arguments, "base_version": 2, "device_time_ms": 1});
        self.next += 1;
        intent
    }

    fn by_clock(&mut self, kind: &str, lane: &str, off_by_ms: i64) -> Value {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now =
            i64::try_from(now.expect("after 1970").as_millis()).expect("before the sun is cold");
        with(
            self.wants(kind, lane, json!({})),
            "device_time_ms",
            json!(now + off_by_ms),
        )
    }

    async fn sends(&self, intents: &[Value]) -> Reply {
        self.api.upload(&self.incarnation, intents).await
    }

    /// The verdict of each, in words.
    async fn asks(&self, intents: &[Value]) -> Vec<String> {
        in_words(&self.sends(intents).await.expect_status(200))
    }

    fn place_in_future(&self, world: &World) -> String {
        let head = outbox::head(&world.orders_service.database).expect("read");
        format!("f1.{}.{}.{}", self.driver, head + 1000, Uuid::now_v7())
    }
}

fn in_words(reply: &Reply) -> Vec<String> {
    let words = |verdict: &Value| {
        let first = verdict["first"]["verdict"].as_str();
        let said = [verdict["verdict"].as_str(), first, verdict["code"].as_str()];
        said.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    let verdicts = reply.body["verdicts"].as_array().expect("verdicts");
    verdicts.iter().map(words).collect()
}

fn with(mut intent: Value, name: &str, value: Value) -> Value {
    intent[name] = value;
    intent
}

fn arguments(kind: &str) -> Value {
    match kind {
        "report_problem" => json!({"problem": "other"}),
        "decide_conflict" => {
            json!({"intent_id": Uuid::now_v7().to_string(), "decision": "accepted"})
        }
        _ => json!({}),
    }
}

impl Others {
    /// Every row about this driver, and what their device shows.
    async fn of(world: &World, driver: &Driver) -> Others {
        let id = &driver.id;
        let database = &world.orders_service.database;
        let queries = [
            format!("select * from orders where driver_id = '{id}' order by id"),
            format!("select * from drivers where id = '{id}'"),
            format!("select * from devices where driver_id = '{id}'"),
            format!("select * from scopes where driver_id = '{id}' order by order_id"),
            format!("select * from intents where driver_id = '{id}' order by id"),
        ];
        let rows = queries
            .iter()
            .flat_map(|sql| outbox::rows(database, sql).expect("read"));
        let shown = driver.api().state().await.expect("it answers");
        Others {
            rows: rows.collect(),
            deliveries: shown.deliveries().cloned().collect(),
        }
    }
}

/// The other driver's device does its work as ever, and the log is in order.
async fn everybody_else_works(world: &World, order: &str) {
    let device = world.drivers[0].api();
    device.pick_up(order).await.expect_status(202);
    device.deliver(order, None).await.expect_status(202);
    device.until_quiet(0).await;
    shows(&device, order, "delivered").await;
    let database = &world.orders_service.database;
    let ledger = Ledger::of(database);
    ledger.expect_tables(database);
    assert_eq!(ledger.orders[order].status, "delivered");
}

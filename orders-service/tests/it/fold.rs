//! The log comes home: an empty file becomes the one that wrote it.

use std::fs;
use std::path::Path;

use event_schema::sync::{Intent, Upload};
use event_schema::{
    CancelReason, ConflictDecided, DecidedBy, Decision, DeviceId, DriverId, IncarnationId,
    IntentId, IntentMisdirected, IntentRefused, IntentStamp, OrderEvent, OrderId, RefusedVerdict,
    ReleaseReason, UserId, Version, Wanted,
};
use orders_service::domain::{Amount, Driver, Note, Order, OwnEvent, Refusal};
use orders_service::events::{MakeError, make};
use orders_service::service;
use orders_service::store::{drivers, intents, orders};
use orders_service::sync::receive;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use relay::log::{AppendLog, Log, Record};
use relay::rusqlite::types::Value;
use relay::{Database, Keys, Tx};
use serde_json::json;
use service_kit::testing::{import_log, rows};

/// All that follows from the log.
const TABLES: [&str; 6] = [
    "select * from orders order by id",
    "select * from history order by aggregate, version",
    "select * from drivers order by id",
    "select * from devices order by id",
    "select * from scopes order by driver_id, order_id",
    "select * from intents order by id",
];

#[tokio::test]
async fn the_log_makes_the_same_rows_again() {
    for seed in 0..4 {
        println!("seed {seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let (office, folder) = empty().await;
        let mut life = Life::begin(&office).await;
        for _ in 0..200 {
            life.step(&office, &mut random).await;
        }
        let (home, _folder) = empty_with_keys_of(&folder).await;
        import_log(&office, &home).await.unwrap();
        for table in TABLES {
            let lived = rows(&office, table).await;
            assert!(!lived.is_empty(), "{table}");
            assert_eq!(rows(&home, table).await, lived, "seed {seed}: {table}");
        }
    }
}

/// Orders, drivers and devices, and whatever they do next.
struct Life {
    orders: Vec<OrderId>,
    drivers: Vec<(DriverId, DeviceId)>,
    incarnation: IncarnationId,
    intents: Vec<IntentId>,
}

impl Life {
    async fn begin(office: &Database) -> Self {
        let mut drivers = Vec::new();
        for name in ["Mia", "Noor", "Ивáн"] {
            let (driver, device) = (DriverId::new(), DeviceId::new());
            write(office, move |tx| {
                make(tx, Driver::enrol(driver, name.parse().unwrap(), 5))?;
                let enrolled = drivers::find(tx, driver).unwrap().unwrap();
                let event = enrolled.enrol_device(device, 99, 6).unwrap();
                let token_hash = Some(format!("hash of {device}"));
                make(tx, OwnEvent { event, token_hash })
            })
            .await;
            drivers.push((driver, device));
        }
        Self {
            orders: Vec::new(),
            drivers,
            incarnation: IncarnationId::new(),
            intents: Vec::new(),
        }
    }

    /// Many steps are refused, as in life.
    async fn step(&mut self, office: &Database, random: &mut SmallRng) {
        let now = random.random_range(10..1_000_000);
        let (driver, device) = *self.drivers.choose(random).unwrap();
        let Some(order) = self.orders.choose(random).copied() else {
            return self.place(office, now).await;
        };
        match random.random_range(0..20) {
            0..3 => self.place(office, now).await,
            3..8 => change(office, order, move |order| order.assign(driver, now)).await,
            8 => {
                let reason = ReleaseReason::Unassigned;
                change(office, order, move |order| order.release(reason, now)).await;
            }
            9 => {
                let note = Note::clean("sold out");
                let reason = CancelReason::OutOfStock;
                change(office, order, move |order| order.cancel(reason, note, now)).await;
            }
            10 => self.decide(office, random, now).await,
            _ => {
                let upload = self.upload(order, random);
                write(office, move |tx| {
                    let verdicts = receive(tx, device, driver, upload, now).unwrap();
                    assert!(verdicts.verdicts[0].outcome.is_final(), "{verdicts:?}");
                    Ok(0)
                })
                .await;
            }
        }
    }

    async fn place(&mut self, office: &Database, now: i64) {
        let (id, amount) = (OrderId::new(), Amount::try_from(1999).unwrap());
        let placed = Order::place(id, UserId::new(), amount, "EUR".parse().unwrap(), now);
        write(office, move |tx| make(tx, placed)).await;
        self.orders.push(id);
    }

    fn upload(&mut self, order: OrderId, random: &mut SmallRng) -> Upload {
        let of_old = self.intents.choose(random).copied();
        let (kind, arguments) = match (random.random_range(0..8), of_old) {
            (0..3, _) => ("pick_up", json!({})),
            (3, _) => ("deliver", json!({"note": "at the door"})),
            (4, _) => ("deliver", json!({})),
            (5, _) => ("report_problem", json!({"problem": "nobody_home"})),
            (6, Some(intent_id)) => {
                let decision = ["accepted", "insisted"].choose(random).unwrap();
                let arguments = json!({"intent_id": intent_id, "decision": decision});
                ("decide_conflict", arguments)
            }
            _ => ("fly", json!({"height_m": 3})),
        };
        let intent_id = IntentId::new();
        self.intents.push(intent_id);
        Upload {
            incarnation: self.incarnation,
            intents: vec![Intent {
                intent_id,
                seq: self.intents.len() as u64,
                after_seq: None,
                order_id: order.to_string(),
                kind: kind.to_owned(),
                schema_version: if kind == "deliver" { 2 } else { 1 },
                arguments,
                base_version: Version::FIRST,
                seen: None,
                device_time_ms: -7,
            }],
        }
    }

    /// As an operator does.
    async fn decide(&self, office: &Database, random: &mut SmallRng, now: i64) {
        let Some(intent_id) = self.intents.choose(random).copied() else {
            return;
        };
        write(office, move |tx| {
            let Some(conflict) = intents::conflict(tx, intent_id).unwrap() else {
                return Ok(0);
            };
            let by = DecidedBy::Operator;
            make(tx, conflict.decide(Decision::Dismissed, by, None, now))
        })
        .await;
    }
}

async fn change(
    office: &Database,
    id: OrderId,
    change: impl FnOnce(Order) -> Result<OrderEvent, Refusal> + Send + 'static,
) {
    write(office, move |tx| {
        let order = orders::find(tx, id).unwrap().unwrap();
        match change(order) {
            Ok(event) => make(tx, event),
            Err(_) => Ok(0),
        }
    })
    .await;
}

async fn write(
    office: &Database,
    work: impl FnOnce(&Tx<'_>) -> Result<u64, MakeError> + Send + 'static,
) {
    let written = office.write(work).await;
    written.map_err(|error| error.to_string()).unwrap();
}

#[tokio::test]
async fn an_order_whose_event_does_not_say_when_is_as_old_as_the_event() {
    let (home, _folder) = empty().await;
    append(&home, "orders.placed.v1").await;
    append(&home, "orders.placed.v1.created_at_ms").await;
    let found = rows(
        &home,
        "select status, created_at_ms from orders order by id",
    )
    .await;
    let order = |at_ms: i64| vec![Value::from("placed".to_owned()), at_ms.into()];
    assert_eq!(found, [order(1_753_866_910_778), order(1_759_655_712_345)]);
}

async fn empty() -> (Database, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open(&folder, &folder).await, folder)
}

/// A lost file and its keys, which are kept elsewhere.
async fn empty_with_keys_of(other: &tempfile::TempDir) -> (Database, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (open(&folder, other).await, folder)
}

async fn open(folder: &tempfile::TempDir, keys: &tempfile::TempDir) -> Database {
    let keys = Keys::open_or_create(&keys.path().join("orders.db.keys")).unwrap();
    let path = folder.path().join("orders.db");
    let opened = Database::open(path, service().options().keys(keys)).await;
    opened.unwrap()
}

/// Appends the next event of the log as it was recorded.
async fn append(db: &Database, fixture: &str) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../event-schema/fixtures");
    let bytes = fs::read(fixtures.join(format!("{fixture}.json"))).unwrap();
    let mut outbox = db.outbox();
    let head = outbox.head().await.unwrap().unwrap();
    let record = Record {
        seq: head.seq + 1,
        subject: "orders.placed".to_owned(),
        bytes: bytes.trim_ascii().to_vec().into(),
    };
    outbox.append_after(&head, &[record]).await.unwrap();
}

/// A day, and a moment of one.
const DAY_MS: i64 = 86_400_000;
const NOON_MS: i64 = 1_759_655_712_345;

#[tokio::test]
async fn a_budget_outlives_the_file_and_no_leap_of_the_clock_spends_it_for_good() {
    let (office, folder) = empty().await;
    let mut life = Life::begin(&office).await;
    let far = NOON_MS + 400 * DAY_MS;
    // A clock that has leapt ahead, and is back now: that day does not count yet.
    assert_eq!(life.refusals(&office, far).await, 500);
    assert_eq!(life.refusals(&office, NOON_MS).await, 500);
    assert_eq!(life.refusals(&office, NOON_MS + 1).await, 0);
    assert_eq!(life.refusals(&office, NOON_MS + DAY_MS - 1).await, 0);

    let (home, _folder) = empty_with_keys_of(&folder).await;
    import_log(&office, &home).await.unwrap();
    for db in [&office, &home] {
        assert_eq!(life.refusals(db, NOON_MS + 1).await, 0);
        assert_eq!(
            life.refusals(db, NOON_MS - 1).await,
            500,
            "and one that leaps back"
        );
    }
    assert_eq!(life.refusals(&office, NOON_MS + 2 * DAY_MS).await, 500);
    assert_eq!(
        life.refusals(&office, far + 1).await,
        0,
        "the day itself has come"
    );
}

impl Life {
    /// How many of a thousand intents about nothing the first driver's device gets a verdict for.
    async fn refusals(&mut self, office: &Database, now: i64) -> usize {
        let ((driver, device), mut refused) = (self.drivers[0], 0);
        for _ in 0..10 {
            let mut upload = self.upload(OrderId::new(), &mut SmallRng::seed_from_u64(0));
            let first = upload.intents.remove(0);
            let lost = |at: u64| Intent {
                intent_id: IntentId::new(),
                seq: first.seq * 1_000 + at,
                order_id: OrderId::new().to_string(),
                ..first.clone()
            };
            upload.intents = (0..100).map(lost).collect();
            let write = office.write(move |tx| receive(tx, device, driver, upload, now));
            let verdicts = write
                .await
                .map_err(|error| error.to_string())
                .unwrap()
                .verdicts;
            refused += verdicts.iter().filter(|of| of.outcome.is_final()).count();
        }
        refused
    }
}

#[tokio::test]
async fn refusals_and_decisions_of_an_older_log_change_their_orders_and_drivers_as_they_did() {
    let (office, folder) = empty().await;
    let mut life = Life::begin(&office).await;
    life.place(&office, 10).await;
    let (order, (driver, device)) = (life.orders[0], life.drivers[0]);
    change(&office, order, move |order| order.assign(driver, 11)).await;
    let stamp = move |seq| IntentStamp {
        intent_id: IntentId::new(),
        device_id: device,
        incarnation: IncarnationId::new(),
        seq,
        device_time_ms: 7,
    };
    let wanted = || Wanted {
        kind: "pick_up".to_owned(),
        schema_version: 1,
        arguments: json!({}),
        base_version: Version::FIRST,
    };
    let (intent, lost) = (stamp(1), stamp(2));
    let intent_id = intent.intent_id;
    let third = Version::FIRST.next().next();
    let refused = OrderEvent::IntentRefused(IntentRefused {
        order_id: order,
        driver_id: driver,
        intent,
        wanted: wanted(),
        verdict: RefusedVerdict::Conflict,
        code: "order_cancelled".to_owned(),
        status: "cancelled".to_owned(),
        version: third,
        at_ms: 12,
    });
    let misdirected = OrderEvent::IntentMisdirected(IntentMisdirected {
        driver_id: driver,
        intent: lost,
        lane: "nowhere".to_owned(),
        wanted: wanted(),
        verdict: RefusedVerdict::Rejected,
        code: "order_not_found".to_owned(),
        version: third,
        at_ms: 13,
    });
    let insisted = OrderEvent::ConflictDecided(ConflictDecided {
        order_id: order,
        intent_id,
        decision: Decision::Insisted,
        by: DecidedBy::Driver,
        version: third.next(),
        at_ms: 14,
        intent: Some(stamp(3)),
    });
    for event in [refused, misdirected, insisted] {
        write(&office, move |tx| make(tx, event)).await;
    }
    let dismissed = move |tx: &Tx<'_>| {
        let conflict = intents::conflict(tx, intent_id).unwrap().unwrap();
        make(
            tx,
            conflict.decide(Decision::Dismissed, DecidedBy::Operator, None, 15),
        )
    };
    write(&office, dismissed).await;

    let (home, _folder) = empty_with_keys_of(&folder).await;
    import_log(&office, &home).await.unwrap();
    for db in [&office, &home] {
        let versions = rows(db, "select (select version from orders), (select max(version) from drivers), seq from scopes").await;
        assert_eq!(versions, [[4.into(), 3.into(), 11.into()]]);
        let kept = rows(
            db,
            "select verdict, decision, status from intents order by place",
        )
        .await;
        let text = |text: &str| Value::from(text.to_owned());
        let expected = [
            [text("conflict"), text("dismissed"), text("cancelled")],
            [text("rejected"), Value::Null, Value::Null],
            [text("applied"), Value::Null, Value::Null],
        ];
        assert_eq!(kept, expected);
        let decided = rows(db, "select version from history order by seq desc limit 1").await;
        assert_eq!(decided, [[1.into()]], "the intent's first event of its own");
    }
    for table in TABLES {
        assert_eq!(
            rows(&home, table).await,
            rows(&office, table).await,
            "{table}"
        );
    }
}

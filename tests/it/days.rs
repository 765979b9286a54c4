//! A day: five drivers who are offline a third of the time, an office that assigns, reassigns, cancels and revokes, and every
//! process killed in between. In the evening all sides agree, and every intent has had one effect.
//!
//! `FREEHOLD_SEED` repeats a run's choices.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use freehold_tests::http::Reply;
use freehold_tests::{
    Driver, DriverApi, OrderApi, Part, Shown, Switch, SyncApi, World, eventually, outbox, seconds,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

use crate::ledger::{Intent, Ledger, Order, kept_text};

const ORDERS: u64 = 200;
const DRIVERS: usize = 5;
const FAULTS: u64 = 18;
const CUSTOMERS: u64 = 12;
/// What happens to which device besides.
const RESTORED: usize = 1;
const CLONED: usize = 2;
const ENROLLED_AGAIN: usize = 3;
const GIVEN_AWAY: usize = 4;
/// Enough for a busy machine.
const DAY_LIMIT: Duration = seconds(180);

/// Every answer that clients received.
#[derive(Default)]
struct Day {
    over: AtomicBool,
    /// The drivers at work.
    drivers: Mutex<Vec<String>>,
    told: Mutex<Told>,
    placed: AtomicU64,
    /// Changes of the office that came too late: 412 and 409.
    office_conflicts: AtomicU64,
}

#[derive(Default)]
struct Told {
    /// Intents that a device has answered with 202, and which device it was.
    accepted: BTreeMap<String, usize>,
    /// Refusals that a driver has dismissed.
    dismissed: BTreeSet<String>,
    /// Requests to a device without an answer: stored or not.
    unsure: u64,
}

impl Day {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drivers(&self) -> MutexGuard<'_, Vec<String>> {
        self.drivers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A driver with a device.
struct AtWork {
    device: usize,
    api: DriverApi,
    switch: Arc<Switch>,
    day: Arc<Day>,
    random: StdRng,
}

/// How long a driver was there, and without a network.
#[derive(Clone, Copy, Default)]
struct Hours {
    all: Duration,
    offline: Duration,
}

#[derive(Default)]
struct Director {
    copy: Option<PathBuf>,
    twin: Option<(Driver, JoinHandle<Hours>)>,
    /// In a file that was restored from an older copy: perhaps in no other file.
    perhaps_lost: BTreeSet<String>,
    first_driver: String,
    kills: BTreeMap<String, u64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_of_five_drivers_ends_in_agreement_whatever_is_killed() {
    let seed = freehold_tests::chance::seed();
    println!("FREEHOLD_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut world = World::builder().with_drivers(DRIVERS).start().await;
    let day = Arc::new(Day::default());
    let names = world.drivers.iter().map(|driver| driver.id.clone());
    *day.drivers() = names.collect();
    let customers = customers(&world).await;
    let office = tokio::spawn(keep_office(
        world.orders(),
        customers,
        day.clone(),
        draw(&mut random),
    ));
    let at_work: Vec<_> = (0..DRIVERS)
        .map(|device| AtWork::start(device, &world.drivers[device], &day, &mut random))
        .collect();

    let mut director = Director::default();
    for fault in 1..=FAULTS {
        director
            .until_placed(&day, ORDERS * fault / (FAULTS + 1))
            .await;
        director.happens(fault, &mut world, &day, &mut random).await;
    }
    office.await.expect("the office");
    day.over.store(true, Ordering::SeqCst);
    let mut hours = Vec::new();
    for driver in at_work {
        hours.push(driver.await.expect("a driver"));
    }
    let twin = director.twin.take().expect("it was made");
    hours.push(twin.1.await.expect("a driver"));
    world.drivers.push(twin.0);

    let evening = Instant::now();
    let ledger = everybody_agrees(&mut world, &day, &director).await;
    print_figures(&world, &day, &director, &ledger, &hours);
    world.check().await;
    println!(
        "the evening took {:?}; FREEHOLD_SEED={seed}",
        evening.elapsed()
    );
}

async fn customers(world: &World) -> Vec<String> {
    let mut customers = Vec::new();
    for n in 1..=CUSTOMERS {
        let email = format!("customer-{n}@example.org");
        let user = world
            .users()
            .register(&format!("Customer {n}"), &email)
            .await;
        customers.push(user.expect_status(201).id().to_owned());
    }
    customers
}

fn draw(random: &mut StdRng) -> StdRng {
    StdRng::seed_from_u64(random.random())
}

// The office.

/// Until every order is placed, and has had its chance to be brought: some are given to others, taken back, cancelled, and
/// conflicts are decided.
async fn keep_office(office: OrderApi, customers: Vec<String>, day: Arc<Day>, mut random: StdRng) {
    let begun = Instant::now();
    let mut open = usize::MAX;
    let mut after_work = 0;
    while after_work < 40 && begun.elapsed() < DAY_LIMIT {
        if day.placed.load(Ordering::SeqCst) < ORDERS {
            for _ in 0..random.random_range(1..6) {
                place(&office, &customers, &day, &mut random).await;
            }
        } else {
            after_work += if open < 20 { 10 } else { 1 };
        }
        open = look_after_orders(&office, &day, &mut random)
            .await
            .unwrap_or(open);
        decide_something(&office, &day, &mut random).await;
        pace(&mut random, 100).await;
    }
    assert_eq!(
        day.placed.load(Ordering::SeqCst),
        ORDERS,
        "the day was too short"
    );
}

/// With a key, so that a request whose answer was lost can be repeated.
async fn place(office: &OrderApi, customers: &[String], day: &Day, random: &mut StdRng) {
    if day.placed.load(Ordering::SeqCst) == ORDERS {
        return;
    }
    let key = Uuid::now_v7().to_string();
    let order = json!({"user_id": customers.choose(random), "amount_minor": random.random_range(1..9999), "currency": "EUR"});
    loop {
        let request = office.request(Method::POST, "/orders");
        let placed = Reply::of(request.header("Idempotency-Key", &key).json(&order)).await;
        match placed.status {
            201 => break,
            Reply::NONE | 409 | 503 => pace(random, 100).await,
            _ => panic!("an order is refused: {placed:?}"),
        }
    }
    day.placed.fetch_add(1, Ordering::SeqCst);
}

/// Answers how many are open, if orders-service does.
async fn look_after_orders(office: &OrderApi, day: &Day, random: &mut StdRng) -> Option<usize> {
    let mut open = 0;
    for status in ["placed", "assigned", "picked_up"] {
        let page = office
            .get(&format!("/orders?status={status}&limit=200"))
            .await;
        let orders = page.body["items"].as_array()?.clone();
        open += orders.len();
        for order in orders {
            let change = random.random_range(0..1000);
            match (status, change) {
                ("placed", 0..700) | (_, 0..14) => assign(office, day, &order, random).await,
                (_, 14..20) => count(day, office.unassign(id(&order), version(&order)).await),
                (_, 20..34) => {
                    let reason = ["customer_request", "out_of_stock"].choose(random);
                    let reason = reason.expect("there are two");
                    count(
                        day,
                        office.cancel(id(&order), version(&order), reason).await,
                    );
                }
                _ => {}
            }
        }
    }
    Some(open)
}

async fn assign(office: &OrderApi, day: &Day, order: &Value, random: &mut StdRng) {
    let driver = day.drivers().choose(random).cloned();
    let driver = driver.expect("a driver is at work");
    count(day, office.assign(id(order), version(order), &driver).await);
}

/// What has changed meanwhile is looked at again.
fn count(day: &Day, reply: Reply) {
    match reply.status {
        200 | Reply::NONE | 503 => {}
        409 | 412 => {
            day.office_conflicts.fetch_add(1, Ordering::SeqCst);
        }
        _ => panic!("the office cannot do that: {reply:?}"),
    }
}

async fn decide_something(office: &OrderApi, day: &Day, random: &mut StdRng) {
    let Ok(open) = office.intents("open=true").await else {
        return;
    };
    for (id, intent) in open {
        // Some are left to the driver, some stay undecided.
        if !random.random_bool(0.06) {
            continue;
        }
        let upheld = intent["kind"] == "deliver" && random.random_bool(0.5);
        let decision = if upheld { "upheld" } else { "dismissed" };
        count(day, office.decide(&id, None, decision).await);
    }
}

fn id(order: &Value) -> &str {
    order["id"].as_str().expect("an order has an id")
}

fn version(order: &Value) -> Option<u64> {
    order["version"].as_u64()
}

/// The pace of people, not a wait for a result.
async fn pace(random: &mut StdRng, longest_ms: u64) {
    sleep(Duration::from_millis(random.random_range(10..longest_ms))).await;
}

// The drivers.

impl AtWork {
    fn start(
        device: usize,
        driver: &Driver,
        day: &Arc<Day>,
        random: &mut StdRng,
    ) -> JoinHandle<Hours> {
        let at_work = AtWork {
            device,
            api: driver.api(),
            switch: driver.switch.clone(),
            day: day.clone(),
            random: draw(random),
        };
        tokio::spawn(at_work.run())
    }

    async fn run(mut self) -> Hours {
        let (mut hours, mut next) = (Hours::default(), Instant::now());
        while !self.day.over.load(Ordering::SeqCst) {
            if Instant::now() >= next {
                self.travel();
                next = Instant::now() + Duration::from_millis(self.random.random_range(300..2500));
            }
            let (begun, online) = (Instant::now(), self.switch.is_on());
            if let Ok(shown) = self.api.state().await {
                self.work(&shown).await;
            }
            pace(&mut self.random, 120).await;
            hours.all += begun.elapsed();
            if !online {
                hours.offline += begun.elapsed();
            }
        }
        self.switch.on();
        hours
    }

    /// Into a cellar, onto a hill, or behind a wall through which only some of it gets.
    fn travel(&mut self) {
        match self.random.random_range(0..100) {
            0..34 => self.switch.off(),
            34..42 => self.switch.lose_answers(),
            _ => self.switch.on(),
        }
    }

    async fn work(&mut self, shown: &Shown) {
        let possible: Vec<_> = shown
            .deliveries()
            .filter(|it| it["can"] != json!([]))
            .collect();
        if let Some(delivery) = possible.choose(&mut self.random) {
            let order = text(&delivery["order_id"]);
            let reply = match self.random.random_range(0..100) {
                0..12 => {
                    self.api
                        .report_problem(&order, "nobody_home", Some("rang twice"))
                        .await
                }
                _ if shown.can(&order, "pick_up") => self.api.pick_up(&order).await,
                _ => {
                    let note = format!("left at door {}", self.random.random_range(1..99));
                    let note = self.random.random_bool(0.7).then_some(note);
                    self.api.deliver(&order, note.as_deref()).await
                }
            };
            self.note(&reply);
        }
        if self.random.random_bool(0.2) {
            self.decide(shown).await;
        }
        if self.random.random_bool(0.1) {
            self.read_refusals(shown).await;
        }
    }

    async fn decide(&mut self, shown: &Shown) {
        let undecided = |it: &&Value| it["decision"].is_null() && it["deciding"] == false;
        let conflicts: Vec<_> = shown.conflicts().filter(undecided).collect();
        if let Some(conflict) = conflicts.choose(&mut self.random) {
            let decision = ["accepted", "insisted"].choose(&mut self.random);
            let decision = decision.expect("there are two");
            let reply = self
                .api
                .decide(&text(&conflict["intent_id"]), decision)
                .await;
            self.note(&reply);
        }
    }

    async fn read_refusals(&mut self, shown: &Shown) {
        let refused: Vec<_> = shown.refused().collect();
        if let Some(refused) = refused.choose(&mut self.random) {
            let id = text(&refused["intent_id"]);
            // Written down before: the answer may get lost.
            self.day.told().dismissed.insert(id.clone());
            let _killed = self.api.dismiss(&id).await;
        }
    }

    /// An action may have become impossible since it was shown.
    fn note(&self, reply: &Reply) {
        let mut told = self.day.told();
        match reply.status {
            202 => {
                let id = text(&reply.body["intent_id"]);
                told.accepted.insert(id, self.device);
            }
            Reply::NONE | 503 => told.unsure += 1,
            404 | 409 => {}
            _ => panic!("a device refuses: {reply:?}"),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

// What happens to them.

impl Director {
    async fn until_placed(&self, day: &Day, share: u64) {
        eventually("the office gets on", DAY_LIMIT, async || {
            match day.placed.load(Ordering::SeqCst) {
                placed if placed >= share => Ok(()),
                placed => Err(format!("{placed} of {share}")),
            }
        })
        .await;
    }

    /// Each time something is killed; at some times more happens.
    async fn happens(
        &mut self,
        fault: u64,
        world: &mut World,
        day: &Arc<Day>,
        random: &mut StdRng,
    ) {
        match fault {
            3 => self.copy_a_device(world),
            5 => self.clone_a_device(world, day, random).await,
            7 => self.revoke_a_driver(world, day).await,
            9 => self.restore_a_device(world).await,
            11 => self.revoke_a_device(world).await,
            13 => self.give_the_device_away(world, day).await,
            _ => {}
        }
        self.kill_one(fault, world, random).await;
    }

    /// Each of the services and the broker in turn, and a device.
    async fn kill_one(&mut self, fault: u64, world: &mut World, random: &mut StdRng) {
        let device = random.random_range(0..DRIVERS);
        self.kill(&mut world.drivers[device].app, random).await;
        match fault % 3 {
            0 => self.kill(&mut world.broker, random).await,
            1 => self.kill(&mut world.orders_service, random).await,
            _ => self.kill(&mut world.user_service, random).await,
        }
    }

    async fn kill(&mut self, part: &mut impl Part, random: &mut StdRng) {
        part.kill();
        sleep(Duration::from_millis(random.random_range(0..300))).await; // the fault itself
        part.start().await.expect("it starts again");
        *self.kills.entry(part.name().to_owned()).or_default() += 1;
    }

    fn copy_a_device(&mut self, world: &mut World) {
        let copy = world.folder().join("older.db");
        let copied = world.drivers[RESTORED].app.copy_database(&copy);
        copied.expect("copied");
        self.copy = Some(copy);
    }

    /// Intents that were only in the destroyed file are lost; no others.
    async fn restore_a_device(&mut self, world: &mut World) {
        let copy = self.copy.clone().expect("it was made before");
        let app = &mut world.drivers[RESTORED].app;
        app.kill();
        let sql = "select intent_id from intents where state in ('unsent', 'sent')";
        let unanswered = outbox::rows(&app.database, sql).expect("read");
        self.perhaps_lost = unanswered
            .iter()
            .filter_map(|row| kept_text(&row[0]))
            .collect();
        app.swap_database(&copy).expect("put back");
        app.start().await.expect("it starts on its older self");
    }

    async fn clone_a_device(&mut self, world: &mut World, day: &Arc<Day>, random: &mut StdRng) {
        world.drivers[CLONED].app.kill();
        let home = world.home().clone();
        let (drivers, orders) = (&mut world.drivers, &world.orders_service);
        let twin = drivers[CLONED].twin(&home, "driver-twin", orders);
        let mut twin = twin.expect("cloned");
        drivers[CLONED].app.start().await.expect("it starts again");
        twin.app.start().await.expect("the clone starts");
        let works = AtWork::start(DRIVERS, &twin, day, random);
        self.twin = Some((twin, works));
    }

    async fn revoke_a_driver(&mut self, world: &World, day: &Day) {
        let id = world.drivers[GIVEN_AWAY].id.clone();
        day.drivers().retain(|known| *known != id);
        until_done(
            || world.orders(),
            async |office| office.revoke_driver(&id).await,
        )
        .await;
        self.first_driver = id;
    }

    /// The same device, in another driver's hands.
    async fn give_the_device_away(&mut self, world: &mut World, day: &Day) {
        let office = world.orders();
        let joined = world.drivers[GIVEN_AWAY].join(&office).await;
        joined.expect("there is a network now and then");
        let id = world.drivers[GIVEN_AWAY].id.clone();
        day.drivers().push(id);
    }

    async fn revoke_a_device(&mut self, world: &World) {
        let (office, driver) = (world.orders(), &world.drivers[ENROLLED_AGAIN]);
        let devices = office.driver(&driver.id).await.expect_status(200).body;
        let device = text(&devices["devices"][0]["id"]);
        until_done(
            || world.orders(),
            async |office| office.revoke_device(&device).await,
        )
        .await;
        let enrolled = driver.enrol(&office).await;
        enrolled.expect("there is a network now and then");
    }
}

/// Repeats the request until it is answered.
async fn until_done(office: impl Fn() -> OrderApi, ask: impl AsyncFn(OrderApi) -> Reply) {
    eventually("the office can do it", seconds(30), async || {
        let reply = ask(office()).await;
        match reply.status {
            200 => Ok(()),
            _ => Err(format!("{reply:?}")),
        }
    })
    .await;
}

// The evening.

/// With everything running: compares each side with the log, and the log with itself.
async fn everybody_agrees(world: &mut World, day: &Day, director: &Director) -> Ledger {
    let mut kept = Vec::new();
    for driver in &world.drivers {
        driver.switch.on();
        kept.push(driver.api().until_quiet(0).await.others_unsent());
    }
    let database = world.orders_service.database.clone();
    let ledger = Ledger::of(&database);
    ledger.expect_tables(&database);
    assert_eq!(ledger.orders.len() as u64, ORDERS);
    expect_every_promise_kept(&ledger, day, director, kept);
    expect_the_offices_list(&ledger, &world.orders()).await;
    for (index, driver) in world.drivers.iter().enumerate() {
        let shown = driver.api().until_quiet(ledger.concerns(&driver.id)).await;
        expect_the_drivers_deliveries(&ledger, driver, &shown);
        expect_a_new_device_to_show_the_same(world, driver, &shown).await;
        expect_refusals_to_be_shown(&ledger, day, index, driver, &shown);
    }
    ledger
}

/// An intent answered with 202 has one event, unless it was only in a destroyed file, or is kept on a device that reports it: its
/// driver was revoked, and another driver has the device.
fn expect_every_promise_kept(ledger: &Ledger, day: &Day, director: &Director, mut kept: Vec<u64>) {
    let told = day.told();
    for (id, device) in &told.accepted {
        if ledger.intents.contains_key(id) || director.perhaps_lost.contains(id) {
            continue;
        }
        let left = kept[*device].checked_sub(1);
        kept[*device] = left.unwrap_or_else(|| panic!("intent {id} of device {device} is gone"));
    }
    for (id, intent) in &ledger.intents {
        let effects = match (intent.verdict.as_str(), intent.decision.as_deref()) {
            ("applied", _) | ("conflict", Some("upheld")) => 1,
            _ => 0,
        };
        assert_eq!(intent.effects, effects, "intent {id}: {intent:?}");
    }
}

async fn expect_the_offices_list(ledger: &Ledger, office: &OrderApi) {
    let listed = office.intents("").await.expect("all of them");
    assert_eq!(listed.len(), ledger.intents.len());
    for (id, intent) in &ledger.intents {
        let of = |name: &str| listed[id][name].as_str().map(str::to_owned);
        assert_eq!(
            of("verdict").as_ref(),
            Some(&intent.verdict),
            "{}",
            listed[id]
        );
        assert_eq!(of("code"), intent.code, "{}", listed[id]);
        assert_eq!(of("decision"), intent.decision, "{}", listed[id]);
        let why = intent.verdict == "applied" || listed[id]["detail"].is_string();
        assert!(why, "no reason is given: {}", listed[id]);
    }
}

fn expect_the_drivers_deliveries(ledger: &Ledger, driver: &Driver, shown: &Shown) {
    let expected = ledger.deliveries_of(&driver.id);
    let found: BTreeMap<_, _> = shown
        .deliveries()
        .map(|it| (text(&it["order_id"]), order_shown(it, &driver.id)))
        .collect();
    let missing: Vec<_> = expected
        .keys()
        .filter(|id| !found.contains_key(*id))
        .collect();
    let too_many: Vec<_> = found
        .keys()
        .filter(|id| !expected.contains_key(*id))
        .collect();
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "{}: {missing:?} missing, {too_many:?} too many",
        driver.name
    );
    for (id, order) in expected {
        let order = Order {
            delivered: 0,
            ..order
        };
        assert_eq!(found[&id], order, "{}: {id}", driver.name);
    }
}

fn order_shown(delivery: &Value, driver: &str) -> Order {
    let optional = |name: &str| delivery[name].as_str().map(str::to_owned);
    Order {
        status: text(&delivery["status"]),
        driver: Some(driver.to_owned()),
        note: optional("note"),
        cancel_reason: optional("cancel_reason"),
        problems: delivery["problems"].as_u64().unwrap_or(u64::MAX),
        version: delivery["version"].as_u64().unwrap_or(0),
        delivered: 0,
    }
}

async fn expect_a_new_device_to_show_the_same(world: &World, driver: &Driver, shown: &Shown) {
    let code = world.orders().code(&driver.id).await.expect_status(201);
    let id = Uuid::now_v7().to_string();
    let new = SyncApi::of(&world.orders_service)
        .enrol(&text(&code.body["code"]), &id)
        .await;
    let (_, deliveries) = new
        .expect("enrolled")
        .deliveries()
        .await
        .expect("a checkpoint");
    assert_eq!(
        deliveries.len(),
        shown.deliveries().count(),
        "{}",
        driver.name
    );
    for delivery in shown.deliveries() {
        let told = &deliveries[&text(&delivery["order_id"])];
        let same = told.as_object().expect("a delivery").iter();
        // Lists go by its sequence, which no driver has to see.
        let mut different = same
            .filter(|(name, _)| *name != "seq")
            .filter(|(name, value)| delivery[name] != **value);
        assert_eq!(different.next(), None, "{}: {told} {delivery}", driver.name);
    }
}

/// Every refusal in this device's file is shown with its reason until its driver has dismissed or decided it.
fn expect_refusals_to_be_shown(
    ledger: &Ledger,
    day: &Day,
    index: usize,
    driver: &Driver,
    shown: &Shown,
) {
    let sql = "select intent_id, state from intents";
    let in_file = outbox::rows(&driver.app.database, sql).expect("read");
    let in_file: BTreeSet<_> = in_file
        .iter()
        .filter_map(|row| kept_text(&row[0]))
        .collect();
    let told = day.told();
    for (id, device) in &told.accepted {
        let kept = in_file.contains(id);
        let is_elsewhere = *device != index || index == RESTORED;
        assert!(
            kept || is_elsewhere,
            "{}: intent {id} is not in its file",
            driver.name
        );
        if let Some(intent) = ledger.intents.get(id).filter(|_| kept) {
            expect_shown(id, intent, driver, shown, told.dismissed.contains(id));
        }
    }
    let gave_up: Vec<_> = shown.refused().filter(|it| it["gave_up"] == true).collect();
    assert!(gave_up.is_empty(), "{}: {gave_up:?}", driver.name);
}

fn expect_shown(id: &str, intent: &Intent, driver: &Driver, shown: &Shown, dismissed: bool) {
    let is_theirs = intent.driver == driver.id;
    let refused = shown.refused().find(|it| it["intent_id"] == *id);
    let row = shown.conflict(id).or(refused);
    let reason = || row.map(|row| (&row["code"], row["detail"].is_string()));
    let expected = json!(intent.code);
    let open = matches!(intent.decision.as_deref(), None | Some("insisted"));
    match intent.verdict.as_str() {
        "rejected" if dismissed => {}
        "rejected" => assert_eq!(
            reason(),
            Some((&expected, true)),
            "{}: {id} {intent:?}",
            driver.name
        ),
        "conflict" if open && is_theirs => {
            assert_eq!(
                reason(),
                Some((&expected, true)),
                "{}: {id} {intent:?}",
                driver.name
            );
            assert_eq!(
                row.map(|row| &row["decision"]),
                Some(&json!(intent.decision)),
                "{id}"
            );
        }
        // A decision about another driver's intents is not told to this one.
        "conflict" if !is_theirs => {}
        _ => assert_eq!(row, None, "{}: {id} {intent:?}", driver.name),
    }
}

fn print_figures(world: &World, day: &Day, director: &Director, ledger: &Ledger, hours: &[Hours]) {
    let told = day.told();
    let all: Duration = hours.iter().map(|hours| hours.all).sum();
    let offline: Duration = hours.iter().map(|hours| hours.offline).sum();
    let share = 100.0 * offline.as_secs_f64() / all.as_secs_f64();
    let lost: u64 = world
        .drivers
        .iter()
        .map(|driver| driver.switch.lost_answers())
        .sum();
    let delivered: u64 = ledger.orders.values().map(|order| order.delivered).sum();
    let decided = ledger
        .intents
        .values()
        .filter(|intent| intent.decision.is_some());
    let gone = director
        .perhaps_lost
        .iter()
        .filter(|id| !ledger.intents.contains_key(*id));
    println!(
        "{ORDERS} orders, {delivered} delivered; {} intents accepted by devices, {} judged: {} applied, {} superseded, {} rejected, {} in conflict of which {} decided; {} answers of the office lost on the way, {} of devices not heard; {} in a destroyed file alone; the office came too late {} times; kills {:?}; offline {share:.0} % of the time",
        told.accepted.len(),
        ledger.intents.len(),
        ledger.count("applied"),
        ledger.count("superseded"),
        ledger.count("rejected"),
        ledger.count("conflict"),
        decided.count(),
        lost,
        told.unsure,
        gone.count(),
        day.office_conflicts.load(Ordering::SeqCst),
        director.kills,
    );
}

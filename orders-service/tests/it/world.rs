//! orders-service on a real file, beside a user-service that does as it is told.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use event_schema::{Event, OrderId, UserCreated, UserDeleted, UserEvent, UserId, Version};
use jiff::Timestamp;
use orders_service::access::{DEVICE, Devices};
use orders_service::cache::users;
use orders_service::domain::{Amount, Driver, Order, OwnEvent};
use orders_service::events::{MakeError, make};
use orders_service::store::drivers;
use orders_service::user_api::{Limits, UserApi};
use orders_service::{http, service, sync};
use relay::environment::{Environment, System};
use relay::event::EventId;
use relay::log::Log;
use relay::publish::Step;
use relay::testing::memory::MemoryBroker;
use relay::{ApplyError, Consumer, Database, Keys, Options, Received, Relay, rusqlite};
use serde_json::{Value, json};
use service_kit::testing::{Answer, TestApi, access_with};
use service_kit::{Access, Limits as CallLimits, Monitor, Principal};

pub use crate::owner::{FakeUsers, Owner};

pub struct World {
    pub api: TestApi,
    pub db: Database,
    pub owner: Owner,
    pub clock: Arc<Clock>,
    /// The consumer of the cache. Tests step it.
    pub consumer: Consumer,
    folder: tempfile::TempDir,
}

/// The token of device [`DEVICE_ID`] of driver [`DRIVER_ID`].
pub const DEVICE_TOKEN: &str = "fhd_a-device-of-the-tests";
/// Ids as the service draws them: one that is no UUID would be a fault of its own table.
pub const DEVICE_ID: &str = "01985b3e-7c00-7a10-9d52-3f0c5a1bed01";
pub const DRIVER_ID: &str = "01985b3e-7c00-7a10-9d52-3f0c5a1bed02";

/// Lets in the kit's testers, the device above, and the devices in the database.
pub fn testers(db: &Database) -> Access {
    let device = Principal {
        acts_for: Some(DRIVER_ID.to_owned()),
        ..Principal::new(DEVICE, DEVICE_ID)
    };
    access_with([(DEVICE_TOKEN, device)], Some(Devices::of(db)))
}

/// Calls a second that no test makes.
const CALLS: u32 = 1_000_000;

/// The database of a folder, with the keys beside it.
pub async fn database(folder: &Path, options: Options) -> Database {
    let keys = Keys::open_or_create(&folder.join("orders.db.keys")).unwrap();
    let opened = Database::open(folder.join("orders.db"), options.keys(keys)).await;
    opened.unwrap()
}

/// A clock that only a test moves.
#[derive(Debug)]
pub struct Clock(AtomicI64);

/// Patient enough for a slow machine: none of these ends a test that goes well.
pub const PATIENT: Limits = Limits {
    call: Duration::from_secs(20),
    overall: Duration::from_secs(40),
    failures: u32::MAX,
    open_for: Duration::from_secs(5),
};

impl World {
    pub async fn start(users: FakeUsers) -> Self {
        Self::with(users, PATIENT).await
    }

    /// It is 2026-01-01T00:00:00Z, and stays so until the clock is moved.
    pub async fn with(users: FakeUsers, limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self::over(folder, users, limits, sync::DEFAULT_TAIL).await;
        this.meet_stream().await;
        this
    }

    /// A device that is more events behind gets a snapshot.
    pub async fn with_tail(feed_tail: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let this = Self::over(folder, FakeUsers::Know, PATIENT, feed_tail).await;
        this.meet_stream().await;
        this
    }

    /// An empty file, and the keys of this one, which were kept elsewhere. It has met no stream yet.
    pub async fn bereft(&self) -> Self {
        self.with_files(&["orders.db.keys"]).await
    }

    /// On a copy of this one's file, as after a restore. It has met no stream yet.
    pub async fn restored(&self) -> Self {
        self.db.close().await;
        self.with_files(&["orders.db", "orders.db.keys"]).await
    }

    /// The same file, opened again. It has met no stream yet.
    pub async fn restarted(self) -> Self {
        self.db.close().await;
        let Self {
            folder, api, db, ..
        } = self;
        drop((api, db));
        Self::over(folder, FakeUsers::Know, PATIENT, sync::DEFAULT_TAIL).await
    }

    async fn with_files(&self, names: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::copy(self.folder.path().join(name), folder.path().join(name)).unwrap();
        }
        Self::over(folder, FakeUsers::Know, PATIENT, sync::DEFAULT_TAIL).await
    }

    async fn over(
        folder: tempfile::TempDir,
        users: FakeUsers,
        limits: Limits,
        feed_tail: u64,
    ) -> Self {
        let clock = Arc::new(Clock(AtomicI64::new(1_767_225_600)));
        let options = Options {
            environment: clock.clone(),
            ..service().options()
        };
        let db = database(folder.path(), options).await;
        let (owner, url) = Owner::start(users).await;
        let token = "0123456789abcdef".parse().ok();
        let user_api = UserApi::new(url.parse().unwrap(), token, limits, clock.clone()).unwrap();
        let consumer = users::consumer();
        let routes = http::routes(db.clone(), user_api, consumer.clone(), feed_tail);
        let mut monitor = Monitor::new(&db);
        monitor.watch_consumer(consumer.name(), consumer.stream(), consumer.status());
        let access = testers(&db).limits(CallLimits::of(CALLS));
        Self {
            api: TestApi::new(service_kit::api(routes, monitor, access)),
            db,
            owner,
            clock,
            consumer,
            folder,
        }
    }

    /// As the service does at its start: its stream is a copy of its log.
    pub async fn meet_stream(&self) {
        let met = Relay::new(&self.db, MemoryBroker::new(1)).step().await;
        assert_eq!(met.unwrap(), Step::Connected);
    }

    /// The device whose token every test knows, as a row.
    pub async fn testers_device(&self) {
        let (driver, device) = (DRIVER_ID.parse().unwrap(), DEVICE_ID.parse().unwrap());
        let write = self.db.write(move |tx| {
            make(tx, Driver::enrol(driver, "Mia".parse().unwrap(), 1))?;
            let known = drivers::find(tx, driver).unwrap().unwrap();
            let event = known.enrol_device(device, i64::MAX, 1).unwrap();
            let token_hash = Some("of a token that only tests know".to_owned());
            make(tx, OwnEvent { event, token_hash })
        });
        let written: Result<u64, relay::WriteError<MakeError>> = write.await;
        written.map_err(|error| error.to_string()).unwrap();
    }

    pub async fn place(&self, user: UserId, amount_minor: i64, currency: &str) -> Answer {
        let body = json!({"user_id": user, "amount_minor": amount_minor, "currency": currency});
        self.api.post("/orders", &body).await
    }

    /// How often user-service was asked.
    pub fn asked(&self) -> usize {
        self.owner.asked().len()
    }

    /// An order of each of these users.
    pub async fn place_unchecked(&self, users: &[UserId]) {
        for user_id in users.iter().copied() {
            let (amount, currency) = (Amount::try_from(1).unwrap(), "EUR".parse().unwrap());
            let placed = Order::place(OrderId::new(), user_id, amount, currency, 1);
            let write = self.db.write(move |tx| make(tx, placed).map(drop));
            write.await.unwrap();
        }
    }

    /// A user whose registration has arrived here.
    pub async fn cached_user(&self, name: &str) -> UserId {
        let user = UserId::new();
        self.register(user, name).await;
        user
    }

    pub async fn register(&self, user_id: UserId, name: &str) {
        let (name, version) = (name.to_owned(), Version::FIRST);
        let created = UserCreated {
            user_id,
            name,
            version,
        };
        self.apply(UserEvent::Created(created)).await.unwrap();
    }

    pub async fn delete(&self, user_id: UserId, version: u64) {
        let version = std::num::NonZeroU64::new(version).unwrap().into();
        let deleted = UserDeleted { user_id, version };
        self.apply(UserEvent::Deleted(deleted)).await.unwrap();
    }

    /// As the stream hands it out.
    pub fn received(event: UserEvent) -> Received<UserEvent> {
        Received {
            seq: 1,
            id: EventId::draw(&System),
            aggregate: event.aggregate(),
            time: "2025-01-01T00:00:00Z".to_owned(),
            event,
            sealed: None,
        }
    }

    /// Applies an event as the consumer does.
    pub async fn apply(&self, event: UserEvent) -> Result<(), String> {
        let received = Self::received(event);
        let write = self.db.write(move |tx| users::apply(tx.rows(), &received));
        write
            .await
            .map_err(|error: relay::WriteError<ApplyError>| error.to_string())
    }

    pub async fn cached(&self, id: UserId) -> Option<(String, u64)> {
        let found = self
            .db
            .read(move |rows| users::find(rows, id))
            .await
            .unwrap();
        found.map(|user| (user.name, user.version.get()))
    }

    pub async fn cached_users(&self) -> u64 {
        self.count("user_cache").await
    }

    /// Orders, and events.
    pub async fn state(&self) -> (u64, u64) {
        (self.count("orders").await, self.db.outbox().committed())
    }

    /// Type and data of every event.
    pub async fn events(&self) -> Vec<(String, Value)> {
        let records = self
            .db
            .outbox()
            .read_after(0, 1000, Duration::ZERO)
            .await
            .unwrap();
        let envelopes = records
            .iter()
            .map(|record| serde_json::from_slice::<Value>(&record.bytes).unwrap());
        envelopes
            .map(|envelope| {
                (
                    envelope["type"].as_str().unwrap().to_owned(),
                    envelope["data"].clone(),
                )
            })
            .collect()
    }

    /// The amounts of a whole list, page by page.
    pub async fn amounts(&self, list: &str) -> Vec<i64> {
        let (mut amounts, mut path) = (Vec::new(), list.to_owned());
        loop {
            let page = self.api.get(&path).await.json();
            let items = page["items"].as_array().unwrap();
            amounts.extend(
                items
                    .iter()
                    .map(|order| order["amount_minor"].as_i64().unwrap()),
            );
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{list}&cursor={cursor}"),
                None => return amounts,
            }
        }
    }

    async fn count(&self, table: &'static str) -> u64 {
        let sql = format!("select count(*) from {table}");
        let count = move |rows: &rusqlite::Connection| rows.query_row(&sql, [], |row| row.get(0));
        self.db.read(count).await.unwrap()
    }
}

impl Clock {
    pub fn tick(&self, seconds: i64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        System.fill_random(bytes);
    }
}

//! A device on a real file, its owner, and steps instead of waiting.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use driver_app::device::Device;
use driver_app::http;
use driver_app::owner_api::OwnerApi;
use driver_app::store::StoreError;
use driver_app::sync::Step;
use driver_app::sync::feed::Follower;
use driver_app::sync::upload::Uploader;
use event_schema::{DriverId, OrderId};
use relay::environment::{Environment, System};
use relay::error::{OpenError, Refusal};
use serde_json::{Value, json};
use service_kit::Monitor;
use service_kit::testing::{Answer, TestApi};

use crate::owner::FakeOwner;

pub struct World {
    pub owner: FakeOwner,
    pub driver: DriverId,
    pub clock: Arc<Clock>,
    pub folder: tempfile::TempDir,
    pub path: PathBuf,
    /// The owner's address.
    pub url: String,
    way: Arc<OwnerApi>,
    app: Option<App>,
}

/// The program, without its loops.
pub struct App {
    pub device: Device,
    pub api: TestApi,
    pub up: Uploader,
    pub down: Follower,
}

/// A clock that may be set wrong.
#[derive(Debug, Default)]
pub struct Clock {
    pub off_by_ms: AtomicI64,
}

impl Environment for Clock {
    fn now(&self) -> jiff::Timestamp {
        let off_by = self.off_by_ms.load(Ordering::Relaxed);
        System.now() + jiff::SignedDuration::from_millis(off_by)
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        System.fill_random(bytes);
    }
}

impl World {
    /// A device that is not enrolled.
    pub async fn new() -> Self {
        let owner = FakeOwner::default();
        let url = owner.start().await;
        Self::with(owner, url).await
    }

    /// A device whose owner has this address.
    pub async fn with(owner: FakeOwner, url: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut this = Self {
            owner,
            driver: DriverId::new(),
            clock: Arc::default(),
            path: folder.path().join("device.db"),
            folder,
            way: Arc::new(OwnerApi::new(url.parse().unwrap()).unwrap()),
            url,
            app: None,
        };
        this.open().await;
        this
    }

    /// A device with some deliveries.
    pub async fn with_deliveries<const N: usize>() -> (Self, [OrderId; N]) {
        let mut this = Self::new().await;
        this.enrol().await;
        let orders = std::array::from_fn(|_| this.owner.truth().place(this.driver));
        this.sync().await;
        (this, orders)
    }

    pub fn app(&mut self) -> &mut App {
        self.app.as_mut().unwrap()
    }

    pub fn device(&self) -> &Device {
        &self.app.as_ref().unwrap().device
    }

    /// The device's client of the owner.
    pub fn way(&self) -> Arc<OwnerApi> {
        self.way.clone()
    }

    pub fn api(&self) -> &TestApi {
        &self.app.as_ref().unwrap().api
    }

    pub async fn open(&mut self) {
        let device = self.opened().await;
        let routes = http::routes(device.clone(), self.way.clone());
        self.app = Some(App {
            api: TestApi::of(routes, Monitor::new(device.database())).sending(None),
            up: Uploader::new(&device, self.way.clone()),
            down: Follower::new(&device, self.way.clone(), Duration::ZERO),
            device,
        });
    }

    /// The previous device may still hold the file.
    async fn opened(&self) -> Device {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match Device::open(&self.path, self.clock.clone()).await {
                Err(StoreError::Open(OpenError {
                    why: Refusal::InUse { .. },
                    ..
                })) if Instant::now() < deadline => {
                    tokio::task::yield_now().await;
                }
                opened => return opened.unwrap(),
            }
        }
    }

    /// Drops the device wherever it is, and opens it again.
    pub async fn kill(&mut self) {
        self.app = None;
        self.open().await;
    }

    pub async fn close(&mut self) {
        let app = self.app.take().unwrap();
        app.device.database().close().await;
    }

    pub async fn enrol(&mut self) -> Answer {
        self.enrol_as(self.driver, "Mia").await
    }

    pub async fn enrol_as(&mut self, driver: DriverId, name: &str) -> Answer {
        let code = format!("CODE-{}", DriverId::new());
        self.owner
            .truth()
            .codes
            .insert(code.clone(), (driver, name.to_owned()));
        self.driver = driver;
        let answer = self.api().post("/api/enrol", &json!({"code": code})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
    }

    pub async fn up(&mut self) -> Step {
        self.app().up.step().await
    }

    pub async fn down(&mut self) -> Step {
        self.app().down.step().await
    }

    /// Uploads and follows until there is nothing left to do.
    pub async fn sync(&mut self) {
        self.send_all().await;
        self.follow_all().await;
    }

    pub async fn send_all(&mut self) {
        self.device().status().sync_now();
        while self.up().await == Step::Progress {}
    }

    pub async fn follow_all(&mut self) {
        self.device().status().sync_now();
        while self.down().await == Step::Progress {}
    }

    pub async fn state(&self) -> Value {
        let answer = self.api().get("/api/state").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    pub async fn delivery(&self, id: OrderId) -> Value {
        let state = self.state().await;
        let all = state["deliveries"].as_array().unwrap();
        all.iter()
            .find(|delivery| delivery["order_id"] == json!(id))
            .cloned()
            .unwrap_or(Value::Null)
    }

    /// What the driver sees.
    pub async fn status(&self, id: OrderId) -> String {
        self.delivery(id).await["status"]
            .as_str()
            .unwrap_or("gone")
            .to_owned()
    }

    pub async fn act(&self, id: OrderId, what: &str, body: Value) -> Answer {
        self.api()
            .post(&format!("/api/deliveries/{id}/{what}"), &body)
            .await
    }

    /// The intent's id.
    pub async fn does(&self, id: OrderId, what: &str, body: Value) -> String {
        let answer = self.act(id, what, body).await;
        assert_eq!(answer.status, 202, "{what}: {answer:?}");
        answer.json()["intent_id"].as_str().unwrap().to_owned()
    }

    pub async fn picks_up(&self, id: OrderId) -> String {
        self.does(id, "pick_up", json!({})).await
    }

    pub async fn delivers(&self, id: OrderId) -> String {
        self.does(id, "deliver", json!({"note": "at the door"}))
            .await
    }

    /// Status at the owner.
    pub fn truly(&self, id: OrderId) -> String {
        self.owner.truth().orders[&id].delivery.status.clone()
    }

    /// How often the intent took effect.
    pub fn effects(&self, intent: &str) -> u32 {
        let id = intent.parse().unwrap();
        self.owner.truth().effects.get(&id).copied().unwrap_or(0)
    }
}

//! An office at work over HTTP: orders, drivers, and devices that send with their own tokens.

use event_schema::{DeviceId, IncarnationId, IntentId};
use serde_json::{Value, json};
use service_kit::testing::{Answer, TestApi, request};

use crate::world::World;

/// A device of a driver. It keeps nothing: a test says what it knows.
#[derive(Clone)]
pub struct Device {
    api: TestApi,
    pub id: DeviceId,
    pub token: String,
    pub incarnation: IncarnationId,
    /// The place of its last intent.
    pub seq: u64,
}

/// What a device has after it has read the feed up to a page that is complete.
#[derive(Debug, Default)]
pub struct Checkpoint {
    pub pages: usize,
    pub snapshot: bool,
    pub items: Vec<Value>,
    pub judged: Vec<Value>,
    pub next: String,
    pub at: u64,
}

impl World {
    /// Placed by a user whom the cache knows; its id.
    pub async fn order(&self) -> String {
        let user = self.cached_user("Ada").await;
        id(&self.place(user, 1999, "EUR").await)
    }

    /// Enrols a driver; returns their id.
    pub async fn driver(&self, name: &str) -> String {
        id(&self.api.post("/drivers", &json!({"name": name})).await)
    }

    pub async fn code(&self, driver: &str) -> String {
        let path = format!("/drivers/{driver}/codes");
        let drawn = self.api.post(&path, &json!({})).await;
        assert_eq!(drawn.status, 201, "{drawn:?}");
        drawn.json()["code"].as_str().unwrap().to_owned()
    }

    /// As a new device does.
    pub async fn enrol(&self, code: &str, device: DeviceId) -> Answer {
        let body = json!({"code": code, "device_id": device});
        self.api.sending(None).post("/devices", &body).await
    }

    /// As a device does that has or had this token.
    pub async fn enrol_again(&self, code: &str, device: DeviceId, token: &str) -> Answer {
        let body = json!({"code": code, "device_id": device});
        self.api.sending(token).post("/devices", &body).await
    }

    /// A code that only this device may use.
    pub async fn code_for(&self, driver: &str, device: DeviceId) -> Answer {
        let path = format!("/drivers/{driver}/codes");
        self.api.post(&path, &json!({"device_id": device})).await
    }

    pub async fn device(&self, driver: &str) -> Device {
        let (code, id) = (self.code(driver).await, DeviceId::new());
        let enrolled = self.enrol(&code, id).await;
        assert_eq!(enrolled.status, 201, "{enrolled:?}");
        Device::with(self, id, &enrolled)
    }

    /// A driver with a device.
    pub async fn mia(&self) -> (String, Device) {
        let mia = self.driver("Mia").await;
        let device = self.device(&mia).await;
        (mia, device)
    }

    /// An order that is this driver's to deliver. It is at version 2.
    pub async fn assigned(&self, driver: &str) -> String {
        let order = self.order().await;
        self.assign(&order, driver).await;
        order
    }

    pub async fn assign(&self, order: &str, driver: &str) {
        let path = format!("/orders/{order}/assign");
        let to = json!({"driver_id": driver});
        let assigned = self.change(&path, "*", &to).await;
        assert_eq!(assigned.status, 200, "{assigned:?}");
    }

    pub async fn cancel(&self, order: &str) {
        let body = json!({"reason": "out_of_stock", "note": "sold out"});
        let path = format!("/orders/{order}/cancel");
        let cancelled = self.change(&path, "*", &body).await;
        assert_eq!(cancelled.status, 200, "{cancelled:?}");
    }

    /// A change of what is at this version.
    pub async fn change(&self, path: &str, version: &str, body: &Value) -> Answer {
        let request = request("POST", path)
            .header("content-type", "application/json")
            .header("if-match", version);
        self.api.send(request.body(body.to_string().into())).await
    }

    pub async fn show(&self, path: &str) -> Value {
        let answer = self.api.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        answer.json()
    }

    /// Status and version of an order.
    pub async fn stands(&self, order: &str) -> String {
        let order = self.show(&format!("/orders/{order}")).await;
        format!("{} {}", order["status"].as_str().unwrap(), order["version"])
    }

    pub fn head(&self) -> u64 {
        self.db.outbox().committed()
    }

    /// The types of the events after this place.
    pub async fn told_after(&self, seq: u64) -> Vec<String> {
        let events = self.events().await.into_iter();
        let after = events.skip(usize::try_from(seq).unwrap());
        after.map(|(event_type, _)| event_type).collect()
    }
}

impl Device {
    /// Of the answer to its enrolment.
    pub fn with(world: &World, id: DeviceId, enrolled: &Answer) -> Self {
        let token = enrolled.json()["token"].as_str().unwrap().to_owned();
        Self {
            api: world.api.sending(&*token),
            id,
            token,
            incarnation: IncarnationId::new(),
            seq: 0,
        }
    }

    /// The same device, asking there.
    pub fn at(&self, world: &World) -> Self {
        let api = world.api.sending(&*self.token);
        Self {
            api,
            ..self.clone()
        }
    }

    /// The next one, of a driver who has seen the order just assigned.
    pub fn intent(&mut self, kind: &str, order: &str, arguments: Value) -> Value {
        self.seq += 1;
        let schema_version = if kind == "deliver" { 2 } else { 1 };
        json!({
            "intent_id": IntentId::new(), "seq": self.seq, "order_id": order, "kind": kind,
            "schema_version": schema_version, "arguments": arguments, "base_version": 2, "device_time_ms": 7,
        })
    }

    pub async fn send(&self, intents: &[Value]) -> Answer {
        let upload = json!({"incarnation": self.incarnation, "intents": intents});
        self.api.post("/sync/intents", &upload).await
    }

    pub async fn verdicts(&self, intents: &[Value]) -> Vec<Value> {
        let answer = self.send(intents).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let verdicts = answer.json()["verdicts"].as_array().unwrap().clone();
        let ids =
            |of: &[Value]| -> Vec<_> { of.iter().map(|one| one["intent_id"].clone()).collect() };
        assert_eq!(ids(&verdicts), ids(intents), "one for each, in their order");
        verdicts
    }

    /// Sends one intent; its verdict.
    pub async fn want(&mut self, kind: &str, order: &str, arguments: Value) -> Value {
        let intent = self.intent(kind, order, arguments);
        self.verdicts(&[intent]).await.remove(0)
    }

    pub async fn feed(&self, query: &str) -> Answer {
        self.api.get(&format!("/sync/feed?{query}")).await
    }

    /// Reads on from a place, or from nowhere, in pages of so many items.
    pub async fn read_on(&self, after: &str, limit: u32) -> Checkpoint {
        let mut read = Checkpoint {
            next: after.to_owned(),
            ..Checkpoint::default()
        };
        loop {
            let place = match read.next.as_str() {
                "" => String::new(),
                place => format!("&after={place}"),
            };
            let page = self.feed(&format!("limit={limit}{place}")).await;
            assert_eq!(page.status, 200, "{page:?}");
            let page = page.json();
            read.pages += 1;
            read.snapshot |= page["snapshot"] == true;
            read.items.extend(page["items"].as_array().unwrap().clone());
            read.judged
                .extend(page["judged"].as_array().unwrap().clone());
            read.next = page["next"].as_str().unwrap().to_owned();
            read.at = page["at"].as_u64().unwrap();
            if page["complete"] == true {
                return read;
            }
        }
    }
}

impl Checkpoint {
    /// Its items in short: `+` and the order that is there, `-` and the one that is gone.
    pub fn told(&self) -> Vec<String> {
        let told = |item: &Value| match item["change"].as_str().unwrap() {
            "put" => format!("+{}", item["delivery"]["order_id"].as_str().unwrap()),
            _ => format!("-{}", item["order_id"].as_str().unwrap()),
        };
        self.items.iter().map(told).collect()
    }
}

/// A verdict in short: what it is, and why.
pub fn said(verdict: &Value) -> String {
    let word = verdict["verdict"].as_str().unwrap();
    match (verdict["code"].as_str(), &verdict["first"]) {
        (Some(code), _) => format!("{word} {code}"),
        (None, Value::Null) => word.to_owned(),
        (None, first) => format!("{word} of {}", said(first)),
    }
}

/// The same, with another value in this field.
pub fn but(mut of: Value, field: &str, value: impl Into<Value>) -> Value {
    of[field] = value.into();
    of
}

/// Of what was just made.
pub fn id(made: &Answer) -> String {
    assert_eq!(made.status, 201, "{made:?}");
    made.json()["id"].as_str().unwrap().to_owned()
}

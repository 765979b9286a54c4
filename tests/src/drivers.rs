//! Drivers and the office: a driver's device as a real process behind a network that can be switched off, the driver's actions
//! on it, the operator's actions in orders-service, and the sync API for tests that call it directly.

use std::collections::BTreeMap;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use reqwest::Method;
use serde_json::{Value, json};

use crate::orders::OrderApi;
use crate::services::{self, Home, Service};
use freehold_harness::credentials::Password;
use freehold_harness::eventually::{eventually, seconds, within};
use freehold_harness::http::{Api, Reply};
use freehold_harness::ports::Port;
use freehold_harness::switch::Switch;

/// A driver with a device: a process of driver-app, its file, and its own network to orders-service.
#[derive(Debug)]
pub struct Driver {
    /// As orders-service knows the person; empty before [`Driver::join`].
    pub id: String,
    pub name: String,
    /// The program on the device: started, killed, its file copied and restored like any service's.
    pub app: Service,
    /// The device's network; shared, so that a task may switch it while the device is killed and started.
    pub switch: Arc<Switch>,
}

/// A driver's actions on their device: driver-app's local API.
#[derive(Clone, Debug)]
pub struct DriverApi(Api);

/// Everything a device shows, as of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown(pub Value);

/// A device in the test's hands: orders-service's sync API with a device's token.
#[derive(Clone, Debug)]
pub struct SyncApi(Api);

/// A device that lost its network retries within a minute by itself; no test waits that long, `sync` makes it retry now.
const QUIET_DEADLINE: Duration = seconds(60);
const JOIN_DEADLINE: Duration = seconds(60);

impl Driver {
    /// A device that is not enrolled yet, on a file of its own.
    pub fn new(home: &Home, port: Port, name: &str, orders: &Service) -> io::Result<Driver> {
        let switch = Arc::new(Switch::before(orders.address())?);
        let app = services::device(name, home, port, &switch.url());
        let (id, name) = (String::new(), name.to_owned());
        Ok(Driver {
            id,
            name,
            app,
            switch,
        })
    }

    /// A second device on an undetectable clone of this one's disk; this one must not run meanwhile. Each has a network and a
    /// process of its own.
    pub fn twin(&mut self, home: &Home, name: &str, orders: &Service) -> Result<Driver> {
        let mut twin = Driver::new(home, Port::any()?, name, orders)?;
        self.app.clone_machine(&twin.app.database)?;
        twin.id = self.id.clone();
        Ok(twin)
    }

    pub fn api(&self) -> DriverApi {
        DriverApi::new(self.app.url())
    }

    /// The operator registers this person as a driver, issues a code, and the device is enrolled with it.
    pub async fn join(&mut self, office: &OrderApi) -> Result<()> {
        let driver = patiently(|| office.enrol_driver(&self.name)).await?;
        driver.id().clone_into(&mut self.id);
        self.enrol(office).await
    }

    /// Enrols the device with a new code, also if it was enrolled before.
    pub async fn enrol(&self, office: &OrderApi) -> Result<()> {
        let api = self.api();
        let code = patiently(|| office.code(&self.id)).await?;
        let code = code.body["code"].as_str().context("a code is text")?;
        patiently(|| api.enrol(code)).await?;
        Ok(())
    }
}

/// Repeats the request until it succeeds: a service may be starting, or be killed.
async fn patiently<F: Future<Output = Reply>>(mut ask: impl FnMut() -> F) -> Result<Reply> {
    let answered = within(JOIN_DEADLINE, || {
        let ask = ask();
        async move {
            let reply = ask.await;
            match reply.is_success() {
                true => Ok(reply),
                false => Err(format!("{} {}", reply.status, reply.body)),
            }
        }
    });
    answered.await.map_err(anyhow::Error::msg)
}

impl DriverApi {
    pub fn new(base: impl Into<String>) -> DriverApi {
        DriverApi(Api::new(base, None))
    }

    pub async fn pick_up(&self, order_id: &str) -> Reply {
        self.act(order_id, "pick_up", &json!({})).await
    }

    pub async fn deliver(&self, order_id: &str, note: Option<&str>) -> Reply {
        let body = note.map_or_else(|| json!({}), |note| json!({"note": note}));
        self.act(order_id, "deliver", &body).await
    }

    pub async fn report_problem(&self, order_id: &str, problem: &str, note: Option<&str>) -> Reply {
        let mut body = json!({"problem": problem});
        if let Some(note) = note {
            body["note"] = note.into();
        }
        self.act(order_id, "report_problem", &body).await
    }

    pub async fn act(&self, order_id: &str, action: &str, body: &Value) -> Reply {
        let path = format!("/api/deliveries/{order_id}/{action}");
        self.send(Method::POST, &path, body).await
    }

    /// `accepted` or `insisted`.
    pub async fn decide(&self, intent_id: &str, decision: &str) -> Reply {
        let path = format!("/api/conflicts/{intent_id}/decide");
        self.send(Method::POST, &path, &json!({"decision": decision}))
            .await
    }

    pub async fn dismiss(&self, intent_id: &str) -> Reply {
        let path = format!("/api/refused/{intent_id}/dismiss");
        self.send(Method::POST, &path, &json!({})).await
    }

    pub async fn retry(&self, intent_id: &str) -> Reply {
        let path = format!("/api/refused/{intent_id}/retry");
        self.send(Method::POST, &path, &json!({})).await
    }

    pub async fn enrol(&self, code: &str) -> Reply {
        self.send(Method::POST, "/api/enrol", &json!({"code": code}))
            .await
    }

    /// Sync now, whatever the device waits for.
    pub async fn sync(&self) -> Reply {
        self.send(Method::POST, "/api/sync", &json!({})).await
    }

    /// Everything it shows now; an error when it does not answer.
    pub async fn state(&self) -> Result<Shown> {
        let reply = self.get("/api/state").await;
        match reply.status {
            200 => Ok(Shown(reply.body)),
            status => bail!("/api/state answers {status} {}", reply.body),
        }
    }

    /// Waits until it shows this. Panics with what it shows instead.
    #[track_caller]
    pub fn wait_until(
        &self,
        what: &str,
        deadline: Duration,
        is_so: impl Fn(&Shown) -> bool,
    ) -> impl Future<Output = Shown> {
        eventually(what, deadline, async move || {
            let shown = self
                .state()
                .await
                .map_err(|error| Shown(format!("{error:#}").into()))?;
            match is_so(&shown) {
                true => Ok(shown),
                false => Err(shown),
            }
        })
    }

    /// Waits until every intent has its verdict and the device has applied the owner's log up to this sequence. A device that
    /// waits before a retry is told to sync now.
    #[track_caller]
    pub fn until_quiet(&self, at_least: u64) -> impl Future<Output = Shown> {
        eventually("the device is quiet", QUIET_DEADLINE, async move || {
            let shown = self
                .state()
                .await
                .map_err(|error| Shown(format!("{error:#}").into()))?;
            let quiet = shown.pending() == 0 && shown.as_of() >= Some(at_least);
            // Not each time: it would interrupt the device's own request.
            if !quiet && !shown.0["sync"]["waiting_because"].is_null() {
                self.sync().await;
            }
            match quiet && shown.deliveries().all(|it| it["pending"] == json!([])) {
                true => Ok(shown),
                false => Err(shown),
            }
        })
    }
}

impl Shown {
    /// Unsent intents of an earlier driver, which wait until that driver enrols here again.
    pub fn others_unsent(&self) -> u64 {
        self.0["sync"]["others_unsent"].as_u64().unwrap_or(0)
    }

    pub fn pending(&self) -> u64 {
        self.0["sync"]["pending"].as_u64().unwrap_or(u64::MAX)
    }

    /// The sequence of the owner's log that the device has applied.
    pub fn as_of(&self) -> Option<u64> {
        self.0["sync"]["as_of"].as_u64()
    }

    /// `none`, `valid`, `expired_or_revoked`.
    pub fn enrolment(&self) -> &str {
        self.0["sync"]["enrolment"].as_str().unwrap_or_default()
    }

    /// How often the file was found to be a copy.
    pub fn forks(&self) -> u64 {
        self.0["sync"]["forked"]["times"].as_u64().unwrap_or(0)
    }

    pub fn deliveries(&self) -> impl Iterator<Item = &Value> {
        self.list("deliveries")
    }

    pub fn conflicts(&self) -> impl Iterator<Item = &Value> {
        self.list("conflicts")
    }

    pub fn refused(&self) -> impl Iterator<Item = &Value> {
        self.list("refused")
    }

    pub fn delivery(&self, order_id: &str) -> Option<&Value> {
        self.deliveries().find(|it| it["order_id"] == order_id)
    }

    pub fn conflict(&self, intent_id: &str) -> Option<&Value> {
        self.conflicts().find(|it| it["intent_id"] == intent_id)
    }

    /// `assigned`, `picked_up`, …; nothing when the delivery is not on this device.
    pub fn status_of(&self, order_id: &str) -> Option<&str> {
        self.delivery(order_id)?["status"].as_str()
    }

    /// Whether the driver may do this with it now.
    pub fn can(&self, order_id: &str, action: &str) -> bool {
        let can = self
            .delivery(order_id)
            .and_then(|it| it["can"].as_array().cloned());
        can.is_some_and(|can| can.iter().any(|it| it == action))
    }

    fn list(&self, name: &str) -> impl Iterator<Item = &Value> {
        self.0[name].as_array().into_iter().flatten()
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl SyncApi {
    /// Without a token, as every device begins.
    pub fn of(orders: &Service) -> SyncApi {
        SyncApi(Api::of(orders).sending(None))
    }

    /// Exchanges a code for a token, and continues with it.
    pub async fn enrol(&self, code: &str, device_id: &str) -> Result<SyncApi> {
        let body = json!({"code": code, "device_id": device_id});
        let reply = self.send(Method::POST, "/devices", &body).await;
        let token = reply.body["token"].as_str();
        let token =
            token.with_context(|| format!("/devices answers {} {}", reply.status, reply.body))?;
        Ok(self.with_token(Password::known(token)))
    }

    pub fn with_token(&self, token: Password) -> SyncApi {
        SyncApi(self.sending(Some(token)))
    }

    /// Intents of one incarnation, as they are.
    pub async fn upload(&self, incarnation: &str, intents: &[Value]) -> Reply {
        let body = json!({"incarnation": incarnation, "intents": intents});
        self.send(Method::POST, "/sync/intents", &body).await
    }

    /// One page. `query` is what follows the `?`.
    pub async fn feed(&self, query: &str) -> Reply {
        self.get(&format!("/sync/feed?{query}")).await
    }

    /// What a new device would show: every delivery of a whole checkpoint from scratch, by id, and its sequence.
    pub async fn deliveries(&self) -> Result<(u64, BTreeMap<String, Value>)> {
        let mut deliveries = BTreeMap::new();
        let mut after = String::new();
        loop {
            let page = self.feed(&format!("limit=200{after}")).await;
            let items = page.body["items"].as_array();
            let items =
                items.with_context(|| format!("the feed answers {} {}", page.status, page.body))?;
            for item in items {
                apply(&mut deliveries, item)?;
            }
            if page.body["complete"] == true {
                let at = page.body["at"].as_u64().context("a page has a position")?;
                return Ok((at, deliveries));
            }
            let next = page.body["next"].as_str().context("a page has a next")?;
            after = format!("&after={next}");
        }
    }
}

fn apply(deliveries: &mut BTreeMap<String, Value>, item: &Value) -> Result<()> {
    let id = |of: &Value| of["order_id"].as_str().map(str::to_owned);
    let (delivery, whole) = (&item["delivery"], "an item names its order");
    match item["change"].as_str() {
        Some("put") => {
            deliveries.insert(id(delivery).context(whole)?, delivery.clone());
        }
        Some("remove") => {
            deliveries.remove(&id(item).context(whole)?);
        }
        _ => bail!("a change that we do not know: {item}"),
    }
    Ok(())
}

impl Deref for DriverApi {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}

impl Deref for SyncApi {
    type Target = Api;

    fn deref(&self) -> &Api {
        &self.0
    }
}

//! A scripted orders-service on a real socket, with a small state of its own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use event_schema::sync::{Delivery, Enrolment, FeedItem, Intent, Judged, Outcome, Upload, Verdict};
use event_schema::{DriverId, IncarnationId, IntentId, OrderId, Version};
use futures::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

/// A handle to it; clones share it.
#[derive(Clone, Default)]
pub struct FakeOwner {
    truth: Arc<Mutex<Truth>>,
    /// A request has come whose reply is held back.
    pub hangs: Arc<Notify>,
    /// Lets go of the reply that [`Fault::Late`] holds back.
    pub go: Arc<Notify>,
}

#[derive(Default)]
pub struct Truth {
    pub orders: BTreeMap<OrderId, Order>,
    /// Final verdicts, by intent.
    pub judged: HashMap<IntentId, Outcome>,
    /// How often an intent took effect.
    pub effects: HashMap<IntentId, u32>,
    /// Intents in conflict, and their decisions.
    pub conflicts: BTreeMap<IntentId, Option<String>>,
    /// The intent at each number of each incarnation.
    pub places: HashMap<(IncarnationId, u64), IntentId>,
    /// Every change, with its driver; its sequence in the log is its index plus one.
    log: Vec<(DriverId, Change)>,
    /// Sequences before the first change.
    pub log_begins: u64,
    snapshots: HashMap<String, Vec<Delivery>>,
    /// The next feed request begins a snapshot, unless it is in the middle of one.
    pub begin_snapshot: bool,
    pub page: usize,
    pub tokens: HashMap<String, DriverId>,
    /// The problem code that every token gets.
    pub shut_out: Option<&'static str>,
    /// Each code with its driver.
    pub codes: HashMap<String, (DriverId, String)>,
    pub faults: VecDeque<Fault>,
    /// Lanes that get `retry_later`.
    pub busy: HashSet<String>,
    /// The literal verdict for intents of a lane.
    pub says: HashMap<String, Value>,
    /// Literal items for the start of the next page of the feed.
    pub feed_says: Vec<Value>,
    pub uploads: Vec<Upload>,
    pub asked_after: Vec<Option<String>>,
    /// How long each feed request would have waited, in milliseconds.
    pub asked_to_wait: Vec<u64>,
    /// Intents in an upload, before it is too large.
    pub takes: Option<usize>,
    /// Any upload with an intent of this lane is unreadable.
    pub chokes_on: Option<String>,
    /// The owner's date.
    pub date: Option<&'static str>,
    /// Numbers in the current upload that have a final verdict. A duplicate keeps its first number.
    answered: HashSet<u64>,
}

/// What a restore brings back.
pub struct Backup {
    orders: BTreeMap<OrderId, Order>,
    judged: HashMap<IntentId, Outcome>,
    effects: HashMap<IntentId, u32>,
    conflicts: BTreeMap<IntentId, Option<String>>,
    places: HashMap<(IncarnationId, u64), IntentId>,
    log: Vec<(DriverId, Change)>,
}

#[derive(Clone)]
pub struct Order {
    pub driver: DriverId,
    pub delivery: Delivery,
    /// The version of the last change by another party.
    pub others_changed: Version,
}

#[derive(Clone)]
enum Change {
    Item(FeedItem),
    Judged(Judged),
}

#[derive(Clone, Debug)]
pub enum Fault {
    /// Takes the request and never replies.
    Hang,
    /// Handles the request, and replies once the test says so.
    Late,
    /// Ignores the request, and cuts the connection.
    Drop,
    /// Handles the request, and loses the reply.
    LoseAnswer,
    /// Ignores the request, and returns a problem.
    Refuse(u16, &'static str),
    /// A proxy replies, with a code that the owner could use.
    Foreign(u16, &'static str),
    /// 200, and nonsense.
    Garbage,
    /// 401, from a network that wants a login.
    Portal,
}

type Refusal = (StatusCode, [(HeaderName, &'static str); 1], Json<Value>);

impl FakeOwner {
    /// Returns its address.
    pub async fn start(&self) -> String {
        self.truth().page = 200;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/sync/intents", post(upload))
            .route("/sync/feed", get(feed))
            .layer(from_fn_with_state(self.clone(), stumble))
            .route("/devices", post(enrol))
            .with_state(self.clone());
        tokio::spawn(async { axum::serve(listener, routes).await });
        url
    }

    pub fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    pub fn fail(&self, fault: Fault) {
        self.truth().faults.push_back(fault);
    }
}

async fn stumble(State(owner): State<FakeOwner>, request: Request, next: Next) -> Response {
    let fault = owner.truth().faults.pop_front();
    match fault {
        None => {
            let mut response = next.run(request).await;
            if let Some(date) = owner.truth().date {
                response.headers_mut().insert("date", date.parse().unwrap());
            }
            response
        }
        Some(Fault::Hang) => {
            owner.hangs.notify_one();
            std::future::pending().await
        }
        Some(Fault::Late) => {
            let response = next.run(request).await;
            owner.hangs.notify_one();
            owner.go.notified().await;
            response
        }
        Some(Fault::Drop) => broken(),
        Some(Fault::LoseAnswer) => {
            let _lost = next.run(request).await;
            broken()
        }
        Some(Fault::Refuse(status, code)) => {
            problem(StatusCode::from_u16(status).unwrap(), code).into_response()
        }
        Some(Fault::Foreign(status, code)) => {
            let (status, _, body) = problem(StatusCode::from_u16(status).unwrap(), code);
            (status, body).into_response()
        }
        Some(Fault::Garbage) => (StatusCode::OK, "<html>welcome").into_response(),
        Some(Fault::Portal) => (StatusCode::UNAUTHORIZED, "<html>log in").into_response(),
    }
}

/// Cuts the connection in the middle of the reply.
fn broken() -> Response {
    let cut = stream::iter([Ok("{"), Err(std::io::Error::other("cut"))]);
    Body::from_stream(cut).into_response()
}

fn problem(status: StatusCode, code: &str) -> Refusal {
    let body = json!({"code": code, "title": code, "detail": format!("because of {code}"), "status": status.as_u16()});
    (
        status,
        [(CONTENT_TYPE, "application/problem+json")],
        Json(body),
    )
}

async fn enrol(
    State(owner): State<FakeOwner>,
    headers: HeaderMap,
    Json(enrolment): Json<Enrolment>,
) -> Response {
    let mut truth = owner.truth();
    if !truth.codes.contains_key(&enrolment.code) {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_code").into_response();
    }
    // A device's tokens end with its id.
    let of_device = |token: &str| token.ends_with(&enrolment.device_id.to_string());
    let is_known = truth.tokens.keys().any(|token| of_device(token));
    let shown = headers
        .get("authorization")
        .and_then(|shown| shown.to_str().ok());
    if is_known && !shown.is_some_and(of_device) {
        return problem(StatusCode::CONFLICT, "device_enrolled").into_response();
    }
    let code = truth.codes.remove(&enrolment.code);
    let (driver_id, driver_name) = code.expect("it is there");
    let token = format!("token-{}-{}", truth.tokens.len(), enrolment.device_id);
    truth.tokens.insert(token.clone(), driver_id);
    truth.shut_out = None;
    Json(json!({
        "device_id": enrolment.device_id, "driver_id": driver_id, "driver_name": driver_name,
        "token": token, "expires_at_ms": 1,
    }))
    .into_response()
}

async fn upload(
    State(owner): State<FakeOwner>,
    headers: HeaderMap,
    Json(upload): Json<Upload>,
) -> Result<Json<Value>, Refusal> {
    let mut truth = owner.truth();
    let driver = truth.driver(&headers)?;
    if truth.takes.is_some_and(|most| upload.intents.len() > most) {
        return Err(problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    }
    let chokes = |intent: &Intent| truth.chokes_on.as_ref() == Some(&intent.order_id);
    if upload.intents.iter().any(chokes) {
        return Err(problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body"));
    }
    truth.check_fork(&upload)?;
    truth.uploads.push(upload.clone());
    truth.answered.clear();
    let mut verdicts = Vec::new();
    for intent in &upload.intents {
        let said = truth.says.get(&intent.order_id).cloned();
        verdicts.extend(match said {
            Some(Value::Null) => None,
            Some(mut said) => {
                said["intent_id"] = json!(intent.intent_id);
                Some(said)
            }
            None => {
                let outcome = truth.judge(driver, upload.incarnation, intent);
                Some(
                    serde_json::to_value(Verdict {
                        intent_id: intent.intent_id,
                        outcome,
                    })
                    .unwrap(),
                )
            }
        });
    }
    Ok(Json(json!({"verdicts": verdicts})))
}

#[derive(Deserialize)]
struct Asked {
    after: Option<String>,
    limit: usize,
    wait_ms: u64,
}

async fn feed(
    State(owner): State<FakeOwner>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Json<Value>, Refusal> {
    assert!(asked.wait_ms <= 8000);
    let mut truth = owner.truth();
    let driver = truth.driver(&headers)?;
    truth.asked_after.push(asked.after.clone());
    truth.asked_to_wait.push(asked.wait_ms);
    let page = truth.page.min(asked.limit);
    Ok(Json(truth.feed(driver, asked.after, page)))
}

impl Truth {
    fn driver(&self, headers: &HeaderMap) -> Result<DriverId, Refusal> {
        if let Some(code) = self.shut_out {
            return Err(problem(StatusCode::UNAUTHORIZED, code));
        }
        let said = headers
            .get("authorization")
            .and_then(|said| said.to_str().ok());
        let token = said
            .and_then(|said| said.strip_prefix("Bearer "))
            .unwrap_or_default();
        let known = self.tokens.get(token).copied();
        known.ok_or_else(|| problem(StatusCode::UNAUTHORIZED, "unauthorized"))
    }

    /// An incarnation has one intent per number.
    fn check_fork(&mut self, upload: &Upload) -> Result<(), Refusal> {
        for intent in &upload.intents {
            let known = self.places.get(&(upload.incarnation, intent.seq));
            if known.is_some_and(|known| *known != intent.intent_id) {
                return Err(problem(StatusCode::CONFLICT, "incarnation_forked"));
            }
        }
        Ok(())
    }

    pub fn head(&self) -> u64 {
        self.log_begins + self.log.len() as u64
    }

    fn log(&mut self, driver: DriverId, change: Change) -> u64 {
        self.log.push((driver, change));
        self.head()
    }

    fn judge(&mut self, driver: DriverId, incarnation: IncarnationId, intent: &Intent) -> Outcome {
        let place = (incarnation, intent.seq);
        if let Some(first) = self.judged.get(&intent.intent_id) {
            let first = Box::new(first.clone());
            self.answered.insert(intent.seq);
            return Outcome::Duplicate { first };
        }
        let known =
            |seq| self.answered.contains(&seq) || self.places.contains_key(&(incarnation, seq));
        let in_turn = intent.after_seq.is_none_or(known) && self.has_seen(intent);
        if !in_turn || self.busy.contains(&intent.order_id) {
            let code = if in_turn { "busy" } else { "not_in_turn" }.to_owned();
            return Outcome::RetryLater {
                detail: code.clone(),
                code,
                after_ms: 5,
            };
        }
        let outcome = self.decide(driver, intent);
        self.places.insert(place, intent.intent_id);
        self.answered.insert(intent.seq);
        self.judged.insert(intent.intent_id, outcome.clone());
        match &outcome {
            Outcome::Applied { .. } => *self.effects.entry(intent.intent_id).or_default() += 1,
            Outcome::Conflict { .. } => drop(self.conflicts.insert(intent.intent_id, None)),
            _ => {}
        }
        outcome
    }

    fn has_seen(&self, intent: &Intent) -> bool {
        let seen = intent
            .seen
            .as_deref()
            .and_then(|seen| seen.parse::<u64>().ok());
        seen.is_none_or(|seen| seen <= self.head())
    }

    fn decide(&mut self, driver: DriverId, intent: &Intent) -> Outcome {
        if intent.kind == "decide_conflict" {
            return self.decide_conflict(driver, intent);
        }
        let id: Option<OrderId> = intent.order_id.parse().ok();
        let order = id.and_then(|id| self.orders.get(&id)).cloned();
        let Some(mut order) = order.filter(|order| order.driver == driver) else {
            return self.rejected(driver, intent, "order_not_found");
        };
        let status = order.delivery.status.clone();
        match (intent.kind.as_str(), status.as_str()) {
            (_, "cancelled") => {
                return Outcome::Conflict {
                    at: self.head(),
                    code: "order_cancelled".to_owned(),
                    detail: "the order was cancelled".to_owned(),
                    current: Some(order.delivery),
                };
            }
            ("pick_up", "assigned") => "picked_up".clone_into(&mut order.delivery.status),
            ("deliver", "picked_up") => {
                "delivered".clone_into(&mut order.delivery.status);
                order.delivery.note = intent.arguments["note"].as_str().map(str::to_owned);
            }
            ("report_problem", "assigned" | "picked_up") => order.delivery.problems += 1,
            ("pick_up", _) | ("deliver", "delivered") => {
                return Outcome::Superseded {
                    at: self.head(),
                    code: "so_already".to_owned(),
                    detail: "it is so already".to_owned(),
                };
            }
            _ => return self.rejected(driver, intent, "not_possible"),
        }
        Outcome::Applied {
            at: self.put(order),
        }
    }

    fn rejected(&self, _: DriverId, _: &Intent, code: &str) -> Outcome {
        let code = code.to_owned();
        Outcome::Rejected {
            at: self.head(),
            detail: format!("because of {code}"),
            code,
        }
    }

    fn decide_conflict(&mut self, driver: DriverId, intent: &Intent) -> Outcome {
        let about: IntentId =
            serde_json::from_value(intent.arguments["intent_id"].clone()).unwrap();
        let decision = intent.arguments["decision"].as_str().unwrap().to_owned();
        match self.conflicts.get(&about) {
            Some(last)
                if last.is_none()
                    || (last.as_deref(), decision.as_str()) == (Some("insisted"), "accepted") =>
            {
                Outcome::Applied {
                    at: self.judged_by(driver, about, &decision, "driver"),
                }
            }
            _ => self.rejected(driver, intent, "decided_already"),
        }
    }

    fn judged_by(&mut self, driver: DriverId, about: IntentId, decision: &str, by: &str) -> u64 {
        self.conflicts.insert(about, Some(decision.to_owned()));
        self.log(
            driver,
            Change::Judged(Judged {
                intent_id: about,
                order_id: String::new(),
                decision: decision.to_owned(),
                by: by.to_owned(),
            }),
        )
    }

    /// An operator decides.
    pub fn overrule(&mut self, driver: DriverId, about: IntentId, decision: &str) {
        self.judged_by(driver, about, decision, "operator");
    }

    /// Stores a change, and adds it to the feed.
    fn put(&mut self, mut order: Order) -> u64 {
        order.delivery.version = order.delivery.version.next();
        let (driver, delivery) = (order.driver, order.delivery.clone());
        self.orders.insert(delivery.order_id, order);
        self.log(driver, Change::Item(FeedItem::Put { delivery }))
    }

    pub fn place(&mut self, driver: DriverId) -> OrderId {
        let order_id = OrderId::new();
        self.place_as(driver, order_id, None);
        order_id
    }

    pub fn place_as(&mut self, driver: DriverId, order_id: OrderId, seq: Option<i64>) {
        let delivery = Delivery {
            order_id,
            status: "assigned".to_owned(),
            version: Version::FIRST,
            customer: Some("Grace".to_owned()),
            amount_minor: 1999,
            currency: "EUR".to_owned(),
            note: None,
            cancel_reason: None,
            problems: 0,
            seq,
            created_at_ms: 1_700_000_000_000,
            changed_at_ms: 1_700_000_000_000,
        };
        self.put(Order {
            driver,
            delivery,
            others_changed: Version::FIRST,
        });
    }

    pub fn set_status(&mut self, id: OrderId, status: &str) {
        let mut order = self.orders[&id].clone();
        status.clone_into(&mut order.delivery.status);
        order.others_changed = order.delivery.version.next();
        self.put(order);
    }

    pub fn cancel(&mut self, id: OrderId) {
        self.set_status(id, "cancelled");
    }

    pub fn reassign(&mut self, id: OrderId, to: DriverId) {
        let mut order = self.orders[&id].clone();
        let from = std::mem::replace(&mut order.driver, to);
        self.put(order);
        self.log(from, Change::Item(FeedItem::Remove { order_id: id }));
    }

    pub fn of(&self, driver: DriverId) -> Vec<Delivery> {
        let theirs = self.orders.values().filter(|order| order.driver == driver);
        theirs.map(|order| order.delivery.clone()).collect()
    }

    fn feed(&mut self, driver: DriverId, after: Option<String>, page: usize) -> Value {
        let mut words = std::mem::take(&mut self.feed_says);
        let mut answer = match after
            .as_deref()
            .and_then(|after| after.strip_prefix("snapshot-"))
        {
            Some(rest) => {
                let (name, from) = rest.split_once('-').unwrap();
                let (name, from) = (name.to_owned(), from.parse().unwrap());
                self.snapshot_page(&name, from, page)
            }
            None if after.is_none() || std::mem::take(&mut self.begin_snapshot) => {
                self.begin_snapshot = false;
                let name = self.head().to_string();
                let all = self.of(driver);
                self.snapshots.insert(name.clone(), all);
                self.snapshot_page(&name, 0, page)
            }
            None => self.tail(driver, after.unwrap().parse().unwrap(), page),
        };
        let items = answer["items"].as_array_mut().unwrap();
        words.append(items);
        *items = words;
        answer
    }

    fn snapshot_page(&self, name: &str, from: usize, page: usize) -> Value {
        let all = &self.snapshots[name];
        let to = (from + page).min(all.len());
        let items: Vec<_> = all[from..to]
            .iter()
            .map(|delivery| json!({"change": "put", "delivery": delivery}))
            .collect();
        let complete = to == all.len();
        let next = if complete {
            name.to_owned()
        } else {
            format!("snapshot-{name}-{to}")
        };
        let at: u64 = name.parse().unwrap();
        let mut answer = json!({"items": items, "next": next, "at": at, "complete": complete});
        if from == 0 {
            answer["snapshot"] = json!(true);
            answer["judged"] = self.decided().collect();
        }
        answer
    }

    /// The decisions in a snapshot.
    fn decided(&self) -> impl Iterator<Item = Value> {
        self.conflicts.iter().filter_map(|(id, decision)| {
            let decision = decision.as_ref()?;
            Some(json!({"intent_id": id, "order_id": "", "decision": decision, "by": "operator"}))
        })
    }

    fn tail(&self, driver: DriverId, after: u64, page: usize) -> Value {
        let (mut items, mut judged, mut last) = (Vec::new(), Vec::new(), self.head());
        let skip = usize::try_from(after.saturating_sub(self.log_begins)).unwrap();
        for (at, (whose, change)) in (after + 1..).zip(self.log.iter().skip(skip)) {
            if *whose == driver {
                if items.len() + judged.len() == page {
                    last = at - 1;
                    break;
                }
                match change {
                    Change::Item(item) => items.push(item),
                    Change::Judged(of) => judged.push(of),
                }
            }
        }
        let complete = last == self.head();
        json!({"items": items, "judged": judged, "next": last.to_string(), "at": self.head(), "complete": complete})
    }

    pub fn back_up(&self) -> Backup {
        Backup {
            orders: self.orders.clone(),
            judged: self.judged.clone(),
            effects: self.effects.clone(),
            conflicts: self.conflicts.clone(),
            places: self.places.clone(),
            log: self.log.clone(),
        }
    }

    /// Everything since the backup is lost: the log ends earlier.
    pub fn restore(&mut self, backup: Backup) {
        self.orders = backup.orders;
        self.judged = backup.judged;
        self.effects = backup.effects;
        self.conflicts = backup.conflicts;
        self.places = backup.places;
        self.log = backup.log;
        self.begin_snapshot = true;
    }

    /// A fork: a new log with other sequences. The verdicts stay.
    pub fn new_line(&mut self, begins: u64) {
        self.log.clear();
        self.log_begins = begins;
        for outcome in self.judged.values_mut() {
            if let Outcome::Applied { at } = outcome {
                *at = begins.min(*at);
            }
        }
        self.begin_snapshot = true;
    }
}

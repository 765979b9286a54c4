//! A second, small state machine that checks a log of orders: it reads only the envelopes and uses none of the product's code. It
//! panics at an event that does not follow from the events before it, and shows that event.

use std::collections::BTreeMap;
use std::path::Path;

use freehold_tests::observer::StoredEvent;
use freehold_tests::outbox;
use rusqlite::types::Value as Kept;
use serde_json::Value;

/// The state after the log.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) orders: BTreeMap<String, Order>,
    pub(crate) intents: BTreeMap<String, Intent>,
    /// For each driver, the sequence of the last event that their device must receive.
    pub(crate) concerns: BTreeMap<String, u64>,
    versions: BTreeMap<String, u64>,
    previous: Option<Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) status: String,
    pub(crate) driver: Option<String>,
    pub(crate) note: Option<String>,
    pub(crate) cancel_reason: Option<String>,
    pub(crate) problems: u64,
    pub(crate) version: u64,
    pub(crate) delivered: u64,
}

/// An intent that was judged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Intent {
    pub(crate) verdict: String,
    pub(crate) code: Option<String>,
    pub(crate) kind: String,
    pub(crate) driver: String,
    pub(crate) lane: String,
    pub(crate) decision: Option<String>,
    /// Events that changed an order because of it.
    pub(crate) effects: u64,
    pub(crate) seq: u64,
}

impl Ledger {
    /// Of this outbox.
    pub(crate) fn of(database: &Path) -> Ledger {
        let mut ledger = Ledger::default();
        for event in outbox::read_all(database).expect("read") {
            ledger.take(&event);
        }
        ledger
    }

    /// The service's own tables, computed from the log, are equal.
    pub(crate) fn expect_tables(&self, database: &Path) {
        let rows = |sql| outbox::rows(database, sql).expect("read");
        let orders = rows(
            "select id, status, driver_id, note, cancel_reason, problems, version from orders",
        );
        let orders: BTreeMap<_, _> = orders.iter().map(|row| order_row(row)).collect();
        assert_eq!(orders.len(), self.orders.len());
        for (id, order) in &self.orders {
            let delivered = order.delivered;
            let kept = orders.get(id).map(|row| Order {
                delivered,
                ..row.clone()
            });
            assert_eq!(kept.as_ref(), Some(order), "order {id}");
        }
        let intents =
            rows("select id, verdict, code, kind, driver_id, lane, decision, seq from intents");
        let intents: BTreeMap<_, _> = intents.iter().map(|row| intent_row(row)).collect();
        assert_eq!(intents.len(), self.intents.len());
        for (id, intent) in &self.intents {
            let effects = intent.effects;
            let kept = intents.get(id).map(|row| Intent {
                effects,
                ..row.clone()
            });
            assert_eq!(kept.as_ref(), Some(intent), "intent {id}");
        }
    }

    /// The deliveries that this driver must see.
    pub(crate) fn deliveries_of(&self, driver: &str) -> BTreeMap<String, Order> {
        let theirs = |order: &&Order| order.driver.as_deref() == Some(driver);
        let found = self.orders.iter().filter(|(_, order)| theirs(order));
        found
            .map(|(id, order)| (id.clone(), order.clone()))
            .collect()
    }

    pub(crate) fn concerns(&self, driver: &str) -> u64 {
        self.concerns.get(driver).copied().unwrap_or(0)
    }

    pub(crate) fn count(&self, verdict: &str) -> usize {
        let of = |intent: &&Intent| intent.verdict == verdict;
        self.intents.values().filter(of).count()
    }

    fn take(&mut self, event: &StoredEvent) {
        let envelope: Value = serde_json::from_slice(&event.bytes).expect("an envelope is JSON");
        let whole = || format!("event {}: {envelope}", event.seq);
        let data = &envelope["data"];
        assert_eq!(number(&envelope["sequence"]), event.seq, "{}", whole());
        if let Some(previous) = &self.previous {
            assert_eq!(&envelope["prev"], previous, "{}", whole());
        }
        self.previous = Some(envelope["id"].clone());
        let aggregate = text(&envelope["subject"]);
        let version = self.versions.entry(aggregate.clone()).or_default();
        *version += 1;
        assert_eq!(data["version"], *version, "{}", whole());
        let version = *version;
        let kind = text(&envelope["type"]);
        let kind = kind.strip_prefix("orders.").unwrap_or_default();
        match kind.strip_suffix(".v1").unwrap_or(kind) {
            "driver_enrolled" | "driver_revoked" | "device_enrolled" | "device_revoked" => {}
            "intent_misdirected" | "intent_refused.v2" => {
                self.answer(event.seq, data, text(&data["lane"]), &whole);
            }
            "conflict_decided.v2" => self.decide(event.seq, data, &whole),
            of_an_order => {
                let before = self.orders.get(&aggregate).cloned();
                self.change(of_an_order, event.seq, &aggregate, version, data, &whole);
                self.tell(event.seq, before, &aggregate);
            }
        }
    }

    /// Every driver who has or had the order receives it.
    fn tell(&mut self, seq: u64, before: Option<Order>, id: &str) {
        let now = self.orders[id].driver.clone();
        let before = before.and_then(|order| order.driver);
        for driver in [before, now].into_iter().flatten() {
            self.concerns.insert(driver, seq);
        }
    }

    fn change(
        &mut self,
        kind: &str,
        seq: u64,
        id: &str,
        version: u64,
        data: &Value,
        whole: &dyn Fn() -> String,
    ) {
        let driver = optional(&data["driver_id"]);
        let order = self.orders.entry(id.to_owned()).or_default();
        let before = order.clone();
        order.version = version;
        let is_open = matches!(before.status.as_str(), "placed" | "assigned" | "picked_up");
        let is_theirs = is_open && before.driver.is_some() && before.driver == driver;
        let upheld = data["upheld"] == true;
        let follows = match kind {
            "placed" => before == Order::default(),
            "assigned" => {
                is_open
                    && before.driver != driver
                    && before.driver == optional(&data["previous_driver_id"])
            }
            "cancelled" => is_open,
            "released" | "problem_reported" => is_theirs,
            "picked_up" => is_theirs && before.status == "assigned",
            "delivered" if upheld => before.status != "delivered" && before.version > 0,
            "delivered" => is_theirs && before.status == "picked_up",
            "intent_refused" | "conflict_decided" => before.version > 0,
            _ => false,
        };
        assert!(follows, "{kind} does not follow {before:?}: {}", whole());
        match kind {
            "placed" => order.status = "placed".to_owned(),
            "assigned" => (order.status, order.driver) = ("assigned".to_owned(), driver),
            "released" => (order.status, order.driver) = ("placed".to_owned(), None),
            "picked_up" => order.status = "picked_up".to_owned(),
            "problem_reported" => order.problems += 1,
            "cancelled" => {
                order.status = "cancelled".to_owned();
                order.note = optional(&data["note"]);
                order.cancel_reason = optional(&data["reason"]);
            }
            "delivered" => {
                order.status = "delivered".to_owned();
                (order.driver, order.note) = (driver, optional(&data["note"]));
                order.cancel_reason = None;
                order.delivered += 1;
                assert_eq!(order.delivered, 1, "delivered twice: {}", whole());
            }
            _ => {}
        }
        match kind {
            "delivered" if upheld => self.uphold(data, whole),
            "conflict_decided" => self.decide(seq, data, whole),
            _ if data["intent"].is_object() => self.answer(seq, data, id.to_owned(), whole),
            _ => {}
        }
    }

    /// Each intent once.
    fn answer(&mut self, seq: u64, data: &Value, lane: String, whole: &dyn Fn() -> String) {
        let refused = optional(&data["verdict"]);
        let kind = match optional(&data["wanted"]["kind"]) {
            Some(kind) => kind,
            None if data["decision"].is_string() => "decide_conflict".to_owned(),
            None if data["problem"].is_string() => "report_problem".to_owned(),
            None if whole().contains("orders.picked_up.v1") => "pick_up".to_owned(),
            None => "deliver".to_owned(),
        };
        let driver = optional(&data["driver_id"]);
        let intent = Intent {
            effects: u64::from(refused.is_none()),
            verdict: refused.unwrap_or_else(|| "applied".to_owned()),
            code: optional(&data["code"]),
            kind,
            driver: driver.unwrap_or_else(|| {
                let about = &self.intents[&text(&data["intent_id"])];
                about.driver.clone()
            }),
            lane,
            decision: None,
            seq,
        };
        let id = text(&data["intent"]["intent_id"]);
        let first = self.intents.insert(id, intent);
        assert_eq!(first, None, "an intent is answered twice: {}", whole());
    }

    /// The delivery of an intent in conflict, which its decision will name next.
    fn uphold(&mut self, data: &Value, whole: &dyn Fn() -> String) {
        let id = text(&data["intent"]["intent_id"]);
        let intent = self.intents.get_mut(&id).expect("it was judged");
        assert_eq!(intent.verdict, "conflict", "{}", whole());
        intent.effects += 1;
        assert_eq!(intent.effects, 1, "upheld twice: {}", whole());
    }

    fn decide(&mut self, seq: u64, data: &Value, whole: &dyn Fn() -> String) {
        let id = text(&data["intent_id"]);
        let intent = self.intents.get_mut(&id).expect("it was judged");
        assert_eq!(intent.verdict, "conflict", "{}", whole());
        let open = matches!(intent.decision.as_deref(), None | Some("insisted"));
        let decision = text(&data["decision"]);
        assert!(
            open && intent.decision.as_ref() != Some(&decision),
            "{}",
            whole()
        );
        let counts = u64::from(decision == "upheld");
        assert_eq!(intent.effects, counts, "{}", whole());
        intent.decision = Some(decision);
        let driver = intent.driver.clone();
        if data["intent"].is_object() {
            self.answer(seq, data, text(&data["order_id"]), whole);
        }
        self.concerns.insert(driver, seq);
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn optional(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn number(value: &Value) -> u64 {
    text(value).parse().unwrap_or_default()
}

fn order_row(row: &[Kept]) -> (String, Order) {
    let order = Order {
        status: kept_text(&row[1]).unwrap_or_default(),
        driver: kept_text(&row[2]),
        note: kept_text(&row[3]),
        cancel_reason: kept_text(&row[4]),
        problems: kept_number(&row[5]),
        version: kept_number(&row[6]),
        delivered: 0,
    };
    (kept_text(&row[0]).expect("an id"), order)
}

fn intent_row(row: &[Kept]) -> (String, Intent) {
    let intent = Intent {
        verdict: kept_text(&row[1]).unwrap_or_default(),
        code: kept_text(&row[2]),
        kind: kept_text(&row[3]).unwrap_or_default(),
        driver: kept_text(&row[4]).unwrap_or_default(),
        lane: kept_text(&row[5]).unwrap_or_default(),
        decision: kept_text(&row[6]),
        effects: 0,
        seq: kept_number(&row[7]),
    };
    (kept_text(&row[0]).expect("an id"), intent)
}

pub(crate) fn kept_text(value: &Kept) -> Option<String> {
    match value {
        Kept::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn kept_number(value: &Kept) -> u64 {
    match value {
        Kept::Integer(number) => u64::try_from(*number).unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn log(events: &[(&str, &str, Value)]) -> std::thread::Result<Ledger> {
        let mut ledger = Ledger::default();
        let mut versions = BTreeMap::<&str, u64>::new();
        let events: Vec<_> = (1..)
            .zip(events)
            .map(|(seq, (kind, aggregate, data))| {
                let (mut data, version) = (data.clone(), versions.entry(aggregate).or_default());
                *version += 1;
                data["version"] = (*version).into();
                let previous = (seq > 1).then(|| (seq - 1).to_string());
                let envelope = json!({"sequence": format!("{seq:020}"), "id": seq.to_string(), "prev": previous,
                    "type": format!("orders.{kind}.v1"), "subject": aggregate, "data": data});
                let (subject, bytes) = (format!("orders.{kind}"), envelope.to_string().into_bytes());
                StoredEvent { seq, subject, bytes }
            })
            .collect();
        std::panic::catch_unwind(move || {
            events.iter().for_each(|event| ledger.take(event));
            ledger
        })
    }

    fn by(driver: &str, intent: &str) -> Value {
        json!({"driver_id": driver, "intent": {"intent_id": intent}})
    }

    #[test]
    fn it_follows_a_delivery_and_refuses_what_cannot_follow() {
        let assigned = json!({"driver_id": "mia"});
        let first = [("placed", "o", json!({})), ("assigned", "o", assigned)];
        let then = |more: &[(&'static str, &'static str, Value)]| log(&[&first[..], more].concat());
        let picked_up = ("picked_up", "o", by("mia", "1"));
        let delivered = ("delivered", "o", by("mia", "2"));
        let ledger = then(&[picked_up.clone(), delivered.clone()]).unwrap();
        assert_eq!(ledger.orders["o"].status, "delivered");
        assert_eq!((ledger.count("applied"), ledger.concerns("mia")), (2, 4));

        then(std::slice::from_ref(&delivered)).expect_err("not picked up");
        then(&[("picked_up", "o", by("ben", "1"))]).expect_err("another's");
        then(&[
            picked_up.clone(),
            delivered.clone(),
            ("delivered", "o", by("mia", "3")),
        ])
        .expect_err("delivered twice");
        then(&[picked_up.clone(), ("problem_reported", "o", by("mia", "1"))])
            .expect_err("one intent, two events");
        then(&[("assigned", "o", json!({"driver_id": "ben"}))])
            .expect_err("it does not say whose it was");
    }
}

//! The simulated dispatcher: gives each driver a few orders, changes an order that a driver without network has just delivered,
//! so that a conflict arises, decides some conflicts, and leaves one to be looked at.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use freehold_tests::{Shown, chance};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::scene::{Placed, Scene};
use crate::driver::text;

struct Dispatcher {
    scene: Scene,
    /// Whether the dispatcher has changed a delivery of each driver since that driver lost their network.
    crossed: Vec<bool>,
    /// Changes alternate: cancel, give to the other driver, cancel, …
    turns: usize,
    next_farewell: Instant,
    /// The last order given to a simulated driver, and that driver's index.
    given: Option<(usize, Placed)>,
}

/// A driver's index, and how many open orders they have and may have.
struct Load {
    driver: usize,
    open: usize,
    most: usize,
}

/// Open orders of a driver, at most: a page that is pleasant to look at.
const MOST: usize = 4;
const MOST_FOR_PLAYED: usize = 3;
/// Conflicts that wait for a decision, at most.
const UNDECIDED: usize = 2;
/// Seconds between two turns; turns are short while a driver has fewer than `FEW` orders.
const BETWEEN_TURNS: Range<u16> = 3..6;
const SHORT_TURN: Duration = Duration::from_millis(400);
const FEW: usize = 2;
/// Orders of an earlier run that still wait, at most.
const LEFT_OVER: &str = "/orders?status=placed&limit=8";
/// Seconds between two customers who are deleted.
const BETWEEN_FAREWELLS: Range<u16> = 60..120;

/// Runs until dropped.
pub(super) async fn work(scene: Scene) {
    let mut dispatcher = Dispatcher {
        crossed: vec![false; scene.drivers.len()],
        turns: 0,
        next_farewell: Instant::now() + chance::seconds(BETWEEN_FAREWELLS),
        given: None,
        scene,
    };
    dispatcher.take_over().await;
    loop {
        sleep(dispatcher.turn().await).await;
    }
}

impl Dispatcher {
    async fn take_over(&self) {
        let page = self.scene.orders.get(LEFT_OVER).await;
        let orders = page.body["items"].as_array().into_iter().flatten();
        self.scene.waiting().extend(orders.map(Placed::of));
    }

    /// Returns how long to pause.
    async fn turn(&mut self) -> Duration {
        let loads = self.loads().await;
        self.assign_next(&loads).await;
        self.see_to_conflicts().await;
        self.say_farewell().await;
        match loads.iter().any(|load| load.open < FEW) {
            true => SHORT_TURN,
            false => chance::seconds(BETWEEN_TURNS),
        }
    }

    /// Of the drivers who are enrolled.
    async fn loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for (index, driver) in self.scene.drivers.iter().enumerate() {
            let Some(id) = &driver.id else { continue };
            let mut open = 0;
            for status in ["assigned", "picked_up"] {
                let list = format!("/orders?driver_id={id}&status={status}&limit=50");
                let page = self.scene.orders.get(&list).await;
                open += page.body["items"].as_array().map_or(MOST, Vec::len);
            }
            let most = if driver.played { MOST_FOR_PLAYED } else { MOST };
            loads.push(Load {
                driver: index,
                open,
                most,
            });
        }
        loads
    }

    async fn assign_next(&mut self, loads: &[Load]) {
        let Some(Load { driver, .. }) = least_loaded(loads) else {
            return;
        };
        let Some(order) = self.scene.waiting().pop_front() else {
            return;
        };
        let to = &self.scene.drivers[*driver];
        let id = to.id.as_deref().unwrap_or_default();
        let reply = self.scene.orders.assign(&order.order_id, None, id).await;
        self.scene.note(&reply);
        if reply.is_success() && !to.played {
            self.given = Some((*driver, order));
        }
    }

    async fn see_to_conflicts(&mut self) {
        let Ok(open) = self.scene.orders.intents("open=true").await else {
            return;
        };
        let played = |intent: &Value| {
            let mut drivers = self.scene.drivers.iter();
            drivers
                .any(|driver| driver.played && driver.id.as_deref() == intent["driver_id"].as_str())
        };
        if let Some(intent) = due(&open, played) {
            return self.decide(intent).await;
        }
        for index in 0..self.scene.drivers.len() {
            if self.scene.drivers[index].network.is_on() {
                self.crossed[index] = false;
            } else if !self.crossed[index] && open.len() < UNDECIDED {
                self.crossed[index] = self.cross(index).await;
            }
        }
    }

    /// Changes an order that the driver has just delivered offline. False when there is none.
    async fn cross(&mut self, index: usize) -> bool {
        let driver = &self.scene.drivers[index];
        let Some(order) = driver.shown().await.as_ref().and_then(delivered_unsent) else {
            return false;
        };
        let other = self
            .scene
            .drivers
            .iter()
            .find(|it| it.number != driver.number);
        let other = other.and_then(|other| Some((other.first_name(), other.id.as_deref()?)));
        let (reply, what) = match other {
            Some((name, id)) if self.turns % 2 == 1 => (
                self.scene.orders.assign(&order, None, id).await,
                format!("gave {name} an order"),
            ),
            _ => (
                self.scene
                    .orders
                    .cancel(&order, None, "customer_request")
                    .await,
                "cancelled an order".to_owned(),
            ),
        };
        self.scene.note(&reply);
        if reply.is_success() {
            self.turns += 1;
            let line = format!(
                "{what} that {} has delivered offline: expect a conflict",
                driver.first_name()
            );
            self.scene.console.about("dispatcher", &line);
        }
        reply.is_success()
    }

    async fn decide(&self, intent: &Value) {
        let id = text(intent, "id");
        let upheld = text(intent, "kind") == "deliver"
            && (intent["decision"] == "insisted" || chance::coin());
        let decision = if upheld { "upheld" } else { "dismissed" };
        let mut reply = self.scene.orders.decide(id, None, decision).await;
        if upheld && reply.status == 409 {
            reply = self.scene.orders.decide(id, None, "dismissed").await; // the other driver has delivered it
        }
        self.scene.note(&reply);
        if reply.is_success() {
            let line = format!("decided a conflict: {}", text(&reply.body, "decision"));
            self.scene.console.about("dispatcher", &line);
        }
    }

    /// Deletes a customer; the reaction of orders-service cancels their orders, which the page of a driver with a network shows.
    async fn say_farewell(&mut self) {
        if Instant::now() < self.next_farewell {
            return;
        }
        let Some((index, order)) = self.given.take() else {
            return;
        };
        let driver = &self.scene.drivers[index];
        if driver.network.is_on() {
            self.scene
                .note(&self.scene.users.delete(&order.user_id).await);
            let line = format!(
                "a customer of {}'s is deleted: their open orders are cancelled",
                driver.first_name()
            );
            self.scene.console.about("customers", &line);
            self.next_farewell = Instant::now() + chance::seconds(BETWEEN_FAREWELLS);
        }
    }
}

fn least_loaded(loads: &[Load]) -> Option<&Load> {
    let free = loads.iter().filter(|load| load.open < load.most);
    free.min_by_key(|load| load.open)
}

/// The conflict to decide now: one whose driver insists, else the oldest while another is left to be looked at. A person decides
/// about the driver they play.
fn due(open: &BTreeMap<String, Value>, is_played: impl Fn(&Value) -> bool) -> Option<&Value> {
    let mut ours = open.values().filter(|intent| !is_played(intent));
    let insisted = ours.clone().find(|intent| intent["decision"] == "insisted");
    insisted.or_else(|| ours.next().filter(|_| open.len() >= UNDECIDED))
}

/// An order that the driver picked up before they lost their network, and has delivered since.
fn delivered_unsent(shown: &Shown) -> Option<String> {
    let crossable = |delivery: &&Value| {
        let pending = delivery["pending"].as_array().into_iter().flatten();
        let unsent = pending.filter(|it| text(it, "state") != "confirmed");
        let mut kinds = unsent.map(|it| text(it, "kind"));
        kinds.clone().any(|kind| kind == "deliver") && kinds.all(|kind| kind != "pick_up")
    };
    let delivery = shown.deliveries().find(crossable)?;
    Some(text(delivery, "order_id").to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_driver_with_the_fewest_orders_gets_the_next_one() {
        let load = |driver, open, most| Load { driver, open, most };
        let next = |loads: &[Load]| least_loaded(loads).map(|load| load.driver);
        assert_eq!(next(&[load(0, 2, 4), load(1, 1, 3)]), Some(1));
        assert_eq!(next(&[load(0, 3, 4), load(1, 3, 3)]), Some(0));
        assert_eq!(next(&[load(0, 4, 4), load(1, 3, 3)]), None);
        assert_eq!(next(&[]), None);
    }

    #[test]
    fn one_conflict_is_left_to_be_looked_at_and_one_that_a_driver_insists_on_is_decided() {
        let due = |open: &[(&str, &str)]| {
            let intent = |(id, decision): &(&str, &str)| {
                (id.to_string(), json!({"id": id, "decision": decision}))
            };
            let open: BTreeMap<_, _> = open.iter().map(intent).collect();
            due(&open, |intent| intent["id"] == "played").map(|it| text(it, "id").to_owned())
        };
        assert_eq!(due(&[("a", "")]), None);
        assert_eq!(due(&[("a", ""), ("b", "")]), Some("a".into()));
        assert_eq!(due(&[("a", "insisted")]), Some("a".into()));
        assert_eq!(due(&[("played", "insisted")]), None);
        assert_eq!(due(&[("played", "insisted"), ("q", "")]), Some("q".into()));
    }

    #[test]
    fn an_order_is_changed_that_was_picked_up_online_and_delivered_offline() {
        let delivery = |id: &str, kinds: &[&str]| {
            let pending: Vec<_> = kinds.iter().map(|kind| json!({"kind": kind})).collect();
            json!({"order_id": id, "pending": pending})
        };
        let shown = Shown(json!({"deliveries": [
            delivery("a", &[]),
            delivery("b", &["pick_up", "deliver"]),
            delivery("c", &["report_problem"]),
            delivery("d", &["report_problem", "deliver"]),
        ]}));
        assert_eq!(delivered_unsent(&shown), Some("d".to_owned()));
    }
}

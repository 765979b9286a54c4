//! The simulated office: gives orders to drivers, a handful to each; now and then changes its mind about what a driver
//! without network is just delivering, so that conflicts arise; decides some of them, and leaves the rest to be looked at.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use freehold_tests::http::UserApi;
use freehold_tests::{Office, Shown};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::crew::{Driver, text};
use super::hands::seconds_of;
use super::traffic::{Counts, Placed, Waiting, pick};
use crate::console::Console;

/// Who sits there.
pub(super) struct Desk {
    pub(super) office: Office,
    pub(super) users: UserApi,
    pub(super) drivers: Vec<Driver>,
    pub(super) waiting: Arc<Waiting>,
    pub(super) counts: Arc<Counts>,
    pub(super) console: Arc<Console>,
}

/// What has happened so far that is not to be read anywhere.
struct Memory {
    /// Whose delivery was crossed since they lost their network, by their place in the crew.
    crossed: Vec<bool>,
    /// Cancel, hand over, cancel, …
    turns: usize,
    next_farewell: Instant,
    /// The last order of a sample customer that a simulated driver got: that driver's place in the crew, and the order.
    given: Option<(usize, Placed)>,
    /// When each open conflict was first seen, by its intent.
    seen: Vec<(String, Instant)>,
}

/// What a decision is made from.
#[derive(Debug, PartialEq, Eq)]
struct Open<'a> {
    intent: &'a Value,
    /// Since somebody could have looked at it.
    age: Duration,
}

/// Open orders a driver has, at most: a page one likes to look at.
const HANDFUL: usize = 4;
/// Whoever is played by a person finds these, and is not buried in more.
const HANDFUL_TO_PLAY: usize = 3;
/// A conflict is decided here after so long, and only while there is another one to be looked at.
const LOOKED_AT: Duration = Duration::from_secs(75);
/// Conflicts that wait for somebody, at most.
const UNDECIDED: usize = 2;
/// Seconds between two turns; while somebody has hardly anything to do, turns are short.
const BETWEEN_TURNS: Range<u16> = 3..6;
const HURRY: Duration = Duration::from_millis(400);
const HARDLY_ANYTHING: usize = 2;
/// An order of nobody we know, a person's or an earlier run's, is left to that person for so long.
const LEFT_ALONE: Duration = Duration::from_secs(300);
/// Seconds between two customers who leave for good, orders and all.
const BETWEEN_FAREWELLS: Range<u16> = 60..120;

impl Desk {
    /// Runs until dropped.
    pub(super) async fn work(self) {
        let mut memory = Memory {
            crossed: vec![false; self.drivers.len()],
            turns: 0,
            next_farewell: Instant::now() + seconds_of(BETWEEN_FAREWELLS),
            given: None,
            seen: vec![],
        };
        loop {
            let loads = self.loads().await;
            self.hand_out(&loads, &mut memory).await;
            self.see_to_conflicts(&mut memory).await;
            self.say_farewell(&mut memory).await;
            let idle = loads.iter().any(|load| load.open < HARDLY_ANYTHING);
            sleep(if idle {
                HURRY
            } else {
                seconds_of(BETWEEN_TURNS)
            })
            .await;
        }
    }

    /// Open orders of each driver who can be given more.
    async fn loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        for (place, driver) in self.drivers.iter().enumerate() {
            let Some(id) = driver.id() else { continue };
            let of = |status: &str| format!("/orders?driver_id={id}&status={status}&limit=50");
            let (assigned, picked_up) = (of("assigned"), of("picked_up"));
            let (assigned, picked_up) =
                tokio::join!(self.office.get(&assigned), self.office.get(&picked_up));
            let count = |page: &Value| page["items"].as_array().map(Vec::len);
            if let Some((a, b)) = count(&assigned.body).zip(count(&picked_up.body)) {
                loads.push(Load {
                    place,
                    driver_id: id,
                    open: a + b,
                    most: if driver.played {
                        HANDFUL_TO_PLAY
                    } else {
                        HANDFUL
                    },
                });
            }
        }
        loads
    }

    async fn hand_out(&self, loads: &[Load], memory: &mut Memory) {
        let Some(load) = least_loaded(loads) else {
            return;
        };
        let order = match self.waiting.take() {
            Some(order) => order,
            None => match self.left_lying().await {
                Some(order) => order,
                None => return,
            },
        };
        let reply = self
            .office
            .assign(&order.order_id, None, &load.driver_id)
            .await;
        self.counts.note(&reply);
        if reply.is_success() && !self.drivers[load.place].played {
            memory.given = Some((load.place, order));
        }
    }

    /// The oldest order that waits for a driver, if it has waited for long.
    async fn left_lying(&self) -> Option<Placed> {
        let page = self.office.get("/orders?status=placed&limit=1").await;
        let oldest = page.body["items"].get(0)?;
        let age = age_of_id(text(oldest, "id"), SystemTime::now())?;
        (age > LEFT_ALONE).then(|| Placed {
            order_id: text(oldest, "id").to_owned(),
            user_id: text(oldest, "user_id").to_owned(),
        })
    }

    async fn see_to_conflicts(&self, memory: &mut Memory) {
        let Ok(open) = self.office.intents("open=true").await else {
            return;
        };
        let open: Vec<_> = memory.look_at(open.values().cloned().collect());
        let open: Vec<_> = open
            .iter()
            .map(|(intent, age)| Open { intent, age: *age })
            .collect();
        if let Some(intent) = due(&open, |intent| self.is_simulated(intent)) {
            return self.decide(intent).await;
        }
        for (place, driver) in self.drivers.iter().enumerate() {
            if driver.network.is_on() {
                memory.crossed[place] = false;
            } else if !memory.crossed[place] && open.len() < UNDECIDED {
                memory.crossed[place] = self.cross(driver, &mut memory.turns).await;
            }
        }
    }

    fn is_simulated(&self, intent: &Value) -> bool {
        let of_intent = |driver: &&Driver| driver.id().as_deref() == intent["driver_id"].as_str();
        let driver = self.drivers.iter().find(of_intent);
        driver.is_none_or(|driver| !driver.played)
    }

    /// Changes what a driver without network has delivered just now. False when there is no such thing.
    async fn cross(&self, driver: &Driver, turns: &mut usize) -> bool {
        let Some(order) = driver.shown().as_ref().and_then(delivered_unseen) else {
            return false;
        };
        let other = self.drivers.iter().find(|it| it.number != driver.number);
        let other = other.and_then(|other| Some((other.first_name(), other.id()?)));
        let (reply, what) = match other {
            Some((name, id)) if *turns % 2 == 1 => (
                self.office.assign(&order, None, &id).await,
                format!("gave {name} an order"),
            ),
            _ => (
                self.office.cancel(&order, None, "customer_request").await,
                "cancelled an order".to_owned(),
            ),
        };
        self.counts.note(&reply);
        if reply.is_success() {
            *turns += 1;
            let name = driver.first_name();
            let line =
                format!("{what} that {name} has delivered, offline: there will be a conflict");
            self.console.about("office", &line);
        }
        reply.is_success()
    }

    async fn decide(&self, intent: &Value) {
        let id = text(intent, "id");
        let upheld =
            text(intent, "kind") == "deliver" && (intent["decision"] == "insisted" || pick(2) == 0);
        let mut reply = match upheld {
            true => self.office.decide(id, None, "upheld").await,
            false => self.office.decide(id, None, "dismissed").await,
        };
        if upheld && reply.status == 409 {
            reply = self.office.decide(id, None, "dismissed").await; // somebody else has delivered it
        }
        self.counts.note(&reply);
        if reply.is_success() {
            let decision = text(&reply.body, "decision").to_owned();
            let line = format!("decided a conflict: {decision}");
            self.console.about("office", &line);
        }
    }

    /// A customer leaves, and what they had ordered is cancelled: the reaction of orders-service. It shows on the page of
    /// a driver who has a network.
    async fn say_farewell(&self, memory: &mut Memory) {
        if Instant::now() < memory.next_farewell {
            return;
        }
        let Some((place, order)) = memory.given.take() else {
            return;
        };
        let driver = &self.drivers[place];
        if driver.network.is_on() {
            let reply = self.users.delete(&order.user_id).await;
            self.counts.note(&reply);
            let name = driver.first_name();
            let line = format!(
                "a customer of {name}'s has left for good: what they had ordered is cancelled"
            );
            self.console.about("customers", &line);
            memory.next_farewell = Instant::now() + seconds_of(BETWEEN_FAREWELLS);
        }
    }
}

/// A driver, and what they have to do.
struct Load {
    /// In the crew.
    place: usize,
    driver_id: String,
    open: usize,
    most: usize,
}

fn least_loaded(loads: &[Load]) -> Option<&Load> {
    let free = loads.iter().filter(|load| load.open < load.most);
    free.min_by_key(|load| load.open)
}

/// The first of the oldest that nobody else will decide about: a driver who insists waits, and so does whoever finds
/// more conflicts than one likes to look at.
fn due<'a>(open: &[Open<'a>], is_simulated: impl Fn(&Value) -> bool) -> Option<&'a Value> {
    let ours = open
        .iter()
        .filter(|it| is_simulated(it.intent) && it.age >= LOOKED_AT);
    let insisted = |it: &&Open| it.intent["decision"] == "insisted";
    let one = ours.clone().find(insisted).or_else(|| {
        let mut ours = ours.clone();
        ours.next().filter(|_| open.len() >= UNDECIDED)
    });
    one.map(|it| it.intent)
}

/// An order that the driver has picked up before they lost their network, and delivered since.
fn delivered_unseen(shown: &Shown) -> Option<String> {
    let crossable = |delivery: &&Value| {
        let pending = delivery["pending"].as_array();
        let unsent = pending.into_iter().flatten();
        let unsent = unsent.filter(|it| text(it, "state") != "confirmed");
        let mut kinds = unsent.map(|it| text(it, "kind"));
        kinds.clone().any(|kind| kind == "deliver") && kinds.all(|kind| kind != "pick_up")
    };
    let delivery = shown.deliveries().find(crossable)?;
    Some(text(delivery, "order_id").to_owned())
}

/// Ids begin with the moment they were drawn, in milliseconds (UUID version 7).
fn age_of_id(id: &str, now: SystemTime) -> Option<Duration> {
    let digits: String = id.split('-').take(2).collect();
    let drawn = Duration::from_millis(u64::from_str_radix(&digits, 16).ok()?);
    now.duration_since(UNIX_EPOCH).ok()?.checked_sub(drawn)
}

impl Memory {
    /// Open conflicts with their ages, the oldest first.
    fn look_at(&mut self, open: Vec<Value>) -> Vec<(Value, Duration)> {
        let now = Instant::now();
        self.seen
            .retain(|(id, _)| open.iter().any(|intent| intent["id"] == **id));
        for intent in &open {
            let id = text(intent, "id");
            if !self.seen.iter().any(|(known, _)| known == id) {
                self.seen.push((id.to_owned(), now));
            }
        }
        let with_age = self.seen.iter().filter_map(|(id, since)| {
            let intent = open.iter().find(|intent| intent["id"] == **id)?;
            Some((intent.clone(), now.duration_since(*since)))
        });
        with_age.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn load(driver: &str, open: usize, most: usize) -> Load {
        Load {
            place: 0,
            driver_id: driver.to_owned(),
            open,
            most,
        }
    }

    #[test]
    fn the_driver_with_the_least_to_do_gets_the_next_order_up_to_a_handful() {
        let next = |loads: &[Load]| least_loaded(loads).map(|load| load.driver_id.clone());
        assert_eq!(next(&[load("a", 2, 4), load("b", 1, 3)]), Some("b".into()));
        assert_eq!(next(&[load("a", 3, 4), load("b", 3, 3)]), Some("a".into()));
        assert_eq!(next(&[load("a", 4, 4), load("b", 3, 3)]), None);
        assert_eq!(next(&[]), None);
    }

    #[test]
    fn one_conflict_is_left_to_be_looked_at_and_one_that_a_driver_insists_on_is_decided() {
        let intent = |id: &str, decision: Value| json!({"id": id, "decision": decision});
        let [a, b, c] = [
            intent("a", Value::Null),
            intent("b", Value::Null),
            intent("c", json!("insisted")),
        ];
        let open = |intent, age| Open { intent, age };
        let (old, new) = (LOOKED_AT, LOOKED_AT - Duration::from_secs(1));
        let due = |open: &[Open<'_>]| {
            due(open, |intent| intent["id"] != "played").map(|it| text(it, "id").to_owned())
        };
        assert_eq!(due(&[open(&a, old)]), None);
        assert_eq!(due(&[open(&a, new), open(&b, new)]), None);
        assert_eq!(due(&[open(&a, old), open(&b, new)]), Some("a".into()));
        assert_eq!(due(&[open(&c, old)]), Some("c".into()));
        let played = intent("played", json!("insisted"));
        assert_eq!(due(&[open(&played, old), open(&a, new)]), None);
    }

    #[test]
    fn an_order_is_crossed_that_was_picked_up_in_reach_and_delivered_out_of_it() {
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
        assert_eq!(delivered_unseen(&shown), Some("d".to_owned()));
    }

    #[test]
    fn an_id_tells_its_age() {
        let now = UNIX_EPOCH + Duration::from_millis(0x0191_d1a0_0000 + 5000);
        let age = age_of_id("0191d1a0-0000-7000-8000-000000000001", now);
        assert_eq!(age, Some(Duration::from_secs(5)));
        assert_eq!(age_of_id("what", now), None);
    }
}

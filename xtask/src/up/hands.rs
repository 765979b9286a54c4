//! A simulated driver: acts like a person, every few seconds, with or without a network, and is out of reach now and then.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use freehold_tests::{Shown, chance};
use serde_json::Value;
use tokio::time::sleep;

use super::crew::{Driver, text};
use super::traffic::{Counts, pick};

/// What a driver does next.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    PickUp(String),
    Deliver(String),
    Report(String),
    Decide(String, &'static str),
    Dismiss(String),
    Retry(String),
}

/// Seconds between two acts: slow enough to watch.
const BETWEEN_ACTS: Range<u16> = 5..12;
/// Seconds before the first time out of reach, and between two; and how long one is. Together about two minutes.
const FIRST_TRIP: Range<u16> = 25..35;
const IN_REACH: Range<u16> = 75..105;
const OUT_OF_REACH: Range<u16> = 20..40;
const NOTES: [&str; 6] = [
    "left with neighbour",
    "handed over in person",
    "bei Familie Müller abgegeben",
    "at the reception desk",
    "in the shed, as agreed",
    "門口に置きました",
];
const PROBLEMS: [&str; 4] = ["nobody_home", "wrong_address", "damaged", "refused"];

/// Runs until dropped.
pub(super) async fn drive(driver: Driver, counts: Arc<Counts>) {
    loop {
        sleep(seconds_of(BETWEEN_ACTS)).await;
        let act = driver
            .shown()
            .and_then(|shown| next(&shown, chance::number()));
        if let Some(act) = act {
            counts.note(&act.done_by(&driver).await);
        }
    }
}

/// Runs until dropped. Never all of them at a time: somebody should be seen to work online.
pub(super) async fn travel(driver: Driver, others: Vec<Driver>) {
    sleep(seconds_of(FIRST_TRIP)).await;
    loop {
        let alone = others.iter().all(|other| other.network.is_on());
        if alone && driver.network.be_away(true) {
            sleep(seconds_of(OUT_OF_REACH)).await;
            driver.network.be_away(false);
        }
        sleep(seconds_of(IN_REACH)).await;
    }
}

/// Decided from what the device shows and 64 drawn bits.
fn next(shown: &Shown, drawn: u64) -> Option<Act> {
    let (what, which) = (drawn % 100, usize::try_from(drawn >> 8 & 0xffff).ok()?);
    let id = |of: &Value| text(of, "intent_id").to_owned();
    let mut undecided = shown
        .conflicts()
        .filter(|it| it["decision"].is_null() && it["deciding"] == false);
    // Conflicts stay for a while: whoever looks at the page should see them.
    if let (Some(conflict), 0..6) = (undecided.next(), what) {
        let decision = if which % 3 == 0 {
            "insisted"
        } else {
            "accepted"
        };
        return Some(Act::Decide(id(conflict), decision));
    }
    if let (Some(refused), 0..25) = (shown.refused().next(), what) {
        return Some(match refused["gave_up"] == true {
            true => Act::Retry(id(refused)),
            false => Act::Dismiss(id(refused)),
        });
    }
    delivery(shown, what, which)
}

fn delivery(shown: &Shown, what: u64, which: usize) -> Option<Act> {
    let able = |action: &str| -> Vec<String> {
        let can = |it: &&Value| {
            let can = it["can"].as_array();
            can.is_some_and(|can| can.iter().any(|can| can == action))
        };
        let ids = shown.deliveries().filter(can);
        ids.map(|it| text(it, "order_id").to_owned()).collect()
    };
    let one = |of: Vec<String>| (!of.is_empty()).then(|| of[which % of.len()].clone());
    let (waiting, loaded) = (able("pick_up"), able("deliver"));
    match what {
        90.. => one(able("report_problem")).map(Act::Report),
        50.. => one(waiting)
            .map(Act::PickUp)
            .or_else(|| one(loaded).map(Act::Deliver)),
        _ => one(loaded)
            .map(Act::Deliver)
            .or_else(|| one(waiting).map(Act::PickUp)),
    }
}

impl Act {
    async fn done_by(&self, driver: &Driver) -> freehold_tests::http::Reply {
        let device = &driver.device;
        match self {
            Act::PickUp(order) => device.pick_up(order).await,
            Act::Deliver(order) => {
                let note = (pick(2) == 0).then(|| NOTES[pick(NOTES.len())]);
                device.deliver(order, note).await
            }
            Act::Report(order) => {
                let problem = PROBLEMS[pick(PROBLEMS.len())];
                device.report_problem(order, problem, None).await
            }
            Act::Decide(intent, decision) => device.decide(intent, decision).await,
            Act::Dismiss(intent) => device.dismiss(intent).await,
            Act::Retry(intent) => device.retry(intent).await,
        }
    }
}

/// Some time within these seconds.
pub(super) fn seconds_of(range: Range<u16>) -> Duration {
    let whole = Duration::from_secs(chance::in_range(range).into());
    whole + Duration::from_millis(chance::in_range(0..1000).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn device(conflicts: &Value, refused: &Value) -> Shown {
        let delivery = |id: &str, can: &[&str]| json!({"order_id": id, "can": can});
        Shown(json!({
            "deliveries": [
                delivery("a", &["pick_up", "report_problem"]),
                delivery("p", &["deliver", "report_problem"]),
                delivery("d", &[]),
            ],
            "conflicts": conflicts,
            "refused": refused,
        }))
    }

    #[test]
    fn a_driver_does_only_what_the_device_offers() {
        let quiet = device(&json!([]), &json!([]));
        let mut seen = [0; 3];
        for drawn in 0..100 {
            match next(&quiet, drawn | 0x0300).expect("there is work") {
                Act::PickUp(order) if order == "a" => seen[0] += 1,
                Act::Deliver(order) if order == "p" => seen[1] += 1,
                Act::Report(order) if order == "a" || order == "p" => seen[2] += 1,
                other => panic!("{other:?}"),
            }
        }
        assert!(seen.iter().all(|count| *count >= 9), "{seen:?}");
        assert_eq!(next(&Shown(json!({"deliveries": []})), 7), None);
    }

    #[test]
    fn a_conflict_stays_for_a_while_and_is_decided_once() {
        let conflict =
            |decision: Value| json!([{"intent_id": "c", "decision": decision, "deciding": false}]);
        let decides = |shown: &Shown| {
            let acts = (0..100).filter_map(|drawn| next(shown, drawn));
            acts.filter(|act| matches!(act, Act::Decide(intent, _) if intent == "c"))
                .count()
        };
        assert!((1..20).contains(&decides(&device(&conflict(Value::Null), &json!([])))));
        assert_eq!(
            decides(&device(&conflict(json!("insisted")), &json!([]))),
            0
        );
    }

    #[test]
    fn what_was_refused_is_read_and_what_was_given_up_is_tried_again() {
        let refused = |gave_up| json!([{"intent_id": "r", "gave_up": gave_up}]);
        let first = |gave_up| next(&device(&json!([]), &refused(gave_up)), 0);
        assert_eq!(first(false), Some(Act::Dismiss("r".to_owned())));
        assert_eq!(first(true), Some(Act::Retry("r".to_owned())));
    }
}

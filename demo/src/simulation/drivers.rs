//! A simulated driver: acts like a person, every few seconds, online or offline, and is out of range now and then.

use std::ops::Range;
use std::sync::atomic::Ordering;

use freehold_tests::http::Reply;
use freehold_tests::{Shown, chance};
use serde_json::Value;
use tokio::time::sleep;

use super::scene::Scene;
use crate::driver::{Driver, text};

/// What a driver does next, and to which order or intent.
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
/// Seconds before the first trip out of range, between two trips, and of one trip. Together about two minutes.
const FIRST_TRIP: Range<u16> = 25..35;
const IN_RANGE: Range<u16> = 75..105;
const OUT_OF_RANGE: Range<u16> = 20..40;
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
pub(super) async fn deliver(driver: Driver, scene: Scene) {
    loop {
        sleep(chance::seconds(BETWEEN_ACTS)).await;
        let shown = driver.shown().await;
        if let Some(act) = shown.and_then(|shown| next(&shown, chance::number())) {
            scene.note(&act.done_by(&driver).await);
        }
    }
}

/// Runs until dropped. The others stay online meanwhile: one driver should always be seen to work online.
pub(super) async fn travel(driver: Driver, others: Vec<Driver>) {
    sleep(chance::seconds(FIRST_TRIP)).await;
    let away = &driver.network.out_of_range;
    loop {
        if others.iter().all(|other| other.network.is_on()) {
            away.store(true, Ordering::Relaxed);
            sleep(chance::seconds(OUT_OF_RANGE)).await;
            away.store(false, Ordering::Relaxed);
        }
        sleep(chance::seconds(IN_RANGE)).await;
    }
}

/// Decided from what the device shows and 64 drawn bits.
fn next(shown: &Shown, drawn: u64) -> Option<Act> {
    let (what, which) = (drawn % 100, usize::try_from(drawn >> 8 & 0xffff).ok()?);
    let id = |of: &Value| text(of, "intent_id").to_owned();
    let mut undecided = shown
        .conflicts()
        .filter(|it| it["decision"].is_null() && it["deciding"] == false);
    // Rarely: a person who looks at the page should see the conflict.
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
    let able = |action: &str| {
        let ids = shown.deliveries().map(|it| text(it, "order_id"));
        let able: Vec<_> = ids.filter(|id| shown.can(id, action)).collect();
        (!able.is_empty()).then(|| able[which % able.len()].to_owned())
    };
    let pick_up = || able("pick_up").map(Act::PickUp);
    let deliver = || able("deliver").map(Act::Deliver);
    match what {
        90.. => able("report_problem").map(Act::Report),
        50.. => pick_up().or_else(deliver),
        _ => deliver().or_else(pick_up),
    }
}

impl Act {
    async fn done_by(&self, driver: &Driver) -> Reply {
        let device = &driver.device;
        match self {
            Act::PickUp(order) => device.pick_up(order).await,
            Act::Deliver(order) => {
                let note = chance::one_of(&NOTES).filter(|_| chance::coin());
                device.deliver(order, note.copied()).await
            }
            Act::Report(order) => {
                let problem = chance::one_of(&PROBLEMS).copied().unwrap_or_default();
                device.report_problem(order, problem, None).await
            }
            Act::Decide(intent, decision) => device.decide(intent, decision).await,
            Act::Dismiss(intent) => device.dismiss(intent).await,
            Act::Retry(intent) => device.retry(intent).await,
        }
    }
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
    fn a_driver_decides_a_conflict_once_and_not_at_once() {
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
    fn a_refused_action_is_dismissed_and_one_that_was_given_up_is_retried() {
        let refused = |gave_up| json!([{"intent_id": "r", "gave_up": gave_up}]);
        let first = |gave_up| next(&device(&json!([]), &refused(gave_up)), 0);
        assert_eq!(first(false), Some(Act::Dismiss("r".to_owned())));
        assert_eq!(first(true), Some(Act::Retry("r".to_owned())));
    }
}

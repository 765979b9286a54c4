//! One line that says how it goes: rate, deliveries, drivers, conflicts, heads, lag, dead letters. Live on a terminal, every
//! ten seconds elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use freehold_tests::http::Api;
use freehold_tests::metrics::Metrics;
use freehold_tests::{Office, Shown};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::crew::{Driver, text};
use super::system::Urls;
use super::traffic::Counts;
use crate::console::Console;

const LIVE: Duration = Duration::from_secs(1);
const PLAIN: Duration = Duration::from_secs(10);
/// A service that does not answer by then is shown as silent, and asked again next time.
const PATIENCE: Duration = Duration::from_millis(900);

/// As many of a kind are counted; then it is "so many, and more".
const COUNTED: usize = 50;

/// Runs until aborted.
pub(super) fn start(
    console: &Arc<Console>,
    urls: &Urls,
    office: Office,
    drivers: Vec<Driver>,
    traffic: Option<Arc<Counts>>,
) -> JoinHandle<()> {
    let view = View {
        users: Api::new(&urls.users, None), // metrics are open
        orders: Api::new(&urls.orders, None),
        office,
        drivers,
        traffic,
    };
    tokio::spawn(show(Arc::clone(console), view))
}

/// Where it is looked.
struct View {
    users: Api,
    orders: Api,
    office: Office,
    drivers: Vec<Driver>,
    traffic: Option<Arc<Counts>>,
}

async fn show(console: Arc<Console>, view: View) {
    let mut ticks = interval(if console.is_terminal() { LIVE } else { PLAIN });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rate = Rate::default();
    ticks.tick().await; // the first comes at once, when there is no rate yet
    rate.of(heads(&view.services().await), Instant::now());
    loop {
        ticks.tick().await;
        let (now, deliveries) = tokio::join!(view.services(), view.deliveries());
        let line = line(
            &now,
            rate.of(heads(&now), Instant::now()),
            &deliveries,
            view.failed(),
        );
        if console.is_terminal() {
            console.live(&line)
        } else {
            console.line(&line)
        }
    }
}

/// What both services said, if they did.
type Reading = [Option<Metrics>; 2];

/// How it goes with the orders.
#[derive(Clone, Debug, Default)]
struct Deliveries {
    /// Orders without a driver, and conflicts without a decision.
    waiting: Option<usize>,
    undecided: Option<usize>,
    drivers: Vec<AtWork>,
}

/// A driver, and what their device shows while it answers.
#[derive(Clone, Debug)]
struct AtWork {
    name: &'static str,
    has_network: bool,
    shown: Option<Shown>,
}

impl View {
    async fn services(&self) -> Reading {
        let (users, orders) = tokio::join!(
            timeout(PATIENCE, self.users.metrics()),
            timeout(PATIENCE, self.orders.metrics())
        );
        [users, orders].map(|answer| answer.ok().and_then(Result::ok))
    }

    /// Nothing to be said where nobody drives.
    async fn deliveries(&self) -> Deliveries {
        if self.drivers.is_empty() {
            return Deliveries::default();
        }
        let (waiting, undecided) = tokio::join!(
            self.count("/orders?status=placed"),
            self.count("/intents?open=true")
        );
        let drivers = self.drivers.iter().map(|driver| AtWork {
            name: driver.first_name(),
            has_network: driver.network.is_on(),
            shown: driver.shown(),
        });
        Deliveries {
            waiting,
            undecided,
            drivers: drivers.collect(),
        }
    }

    async fn count(&self, list: &str) -> Option<usize> {
        let path = format!("{list}&limit={COUNTED}");
        let page = timeout(PATIENCE, self.office.get(&path)).await.ok()?;
        page.body["items"].as_array().map(Vec::len)
    }

    fn failed(&self) -> u64 {
        let counts = self.traffic.as_ref();
        counts.map_or(0, |counts| counts.failed.load(Ordering::Relaxed))
    }
}

/// Events emitted so far by both, while both answer.
fn heads(reading: &Reading) -> Option<f64> {
    reading
        .iter()
        .map(|metrics| metrics.as_ref()?.get("freehold_outbox_head"))
        .sum()
}

/// Events per second between two looks.
#[derive(Default)]
struct Rate {
    last: Option<(f64, Instant)>,
}

impl Rate {
    fn of(&mut self, heads: Option<f64>, now: Instant) -> Option<f64> {
        let before = self.last.take();
        self.last = heads.map(|heads| (heads, now));
        let ((old, then), (new, now)) = before.zip(self.last)?;
        Some((new - old) / now.duration_since(then).as_secs_f64())
    }
}

fn line(reading: &Reading, rate: Option<f64>, deliveries: &Deliveries, failed: u64) -> String {
    let [users, orders] = reading;
    let rate = rate.map_or("?".to_owned(), |rate| format!("{rate:.1}"));
    let dead: f64 = reading
        .iter()
        .flatten()
        .filter_map(|metrics| metrics.get("freehold_dead_letters"))
        .sum();
    let behind = number(
        orders
            .as_ref()
            .and_then(|metrics| metrics.get("freehold_consumer_lag")),
    );
    let failed = if failed == 0 {
        String::new()
    } else {
        format!(" │ {failed} requests failed")
    };
    format!(
        "  {rate} events/s{} │ {} │ {} │ cache lag {behind} │ dead letters {dead}{failed}",
        deliveries.line(),
        log("users", users.as_ref()),
        log("orders", orders.as_ref()),
    )
}

impl Deliveries {
    fn line(&self) -> String {
        if self.drivers.is_empty() {
            return String::new();
        }
        let drivers: String = self.drivers.iter().map(AtWork::line).collect();
        format!(
            " │ {} waiting, {} under way, {} delivered{drivers} │ conflicts {}",
            counted(self.waiting),
            self.with_status(&["assigned", "picked_up"]),
            self.with_status(&["delivered"]),
            counted(self.undecided),
        )
    }

    /// As the drivers see them.
    fn with_status(&self, statuses: &[&str]) -> usize {
        let shown = self
            .drivers
            .iter()
            .filter_map(|driver| driver.shown.as_ref());
        let deliveries = shown.flat_map(Shown::deliveries);
        deliveries
            .filter(|delivery| statuses.contains(&text(delivery, "status")))
            .count()
    }
}

impl AtWork {
    /// What a device that has its network back has not sent yet, it sends in a moment.
    fn line(&self) -> String {
        let pending = self.shown.as_ref().map(Shown::pending);
        let state = match (pending, self.has_network) {
            (None, _) => "no answer".to_owned(),
            (Some(0), false) => "offline".to_owned(),
            (Some(pending), false) => format!("offline, {pending} unsent"),
            (Some(0), true) => "online".to_owned(),
            (Some(pending), true) => format!("online, {pending} unsent"),
        };
        format!(" │ {}: {state}", self.name)
    }
}

fn counted(count: Option<usize>) -> String {
    match count {
        None => "?".to_owned(),
        Some(COUNTED) => format!("{COUNTED}+"),
        Some(count) => count.to_string(),
    }
}

fn log(name: &str, metrics: Option<&Metrics>) -> String {
    let Some(metrics) = metrics else {
        return format!("{name}: no answer");
    };
    let of = |gauge| number(metrics.get(gauge));
    let [outbox, stream, lag] = [
        "freehold_outbox_head",
        "freehold_stream_head",
        "freehold_relay_lag",
    ]
    .map(of);
    format!("{name}: outbox {outbox}, stream {stream}, lag {lag}")
}

/// What is not known is no sample, or NaN.
fn number(value: Option<f64>) -> String {
    let known = value.filter(|value| !value.is_nan());
    known.map_or("?".to_owned(), |value| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_line_shows_what_is_known_and_admits_the_rest() {
        let users = Metrics::parse(
            "freehold_outbox_head 12\nfreehold_stream_head 10\nfreehold_relay_lag 2\n",
        );
        let orders = Metrics::parse(
            "freehold_consumer_lag{consumer=\"c\"} 3\nfreehold_dead_letters{consumer=\"c\"} 1\n",
        );
        assert_eq!(
            line(
                &[Some(users), Some(orders)],
                Some(4.96),
                &Deliveries::default(),
                0
            ),
            "  5.0 events/s │ users: outbox 12, stream 10, lag 2 │ orders: outbox ?, stream ?, lag ? │ cache lag 3 │ dead letters 1"
        );
        let silent = line(&[None, None], None, &Deliveries::default(), 7);
        assert!(silent.contains("users: no answer") && silent.ends_with("7 requests failed"));
    }

    #[test]
    fn deliveries_are_counted_as_the_drivers_see_them_and_drivers_shown_one_by_one() {
        let delivery = |status: &str| json!({"status": status});
        let shown = |pending: u64, statuses: &[&str]| {
            let deliveries: Vec<_> = statuses.iter().map(|status| delivery(status)).collect();
            Some(Shown(
                json!({"sync": {"pending": pending}, "deliveries": deliveries}),
            ))
        };
        let at_work = |name, has_network, shown| AtWork {
            name,
            has_network,
            shown,
        };
        let deliveries = Deliveries {
            waiting: Some(COUNTED),
            undecided: Some(1),
            drivers: vec![
                at_work(
                    "Mia",
                    false,
                    shown(2, &["picked_up", "delivered", "cancelled"]),
                ),
                at_work("Noor", true, shown(0, &["assigned", "delivered"])),
                at_work("Odd", true, None),
            ],
        };
        assert_eq!(
            deliveries.line(),
            " │ 50+ waiting, 2 under way, 2 delivered │ Mia: offline, 2 unsent │ Noor: online │ Odd: no answer │ conflicts 1"
        );
    }

    #[test]
    fn a_rate_needs_two_looks_with_both_services() {
        let start = Instant::now();
        let mut rate = Rate::default();
        assert_eq!(rate.of(Some(10.0), start), None);
        assert_eq!(
            rate.of(Some(30.0), start + Duration::from_secs(2)),
            Some(10.0)
        );
        assert_eq!(rate.of(None, start + Duration::from_secs(3)), None);
        assert_eq!(rate.of(Some(50.0), start + Duration::from_secs(4)), None);
    }
}

//! One line of status: rate, troubles, deliveries, drivers, conflicts, and the log of each service. Live on a terminal, which cuts
//! off what does not fit it; every ten seconds elsewhere.

use std::time::{Duration, Instant};

use freehold_tests::http::Api;
use freehold_tests::metrics::Metrics;
use freehold_tests::{Service, Shown};
use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::console::Console;
use crate::driver::{PATIENCE, text};
use crate::simulation::Scene;

const LIVE: Duration = Duration::from_secs(1);
const PLAIN: Duration = Duration::from_secs(10);
/// A list is counted up to here and shown as `50+` then.
const COUNTED: usize = 50;

/// Runs until dropped.
pub(crate) async fn show(scene: Scene, services: Vec<Observed>, console: Console) {
    let mut ticks = interval(if console.is_terminal { LIVE } else { PLAIN });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rate = Rate::default();
    ticks.tick().await; // the first tick comes at once, when there is no rate yet
    rate.of(heads(&metrics(&services).await), Instant::now());
    loop {
        ticks.tick().await;
        let (now, deliveries) = tokio::join!(metrics(&services), Deliveries::of(&scene));
        let rate = rate.of(heads(&now), Instant::now());
        let line = line(&now, rate, &deliveries, scene.failed_requests());
        match console.is_terminal {
            true => console.live(&line),
            false => console.line(&line),
        }
    }
}

/// A service whose log is shown.
pub(crate) struct Observed {
    /// The name of its log.
    log: String,
    api: Api,
}

/// The name of each log, and the metrics of its service if it answered.
type Reading = Vec<(String, Option<Metrics>)>;

impl Observed {
    pub(crate) fn of(service: &Service) -> Observed {
        Observed {
            log: service.stream().to_lowercase(),
            api: Api::of(service),
        }
    }
}

/// The state of the deliveries, by the lists of orders-service and by the devices.
#[derive(Clone, Debug, Default)]
struct Deliveries {
    /// Orders without a driver.
    waiting: Option<usize>,
    /// Conflicts without a decision.
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

async fn metrics(services: &[Observed]) -> Reading {
    let readings = services.iter().map(async |service| {
        let answer = timeout(PATIENCE, service.api.metrics()).await;
        (service.log.clone(), answer.ok().and_then(Result::ok))
    });
    join_all(readings).await
}

async fn count(api: &Api, list: &str) -> Option<usize> {
    let path = format!("{list}&limit={COUNTED}");
    let page = timeout(PATIENCE, api.get(&path)).await.ok()?;
    page.body["items"].as_array().map(Vec::len)
}

impl Deliveries {
    /// Empty without drivers.
    async fn of(scene: &Scene) -> Deliveries {
        let (orders, mut drivers) = (&scene.orders, Vec::new());
        for driver in &scene.drivers {
            drivers.push(AtWork {
                name: driver.first_name(),
                has_network: driver.network.is_on(),
                shown: driver.shown().await,
            });
        }
        Deliveries {
            waiting: count(orders, "/orders?status=placed").await,
            undecided: count(orders, "/intents?open=true").await,
            drivers,
        }
    }

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

    /// As the devices show them.
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
    fn line(&self) -> String {
        let network = if self.has_network {
            "online"
        } else {
            "offline"
        };
        let state = match self.shown.as_ref().map(Shown::pending) {
            None => "no answer".to_owned(),
            Some(0) => network.to_owned(),
            Some(pending) => format!("{network}, {pending} unsent"),
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

/// Events emitted so far by all services, if all answered.
fn heads(reading: &Reading) -> Option<f64> {
    let heads = reading
        .iter()
        .map(|(_, metrics)| metrics.as_ref()?.get("freehold_outbox_head"));
    heads.sum()
}

/// Events per second between two readings.
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
    let rate = rate.map_or("?".to_owned(), |rate| format!("{rate:.1}"));
    let answered = reading.iter().filter_map(|(_, metrics)| metrics.as_ref());
    let dead = answered.filter_map(|metrics| metrics.get("freehold_dead_letters"));
    let failed = match failed {
        0 => String::new(),
        failed => format!(" │ {failed} requests failed"),
    };
    let logs: String = reading.iter().map(log).collect();
    format!(
        "  {rate} events/s │ dead letters {}{failed}{}{logs}",
        dead.sum::<f64>(),
        deliveries.line(),
    )
}

/// A service without consumers has no cache that could lag.
fn log((name, metrics): &(String, Option<Metrics>)) -> String {
    let Some(metrics) = metrics else {
        return format!(" │ {name}: no answer");
    };
    let of = |gauge| number(metrics.get(gauge));
    let cache = metrics.get("freehold_consumer_lag");
    format!(
        " │ {name}: outbox {}, stream {}, lag {}{}",
        of("freehold_outbox_head"),
        of("freehold_stream_head"),
        of("freehold_relay_lag"),
        cache.map_or(String::new(), |lag| format!(
            ", cache lag {}",
            number(Some(lag))
        ))
    )
}

/// An unknown value has no sample, or is NaN.
fn number(value: Option<f64>) -> String {
    let known = value.filter(|value| !value.is_nan());
    known.map_or("?".to_owned(), |value| format!("{value:.0}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_line_shows_known_values_and_a_question_mark_for_others() {
        let users = Metrics::parse(
            "freehold_outbox_head 12\nfreehold_stream_head 10\nfreehold_relay_lag 2\n",
        );
        let orders = Metrics::parse(
            "freehold_consumer_lag{consumer=\"c\"} 3\nfreehold_dead_letters{consumer=\"c\"} 1\n",
        );
        let reading =
            |users, orders| vec![("users".to_owned(), users), ("orders".to_owned(), orders)];
        let deliveries = Deliveries::default();
        assert_eq!(
            line(
                &reading(Some(users), Some(orders)),
                Some(4.96),
                &deliveries,
                0
            ),
            "  5.0 events/s │ dead letters 1 │ users: outbox 12, stream 10, lag 2 │ orders: outbox ?, stream ?, lag ?, cache lag 3"
        );
        let silent = line(&reading(None, None), None, &deliveries, 7);
        assert!(silent.contains("│ 7 requests failed │ users: no answer │"));
    }

    #[test]
    fn deliveries_are_counted_as_the_devices_show_them_and_drivers_listed_one_by_one() {
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
    fn a_rate_needs_two_readings_of_both_services() {
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

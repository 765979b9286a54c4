//! One line that says how it goes: rate, heads, lag, dead letters. Live on a terminal, every ten seconds elsewhere.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use freehold_tests::http::Api;
use freehold_tests::metrics::Metrics;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::system::Urls;
use super::traffic::Counts;
use crate::console::Console;

const LIVE: Duration = Duration::from_secs(1);
const PLAIN: Duration = Duration::from_secs(10);
/// A service that does not answer by then is shown as silent, and asked again next time.
const PATIENCE: Duration = Duration::from_millis(900);

/// Runs until aborted.
pub(super) fn start(
    console: &Arc<Console>,
    urls: &Urls,
    traffic: Option<Arc<Counts>>,
) -> JoinHandle<()> {
    let (users, orders) = (Api::new(&urls.users, None), Api::new(&urls.orders, None)); // metrics are open
    tokio::spawn(show(Arc::clone(console), users, orders, traffic))
}

async fn show(console: Arc<Console>, users: Api, orders: Api, traffic: Option<Arc<Counts>>) {
    let mut ticks = interval(if console.is_terminal() { LIVE } else { PLAIN });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rate = Rate::default();
    ticks.tick().await; // the first comes at once, when there is no rate yet
    rate.of(heads(&look(&users, &orders).await), Instant::now());
    loop {
        ticks.tick().await;
        let now = look(&users, &orders).await;
        let failed = traffic
            .as_ref()
            .map_or(0, |counts| counts.failed.load(Ordering::Relaxed));
        let line = line(&now, rate.of(heads(&now), Instant::now()), failed);
        if console.is_terminal() {
            console.live(&line)
        } else {
            console.line(&line)
        }
    }
}

/// What both services said, if they did.
type Reading = [Option<Metrics>; 2];

async fn look(users: &Api, orders: &Api) -> Reading {
    let (users, orders) = tokio::join!(
        timeout(PATIENCE, users.metrics()),
        timeout(PATIENCE, orders.metrics())
    );
    [users, orders].map(|answer| answer.ok().and_then(Result::ok))
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

fn line(reading: &Reading, rate: Option<f64>, failed: u64) -> String {
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
        "  {rate} events/s │ {} │ {} │ cache lag {behind} │ dead letters {dead}{failed}",
        log("users", users.as_ref()),
        log("orders", orders.as_ref()),
    )
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

    #[test]
    fn the_line_shows_what_is_known_and_admits_the_rest() {
        let users = Metrics::parse(
            "freehold_outbox_head 12\nfreehold_stream_head 10\nfreehold_relay_lag 2\n",
        );
        let orders = Metrics::parse(
            "freehold_consumer_lag{consumer=\"c\"} 3\nfreehold_dead_letters{consumer=\"c\"} 1\n",
        );
        assert_eq!(
            line(&[Some(users), Some(orders)], Some(4.96), 0),
            "  5.0 events/s │ users: outbox 12, stream 10, lag 2 │ orders: outbox ?, stream ?, lag ? │ cache lag 3 │ dead letters 1"
        );
        assert!(
            line(&[None, None], None, 7).contains("users: no answer")
                && line(&[None, None], None, 7).ends_with("7 requests failed")
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

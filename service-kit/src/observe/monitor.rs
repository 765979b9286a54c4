//! What a service knows about itself, as logs and Prometheus metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, describe_gauge, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use relay::consume::ConsumerStatus;
use relay::log::Log;
use relay::publish::{RelayState, RelayStatus, ReportedReader};
use relay::{Database, Stop};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::observe::sampled::Sampled;
use crate::process::output::dropped_lines;

/// Sees the database, the relay and the consumers of one service. Clones share it.
#[derive(Clone)]
pub struct Monitor {
    db: Database,
    relay: Option<watch::Receiver<RelayStatus>>,
    consumers: Vec<Watched>,
    /// Not the process's global one: two services in one test must not share their counts.
    recorder: Arc<PrometheusRecorder>,
    lines: Arc<Sampled>,
    figures: Arc<Recent<Figures>>,
    readable: Arc<Recent<Result<(), String>>>,
}

/// The last result of a query, good for a second. Anonymous callers can ask, so there is one query at a time.
struct Recent<T>(Mutex<Option<(Instant, T)>>);

/// The figures that only the database has.
#[derive(Clone)]
struct Figures {
    quarantined: Option<u64>,
    readers: Option<Arc<[ReportedReader]>>,
    oldest: Option<Duration>,
}

/// A consumer's name, the stream whose position a read may wait for, and its status.
type Watched = (
    Arc<str>,
    Option<&'static str>,
    watch::Receiver<ConsumerStatus>,
);

/// One request, answered.
pub(crate) struct Seen<'a> {
    pub(crate) method: &'static str,
    /// As declared, `/users/{id}`: there are few, and none identifies a caller.
    pub(crate) route: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) took: Duration,
}

/// Upper bounds of the request durations that are counted, in seconds.
const BUCKETS_S: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];
/// Log lines a minute of answers that are alike, and of those that anonymous callers can cause.
const MAX_LOGGED: u32 = 300;
const MAX_ANONYMOUS_LOGGED: u32 = 20;
/// The age at which a result of the database is replaced.
const MAX_RESULT_AGE: Duration = Duration::from_secs(1);
/// A read that takes longer than this is no sign of health.
const MAX_READ_TIME: Duration = Duration::from_secs(2);
/// How often measured durations are sorted into their buckets; until then each takes memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Each metric and its help text.
const METRICS: &str = "
freehold_outbox_head: Sequence of the last committed event.
freehold_writes_open: 1 while writes are accepted; 0 while they are halted or wait for an import.
freehold_disk_full: 1 while writes fail because the disk is full.
freehold_wal_bytes: Size of the database's write-ahead log; it grows while a long read is open or checkpoints fail.
freehold_stream_head: Sequence of the last published event, as far as known; NaN before the first contact.
freehold_stream_bytes: Bytes that the stream holds; NaN while that is not known.
freehold_stream_max_bytes: Bytes that the stream may hold: when it is full nothing more is published; NaN without a limit.
freehold_relay_lag: Events that are committed and not yet published.
freehold_relay_publishing: 1 while the relay is connected and publishing.
freehold_broker_restart_needed: 1 while the broker cannot write the stream, and stores nothing there until it is restarted.
freehold_outbox_oldest_unpublished_seconds: Age of the oldest unpublished event; 0 when there is none.
freehold_consumer_offset: Sequence of the last applied event.
freehold_consumer_lag: Events in the stream that are not yet applied, as far as known; NaN before the stream was looked at.
freehold_consumer_caught_up_seconds_ago: Time since every event of the stream was last seen to be applied; NaN while that is not known.
freehold_consumer_skipped: Events of unknown types since the start; they are skipped by design.
freehold_consumer_running: 1 while the consumer is connected and applying.
freehold_dead_letters: Dead and parked events that wait for an operator.
freehold_consumer_snapshot_rows: Rows of a snapshot that have arrived so far; 0 when none is being loaded.
freehold_readers: Readers that report their position; NaN when the database cannot say.
freehold_slowest_reader_lag: Committed events that the slowest of them has not applied; 0 when there is none.
freehold_set_aside: Events in quarantine: they were in a log once and are in none now; NaN when the database cannot say.
freehold_http_requests_total: Requests answered.
freehold_checkpoint_failures_total: Checkpoints of the write-ahead log that failed since the start.
freehold_log_lines_dropped_total: Log lines dropped since the start: the reader of stderr stalls or is gone, or its disk is full.
freehold_consumer_rebuilt_total: Snapshots loaded since the start.
freehold_http_request_seconds: Time from a request's last header to its answer.
";

impl Monitor {
    /// Observes this database; relay and consumers are added with the two methods below.
    pub fn new(db: &Database) -> Self {
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS_S);
        let recorder = builder.expect("there are buckets").build_recorder();
        metrics::with_local_recorder(&recorder, describe);
        Self {
            db: db.clone(),
            relay: None,
            consumers: Vec::new(),
            recorder: Arc::new(recorder),
            lines: Arc::default(),
            figures: Arc::new(Recent(Mutex::default())),
            readable: Arc::new(Recent(Mutex::default())),
        }
    }

    /// Adds the relay, whose state readiness and metrics show.
    pub fn watch_relay(&mut self, status: watch::Receiver<RelayStatus>) {
        self.relay = Some(status);
    }

    /// `None` for the stream of a reaction: no read waits for it. This service's own log shows what it did, and it may wait
    /// for an operator where a cache goes on.
    pub fn watch_consumer(
        &mut self,
        name: &str,
        stream: impl Into<Option<&'static str>>,
        status: watch::Receiver<ConsumerStatus>,
    ) {
        self.consumers.push((name.into(), stream.into(), status));
    }

    pub(crate) fn consumers(&self) -> &[Watched] {
        &self.consumers
    }

    /// The state of the relay; `None` in a program without one.
    pub fn relay(&self) -> Option<RelayStatus> {
        self.relay.as_ref().map(|status| status.borrow().clone())
    }

    /// Whether nothing is published until the broker is restarted.
    pub(crate) fn is_stuck(&self) -> bool {
        let relay = self.relay();
        relay.is_some_and(|relay| matches!(relay.state, RelayState::Stuck(_)))
    }

    /// The database that it observes.
    pub fn db(&self) -> &Database {
        &self.db
    }

    /// Counts every request, and logs some of many that are alike. At level debug all are logged.
    pub(crate) fn saw(&self, seen: &Seen<'_>) {
        let (method, route, status) = (seen.method, seen.route, seen.status.as_u16());
        metrics::with_local_recorder(&*self.recorder, || {
            let (route, status) = (route.to_owned(), status.to_string());
            counter!("freehold_http_requests_total", "method" => method, "route" => route.clone(), "status" => status)
                .increment(1);
            histogram!("freehold_http_request_seconds", "method" => method, "route" => route)
                .record(seen.took.as_secs_f64());
        });
        let ms = seen.took.as_secs_f64() * 1000.0;
        match seen.next_line(&self.lines) {
            Some(0) => tracing::info!(method, route, status, ms, "answered"),
            Some(not_logged) => tracing::info!(method, route, status, ms, not_logged, "answered"),
            None => tracing::debug!(method, route, status, ms, "answered"),
        }
    }

    /// Everything as it is now, in Prometheus' text format; what only the database knows may be a second old.
    pub(crate) async fn scrape(&self) -> String {
        let relay = self.relay();
        let published = relay.as_ref().and_then(|relay| relay.stream_head);
        let figures = self.figures.get(self.query(published)).await;
        metrics::with_local_recorder(&*self.recorder, || {
            self.measure_database(&figures);
            if let Some(relay) = &relay {
                self.measure_relay(relay, figures.oldest);
            }
            let now_ms = self.db.environment().now_ms();
            for (name, _, status) in &self.consumers {
                measure_consumer(name, &status.borrow(), now_ms);
            }
        });
        self.recorder.handle().render()
    }

    async fn query(&self, published: Option<u64>) -> Figures {
        let oldest = async { self.db.outbox().oldest_unpublished(published?).await.ok() };
        Figures {
            quarantined: self.db.count_quarantined().await.ok(),
            readers: self.db.readers().await.ok().map(Into::into),
            oldest: oldest.await.map(Option::unwrap_or_default),
        }
    }

    /// Why the database cannot be read, if so.
    pub(crate) async fn readable(&self) -> Result<(), String> {
        let mut outbox = self.db.outbox();
        let read = tokio::time::timeout(MAX_READ_TIME, outbox.head());
        let read = async {
            match read.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(relay::error::chain(&error)),
                Err(_) => Err(format!("the database did not answer in {MAX_READ_TIME:?}")),
            }
        };
        self.readable.get(read).await
    }

    /// Keeps the histograms small, until stopped. Spawn it once.
    pub async fn upkeep(self, stop: Stop) {
        let mut tick = tokio::time::interval(UPKEEP_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.recorder.handle().run_upkeep();
        }
    }

    /// The readers together: a gauge for each would outlive its reader.
    fn measure_database(&self, figures: &Figures) {
        let (disk, head) = (self.db.disk(), self.db.outbox().committed());
        let readers = figures.readers.as_deref();
        let lag = readers.map(|readers| {
            let lags = readers.iter().map(|one| head.saturating_sub(one.seq));
            lags.max().unwrap_or(0)
        });
        gauge!("freehold_disk_full").set(u8::from(disk.full));
        gauge!("freehold_wal_bytes").set(figure(disk.wal_bytes));
        counter!("freehold_checkpoint_failures_total").absolute(disk.checkpoint_failures);
        counter!("freehold_log_lines_dropped_total").absolute(dropped_lines());
        gauge!("freehold_outbox_head").set(figure(head));
        gauge!("freehold_writes_open").set(u8::from(self.db.gate().reason().is_none()));
        gauge!("freehold_readers").set(figure(readers.map(|readers| readers.len() as u64)));
        gauge!("freehold_slowest_reader_lag").set(figure(lag));
        gauge!("freehold_set_aside").set(figure(figures.quarantined));
    }

    fn measure_relay(&self, relay: &RelayStatus, oldest: Option<Duration>) {
        let publishing = relay.state == RelayState::Publishing;
        let (head, (bytes, max_bytes)) = (relay.stream_head, relay.stream_bytes.unzip());
        let lag = head.map(|head| self.db.outbox().committed().saturating_sub(head));
        gauge!("freehold_relay_publishing").set(u8::from(publishing));
        gauge!("freehold_broker_restart_needed").set(u8::from(self.is_stuck()));
        gauge!("freehold_stream_head").set(figure(head));
        gauge!("freehold_relay_lag").set(figure(lag));
        gauge!("freehold_stream_bytes").set(figure(bytes));
        gauge!("freehold_stream_max_bytes").set(figure(max_bytes));
        gauge!("freehold_outbox_oldest_unpublished_seconds").set(seconds(oldest));
    }
}

impl Seen<'_> {
    /// How many lines like it were withheld before this one; `None` if this one is withheld, too. Machines ask for health
    /// every few seconds, which is never logged. Anonymous callers cause refusals, on any route, and read the public pages.
    fn next_line(&self, lines: &Sampled) -> Option<u64> {
        let (status, route) = (self.status.as_u16(), self.route.to_owned());
        let (kind, most) = match self.route {
            "/livez" | "/readyz" | "/metrics" => return None,
            _ if self.status.is_client_error() => ((String::new(), status), MAX_ANONYMOUS_LOGGED),
            "/docs" | "/openapi.json" | "/problems" => ((route, status), MAX_ANONYMOUS_LOGGED),
            _ => ((route, status), MAX_LOGGED),
        };
        lines.next(kind, most, Instant::now().into_std())
    }
}

impl<T: Clone> Recent<T> {
    async fn get(&self, query: impl Future<Output = T>) -> T {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < MAX_RESULT_AGE
        {
            return found.clone();
        }
        let found = query.await;
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

fn measure_consumer(name: &Arc<str>, status: &ConsumerStatus, now_ms: u64) {
    let gauge = |metric: &'static str| gauge!(metric, "consumer" => name.clone());
    let caught_up = status.caught_up_at_ms.map(|at| now_ms.saturating_sub(at));
    let caught_up = caught_up.map(Duration::from_millis);
    gauge("freehold_consumer_offset").set(figure(status.offset));
    gauge("freehold_consumer_lag").set(figure(status.behind()));
    gauge("freehold_consumer_caught_up_seconds_ago").set(seconds(caught_up));
    gauge("freehold_dead_letters").set(figure(status.dead_letters));
    gauge("freehold_consumer_skipped").set(figure(status.skipped));
    gauge("freehold_consumer_snapshot_rows").set(figure(status.rebuilding.unwrap_or(0)));
    gauge("freehold_consumer_running").set(u8::from(status.trouble.is_none()));
    counter!("freehold_consumer_rebuilt_total", "consumer" => name.clone())
        .absolute(status.rebuilt);
}

/// NaN, which is Prometheus' "unknown", for `None`. Floats are exact up to 2^53 events.
#[expect(
    clippy::cast_precision_loss,
    reason = "a service that emits 50,000 events a second gets there in 5,700 years"
)]
fn figure(count: impl Into<Option<u64>>) -> f64 {
    count.into().map_or(f64::NAN, |count| count as f64)
}

fn seconds(time: Option<Duration>) -> f64 {
    time.map_or(f64::NAN, |time| time.as_secs_f64())
}

/// The recorder keeps help texts by name, whatever the kind of the metric.
fn describe() {
    for (name, help) in METRICS.lines().filter_map(|line| line.split_once(": ")) {
        describe_gauge!(name, help);
    }
}

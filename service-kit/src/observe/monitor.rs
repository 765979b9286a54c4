//! What a service knows about itself, as logs and Prometheus metrics.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use relay::{
    ConsumerStatus, Database, DiskHealth, Log, RelayState, RelayStatus, ReportedReader, Stop,
};
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use crate::observe::sampled::Sampled;

use crate::observe::output::dropped_lines;

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

/// What a look at the database has found. The caller may be a stranger, so there is one look at a time, and what it finds
/// is good for a second.
struct Recent<T>(Mutex<Option<(Instant, T)>>);

/// The figures that only the database has.
#[derive(Clone)]
struct Figures {
    set_aside: Option<u64>,
    readers: Option<Arc<[ReportedReader]>>,
    oldest_s: f64,
}

/// A consumer's name, the stream that reads may wait for it to have seen, and how it fares.
type Watched = (
    &'static str,
    Option<&'static str>,
    watch::Receiver<ConsumerStatus>,
);

/// One request, answered.
pub(crate) struct Seen<'a> {
    pub(crate) method: &'static str,
    /// As declared, `/users/{id}`: it is few, and names nobody.
    pub(crate) route: &'a str,
    pub(crate) status: StatusCode,
    pub(crate) took: Duration,
}

/// Upper bounds of the request durations that are counted, in seconds.
const BUCKETS_S: [f64; 12] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0,
];
/// Log lines a minute of answers that are alike, and of those that strangers can cause.
const MAX_LOGGED: u32 = 300;
const MAX_OF_STRANGERS_LOGGED: u32 = 20;
/// How old what the database said may be before it is asked again.
const MAX_LOOK_AGE: Duration = Duration::from_secs(1);
/// A read that takes longer than this is no sign of health.
const MAX_READ_TIME: Duration = Duration::from_secs(2);
/// How often measured durations are sorted into their buckets; until then each takes memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// What is measured when somebody looks, and what each figure says.
const GAUGES: [(&str, &str); 21] = [
    ("freehold_outbox_head", "Place of the last committed event."),
    (
        "freehold_writes_open",
        "1 while writes are taken; 0 while they are halted or wait for an import.",
    ),
    (
        "freehold_disk_full",
        "1 while writes fail because the disk is full.",
    ),
    (
        "freehold_wal_bytes",
        "Size of the database's write-ahead log; it grows while a long read is open or checkpoints fail.",
    ),
    (
        "freehold_stream_head",
        "Place of the last published event, as far as known; NaN before the first contact.",
    ),
    (
        "freehold_stream_bytes",
        "Bytes that the stream holds; NaN while that is not known.",
    ),
    (
        "freehold_stream_max_bytes",
        "Bytes that the stream may hold: when it is full nothing more is published; NaN without a limit.",
    ),
    (
        "freehold_relay_lag",
        "Events that are committed and not yet published.",
    ),
    (
        "freehold_relay_publishing",
        "1 while the relay is connected and publishing.",
    ),
    (
        "freehold_broker_restart_needed",
        "1 while the broker cannot write the stream, and stores nothing there until it is restarted.",
    ),
    (
        "freehold_outbox_oldest_unpublished_seconds",
        "Age of the oldest unpublished event; 0 when there is none.",
    ),
    (
        "freehold_consumer_offset",
        "Place of the last applied event.",
    ),
    (
        "freehold_consumer_lag",
        "Events in the stream that are not yet applied, as far as known; NaN before the stream was looked at.",
    ),
    (
        "freehold_consumer_caught_up_seconds_ago",
        "Time since the stream was last seen to hold nothing but what is applied; NaN while that is not known.",
    ),
    (
        "freehold_consumer_skipped",
        "Events of unknown types since the start; skipping them is by design.",
    ),
    (
        "freehold_consumer_running",
        "1 while the consumer is connected and applying.",
    ),
    (
        "freehold_dead_letters",
        "Dead and parked events that wait for a person.",
    ),
    (
        "freehold_consumer_snapshot_rows",
        "Rows of a snapshot that have come so far; 0 when none is under way.",
    ),
    (
        "freehold_readers",
        "Readers that report how far they have come; NaN when the database cannot say.",
    ),
    (
        "freehold_slowest_reader_lag",
        "Committed events that the slowest of them has not applied; 0 when there is none.",
    ),
    (
        "freehold_set_aside",
        "Events that were in a log once and are in none any more; NaN when the database cannot say.",
    ),
];

impl Monitor {
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

    pub fn watch_relay(&mut self, status: watch::Receiver<RelayStatus>) {
        self.relay = Some(status);
    }

    pub fn watch_consumer(
        &mut self,
        name: &'static str,
        stream: &'static str,
        status: watch::Receiver<ConsumerStatus>,
    ) {
        self.consumers.push((name, Some(stream), status));
    }

    /// A consumer that emits. No read waits for it: what it does is told by this service's own log, and it may have to
    /// wait for a person where a cache goes on.
    pub fn watch_reaction(&mut self, name: &'static str, status: watch::Receiver<ConsumerStatus>) {
        self.consumers.push((name, None, status));
    }

    pub(crate) fn consumers(&self) -> &[Watched] {
        &self.consumers
    }

    pub(crate) fn relay(&self) -> Option<RelayStatus> {
        self.relay.as_ref().map(|status| status.borrow().clone())
    }

    /// Whether nothing is published until the broker is restarted.
    pub(crate) fn is_stuck(&self) -> bool {
        let relay = self.relay();
        relay.is_some_and(|relay| matches!(relay.state, RelayState::Stuck(_)))
    }

    pub(crate) fn db(&self) -> &Database {
        &self.db
    }

    /// Every request is counted; of many that are alike, some are logged, and the others for an operator who asks for all.
    pub(crate) fn saw(&self, seen: &Seen<'_>) {
        self.count(seen);
        let (kind, most) = seen.kind();
        let now = Instant::now().into_std();
        let not_logged = match seen.is_health() {
            true => None,
            false => self.lines.next(kind, most, now),
        };
        seen.log(not_logged);
    }

    fn count(&self, seen: &Seen<'_>) {
        let route = seen.route.to_owned();
        let status = seen.status.as_u16().to_string();
        metrics::with_local_recorder(&*self.recorder, || {
            counter!("freehold_http_requests_total", "method" => seen.method, "route" => route.clone(), "status" => status)
                .increment(1);
            histogram!("freehold_http_request_seconds", "method" => seen.method, "route" => route)
                .record(seen.took.as_secs_f64());
        });
    }

    /// Everything as it is now, in Prometheus' text format; what only the database knows may be a second old.
    pub(crate) async fn scrape(&self) -> String {
        let relay = self.relay();
        let published = relay.as_ref().and_then(|relay| relay.stream_head);
        let figures = self.figures.get(self.look(published)).await;
        metrics::with_local_recorder(&*self.recorder, || {
            measure_disk(&self.db.disk());
            self.measure_log(relay.as_ref(), figures.oldest_s);
            self.measure_readers(figures.readers.as_deref());
            gauge!("freehold_set_aside").set(figures.set_aside.map_or(f64::NAN, figure));
            let now_ms = self.db.environment().now_ms();
            for (name, _, status) in &self.consumers {
                measure_consumer(name, &status.borrow(), now_ms);
            }
        });
        self.recorder.handle().render()
    }

    async fn look(&self, published: Option<u64>) -> Figures {
        Figures {
            set_aside: self.db.count_set_aside().await.ok(),
            readers: self.db.readers().await.ok().map(Into::into),
            oldest_s: match published {
                Some(place) => self.oldest_unpublished_s(place).await,
                None => f64::NAN,
            },
        }
    }

    /// Why the database cannot be read, if so.
    pub(crate) async fn readable(&self) -> Result<(), String> {
        let mut outbox = self.db.outbox();
        let look = tokio::time::timeout(MAX_READ_TIME, outbox.head());
        let look = async {
            match look.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(relay::chain(&error)),
                Err(_) => Err(format!("the database did not answer in {MAX_READ_TIME:?}")),
            }
        };
        self.readable.get(look).await
    }

    pub(crate) async fn upkeep(self, stop: Stop) {
        let mut tick = tokio::time::interval(UPKEEP_EVERY);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.recorder.handle().run_upkeep();
        }
    }

    /// NaN, Prometheus' "unknown", when the database cannot say.
    async fn oldest_unpublished_s(&self, stream_head: u64) -> f64 {
        match self.db.outbox().oldest_unpublished(stream_head).await {
            Ok(age) => age.unwrap_or_default().as_secs_f64(),
            Err(_) => f64::NAN,
        }
    }

    /// Together: a gauge for each would outlive its reader.
    fn measure_readers(&self, readers: Option<&[ReportedReader]>) {
        let head = self.db.outbox().committed();
        let lag = |readers: &[ReportedReader]| {
            let lags = readers.iter().map(|one| head.saturating_sub(one.seq));
            lags.max().unwrap_or(0)
        };
        let count = readers.map_or(f64::NAN, |readers| figure(readers.len() as u64));
        gauge!("freehold_readers").set(count);
        gauge!("freehold_slowest_reader_lag").set(readers.map(lag).map_or(f64::NAN, figure));
    }

    fn measure_log(&self, relay: Option<&RelayStatus>, oldest_s: f64) {
        let outbox_head = self.db.outbox().committed();
        let writes_open = self.db.gate().reason().is_none();
        gauge!("freehold_outbox_head").set(figure(outbox_head));
        gauge!("freehold_writes_open").set(u8::from(writes_open));
        let Some(relay) = relay else { return };
        let publishing = relay.state == RelayState::Publishing;
        gauge!("freehold_relay_publishing").set(u8::from(publishing));
        gauge!("freehold_broker_restart_needed").set(u8::from(self.is_stuck()));
        let known = |value: Option<u64>| value.map_or(f64::NAN, figure);
        let lag = relay
            .stream_head
            .map(|head| outbox_head.saturating_sub(head));
        gauge!("freehold_stream_head").set(known(relay.stream_head));
        gauge!("freehold_relay_lag").set(known(lag));
        let (bytes, max_bytes) = relay.stream_bytes.unzip();
        gauge!("freehold_stream_bytes").set(known(bytes));
        gauge!("freehold_stream_max_bytes").set(known(max_bytes));
        gauge!("freehold_outbox_oldest_unpublished_seconds").set(oldest_s);
    }
}

impl Seen<'_> {
    /// With how many lines like it are missing before it. `None`: it is to be missing itself.
    fn log(&self, not_logged: Option<u64>) {
        let (method, route, status) = (self.method, self.route, self.status.as_u16());
        let ms = self.took.as_secs_f64() * 1000.0;
        match not_logged {
            Some(0) => tracing::info!(method, route, status, ms, "answered"),
            Some(not_logged) => tracing::info!(method, route, status, ms, not_logged, "answered"),
            None => tracing::debug!(method, route, status, ms, "answered"),
        }
    }

    /// What machines ask every few seconds: silence is the better log.
    fn is_health(&self) -> bool {
        ["/livez", "/readyz", "/metrics"].contains(&self.route)
    }

    /// Which lines it counts among, and how many of them a minute has. Strangers cause refusals, on any route, and read the
    /// public pages.
    fn kind(&self) -> ((String, u16), u32) {
        let status = self.status.as_u16();
        let public = ["/docs", "/openapi.json", "/problems"].contains(&self.route);
        match (self.status.is_client_error(), public) {
            (true, _) => ((String::new(), status), MAX_OF_STRANGERS_LOGGED),
            (false, true) => ((self.route.to_owned(), status), MAX_OF_STRANGERS_LOGGED),
            (false, false) => ((self.route.to_owned(), status), MAX_LOGGED),
        }
    }
}

impl<T: Clone> Recent<T> {
    async fn get(&self, look: impl Future<Output = T>) -> T {
        let mut last = self.0.lock().await;
        if let Some((at, found)) = &*last
            && at.elapsed() < MAX_LOOK_AGE
        {
            return found.clone();
        }
        let found = look.await;
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

fn measure_disk(disk: &DiskHealth) {
    gauge!("freehold_disk_full").set(u8::from(disk.full));
    gauge!("freehold_wal_bytes").set(figure(disk.wal_bytes));
    counter!("freehold_checkpoint_failures_total").absolute(disk.checkpoint_failures);
    counter!("freehold_log_lines_dropped_total").absolute(dropped_lines());
}

fn measure_consumer(name: &'static str, status: &ConsumerStatus, now_ms: u64) {
    let lag = status.behind().map_or(f64::NAN, figure);
    gauge!("freehold_consumer_offset", "consumer" => name).set(figure(status.offset));
    gauge!("freehold_consumer_lag", "consumer" => name).set(lag);
    let ago = status.caught_up_at_ms.map(|at| now_ms.saturating_sub(at));
    let ago_s = ago.map_or(f64::NAN, |ms| Duration::from_millis(ms).as_secs_f64());
    gauge!("freehold_consumer_caught_up_seconds_ago", "consumer" => name).set(ago_s);
    gauge!("freehold_dead_letters", "consumer" => name).set(figure(status.dead_letters));
    gauge!("freehold_consumer_skipped", "consumer" => name).set(figure(status.skipped));
    let rows = status.rebuilding.unwrap_or(0);
    gauge!("freehold_consumer_snapshot_rows", "consumer" => name).set(figure(rows));
    counter!("freehold_consumer_rebuilt_total", "consumer" => name).absolute(status.rebuilt);
    gauge!("freehold_consumer_running", "consumer" => name).set(u8::from(status.trouble.is_none()));
}

/// Prometheus has floats only; they are exact up to 2^53 events.
#[expect(
    clippy::cast_precision_loss,
    reason = "a service that emits 50,000 events a second gets there in 5,700 years"
)]
fn figure(count: u64) -> f64 {
    count as f64
}

/// The help texts, once.
fn describe() {
    for (name, help) in GAUGES {
        describe_gauge!(name, help);
    }
    describe_counter!("freehold_http_requests_total", "Requests answered.");
    describe_counter!(
        "freehold_checkpoint_failures_total",
        "Checkpoints of the write-ahead log that failed since the start."
    );
    describe_counter!(
        "freehold_log_lines_dropped_total",
        "Log lines since the start that stderr did not take: its reader stalls or is gone, or its disk is full."
    );
    describe_counter!(
        "freehold_consumer_rebuilt_total",
        "Snapshots loaded since the start."
    );
    describe_histogram!(
        "freehold_http_request_seconds",
        "Time from a request's last header to its answer."
    );
}

//! Several services in one process, over brokers in memory: for tests that take milliseconds.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use relay::consume::Follower;
use relay::environment::{Environment, System};
use relay::log::Share;
use relay::publish::Answers;
use relay::testing::memory::{MemoryBroker, MemoryReader};
use relay::{Consumer, Database, Event, Fold, Keys, Options, Relay};
use service_kit::Monitor;
use service_kit::testing::{TestApi, access_with};
use tempfile::TempDir;

use super::{App, Service};

/// Services that have real files, and a broker in memory for each stream. Nothing happens by itself: [`settle`](Self::settle)
/// publishes and applies until nothing is left to do, and the clock stands still until the test moves it.
pub struct InProcess {
    members: Vec<Member>,
    clock: Arc<Clock>,
    // Dropped last: the files of all the above.
    folder: TempDir,
}

/// A service of this process, as a test reaches it.
#[derive(Clone)]
pub struct Started {
    /// Its whole API, called by an operator unless a test sends another token.
    pub api: TestApi,
    /// Its database, to look into.
    pub db: Database,
}

/// The time, as the test sets it.
#[derive(Debug)]
pub struct Clock(AtomicU64);

struct Member {
    name: String,
    stream: String,
    db: Database,
    broker: MemoryBroker,
    relay: Relay<MemoryBroker>,
    /// Answers those who follow it.
    answers: Arc<Answers>,
    readers: Vec<Reader>,
}

/// A consumer of another member's stream.
struct Reader {
    consumer: Consumer,
    broker: MemoryBroker,
    follower: Follower<MemoryReader>,
}

/// When every world begins: 2026-01-01.
const BEGINNING_MS: u64 = 1_767_225_600_000;
/// Services that still have something to do after so many rounds never settle.
const MAX_ROUNDS: usize = 1_000;

impl InProcess {
    /// A world without a service. Its files are in memory, where the system has a folder for that, and go with it.
    #[expect(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => TempDir::with_prefix_in("freehold-", memory),
            false => TempDir::with_prefix("freehold-"),
        };
        Self {
            members: Vec::new(),
            clock: Arc::new(Clock(AtomicU64::new(BEGINNING_MS))),
            folder: folder.expect("a temporary folder"),
        }
    }

    /// Starts a service with the defaults of its own settings. A stream that no service here owns yet is the test's, to
    /// [`emit`](Self::emit) to, so start owners before those who follow them.
    ///
    /// Panics with the reason if it does not start.
    pub async fn start<S: Args + 'static>(&mut self, service: Service<S>) -> Started {
        let name = service.about.name;
        let mut options = service.options();
        if service.sealed {
            let keys = self.folder.path().join(name).with_extension("keys");
            options = options.keys(Keys::open_or_create(&keys).expect("a key file"));
        }
        let db = self.open(name, options, service.share).await;
        let mut consumers = Vec::new();
        for consumer in &service.consumers {
            consumers.push(self.follow(&db, consumer).await);
        }
        let app = App {
            db: db.clone(),
            settings: defaults(),
            consumers,
            owners: service.followed.out_of_reach(),
        };
        let routes = service.checked_routes(&app).await;
        let routes = routes.unwrap_or_else(|error| panic!("{name} does not start: {error:#}"));
        let tokens = service.tokens.map(|tokens| tokens(&db));
        let api = service_kit::api(routes, Monitor::new(&db), access_with([], tokens));
        Started {
            api: TestApi::new(api),
            db,
        }
    }

    /// Emits an event of a stream that no service of this world owns.
    pub async fn emit<E: Event + Send>(&mut self, event: E) {
        let owner = self.owned(E::STREAM).await;
        let emitted = self.members[owner].db.write(move |tx| tx.emit(&event));
        let emitted = emitted.await;
        emitted.unwrap_or_else(|error| panic!("it is not emitted: {error}"));
    }

    /// Publishes and applies until nothing is left to do. It waits for nothing.
    ///
    /// Panics when the services do not settle, with the reason: an event that cannot be applied, two reactions that answer each
    /// other for ever.
    pub async fn settle(&mut self) {
        let mut left = Vec::new();
        for _ in 0..MAX_ROUNDS {
            left.clear();
            for member in &mut self.members {
                Box::pin(member.step(&mut left)).await;
            }
            if left.is_empty() {
                return;
            }
        }
        panic!("the services do not settle: {}", left.join("; "));
    }

    /// The clock of all services of this world.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The broker of a stream, for faults: it can fail, lose events and be replaced by an older copy. A reader that such a broker
    /// misleads waits up to 2 s, by the real clock, for the event at its offset.
    pub fn broker(&self, stream: &str) -> &MemoryBroker {
        let owner = self.members.iter().find(|member| member.stream == stream);
        &owner
            .unwrap_or_else(|| panic!("{stream} is no stream of this world"))
            .broker
    }

    /// The member that owns the stream, made if no service does.
    async fn owned(&mut self, stream: &str) -> usize {
        let owns = |member: &Member| member.stream == stream;
        if let Some(at) = self.members.iter().position(owns) {
            return at;
        }
        let name = format!("owner-of-{stream}");
        let options = Options::new(&name, stream, &[]).fold(Fold::nothing());
        self.open(&name, options, |_, _| Ok(())).await;
        self.members.len() - 1
    }

    async fn open(&mut self, name: &str, options: Options, share: Share) -> Database {
        let stream = options.stream.clone();
        let options = Options {
            environment: self.clock.clone(),
            ..options
        };
        let path = self.folder.path().join(name).with_extension("db");
        let db = Database::open(path, options).await;
        let db = db.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let broker = MemoryBroker::new(0);
        let mut relay = Relay::new(&db, broker.clone());
        let met = relay.step().await; // writes wait for it
        met.expect("a broker in memory can be reached");
        self.members.push(Member {
            name: name.to_owned(),
            stream,
            answers: Arc::new(Answers::new(&db, share)),
            db: db.clone(),
            broker,
            relay,
            readers: Vec::new(),
        });
        db
    }

    /// Lets the member with this database follow the consumer's stream.
    async fn follow(&mut self, db: &Database, consumer: &Consumer) -> Consumer {
        let owner = self.owned(consumer.stream()).await;
        let owner = &self.members[owner];
        let (consumer, broker) = (
            consumer.clone().asks(owner.answers.clone()),
            owner.broker.clone(),
        );
        let reader = Reader {
            follower: consumer.follow(db, broker.reader()),
            consumer: consumer.clone(),
            broker,
        };
        let reads = |member: &&mut Member| member.db.path() == db.path();
        let member = self.members.iter_mut().find(reads);
        member.expect("it was opened").readers.push(reader);
        consumer
    }
}

impl Member {
    /// Publishes and applies once, and adds what there was to do.
    async fn step(&mut self, left: &mut Vec<String>) {
        if self.db.outbox().committed() > self.broker.last() {
            let done = self.relay.step().await;
            left.push(format!("{} publishes: {done:?}", self.name));
        }
        for Reader {
            consumer,
            broker,
            follower,
        } in &mut self.readers
        {
            if consumer.status().borrow().offset < broker.last() {
                let done = follower.step().await;
                left.push(format!("{} applies: {done:?}", consumer.name()));
            }
        }
    }
}

impl Clock {
    /// Moves it on.
    pub fn forward(&self, by: Duration) {
        let by_ms = u64::try_from(by.as_millis()).expect("less than the age of the world");
        self.0.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        let ms = i64::try_from(self.0.load(Ordering::Relaxed)).expect("not so far ahead");
        Timestamp::from_millisecond(ms).expect("a time that calendars know")
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        System.fill_random(bytes);
    }
}

/// The service's own settings, as without any flag.
fn defaults<S: Args>() -> S {
    let program = S::augment_args(clap::Command::new("defaults"));
    let given = program.try_get_matches_from(["defaults"]);
    let read = given.and_then(|given| S::from_arg_matches(&given));
    read.unwrap_or_else(|error| panic!("its settings have no defaults: {error}"))
}

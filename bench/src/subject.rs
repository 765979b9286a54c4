//! The system under measurement: a producer, a reader, and a real broker between them that runs with the project's nats.conf.

use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use freehold_tests::{Broker, Credentials, Part, Port, broker, services};
use relay::nats::NatsReader;
use relay::{
    ApplyError, Consumer, Database, EmitError, Nats, Options, Received, Relay, Rows, Stop, Tx,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

/// The aggregates of the events; their updates spread over the tables.
const KEYS: u64 = 1000;
const TABLES: &[&str] = &[
    "create table users (id text primary key, name text not null, version integer not null) strict",
];

pub(crate) struct Bench {
    folder: TempDir,
    broker: Broker,
    files: AtomicU32,
}

/// About 300 bytes of JSON in all.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Renamed {
    user_id: String,
    name: String,
    version: u64,
}

relay::events! {
    enum UserEvent on "USERS" { "users.renamed.v1" => Renamed(Renamed) about user_id }
}

/// A producer and a reader at work on one stream.
pub(crate) struct Running {
    pub(crate) producer: Database,
    pub(crate) reader: Database,
    pub(crate) consumer: Consumer,
    stop: Stop,
    tasks: Vec<tokio::task::JoinHandle<Result<(), relay::error::Fatal>>>,
}

impl Bench {
    pub(crate) async fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("freehold-bench-")?;
        let server =
            tokio::task::spawn_blocking(|| broker::nats_server(&|line| eprintln!("{line}")))
                .await??;
        let broker = Broker::new(
            server,
            Port::any()?,
            folder.path().join("broker"),
            folder.path().join("logs"),
            Credentials::generate(&["USERS", "ORDERS"]),
            &services::accounts(),
        )?;
        Ok(Self {
            folder,
            broker,
            files: AtomicU32::new(0),
        })
    }

    /// A new file. With `max_group` 1 each write has its own commit.
    pub(crate) async fn database(
        &self,
        service: &'static str,
        stream: &'static str,
        max_group: usize,
    ) -> Result<Database> {
        let options = Options {
            max_group,
            ..Options::new(service, stream, TABLES)
        };
        Ok(Database::open(self.new_file(), options).await?)
    }

    pub(crate) fn new_file(&self) -> std::path::PathBuf {
        let count = self.files.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(format!("{count}.db"))
    }

    /// An empty broker, a producer and a reader on new files, relay and consumer running.
    pub(crate) async fn running(&mut self) -> Result<Running> {
        if self.broker.is_running() {
            self.broker.stop().await?;
        }
        self.broker.wipe_store()?;
        self.broker.start().await.context("the broker")?;
        let producer = self.database("user-service", "USERS", 256).await?;
        let relay = Relay::new(&producer, self.owner().stream("USERS"));
        let mut running = self.follower().await?;
        let publishing = tokio::spawn(relay.run(running.stop.clone()));
        running.tasks.push(publishing);
        running.producer = producer;
        Ok(running)
    }

    /// A reader on a new file, its consumer running, and a producer that does not publish.
    pub(crate) async fn follower(&self) -> Result<Running> {
        let reader = self.database("orders-service", "ORDERS", 256).await?;
        let consumer = Consumer::projection("orders-user-cache", apply);
        let stop = Stop::new();
        let following = {
            let (consumer, reader, stop) = (consumer.clone(), reader.clone(), stop.clone());
            let from = self.way_of_reader();
            async move { consumer.run(&reader, from, stop).await }
        };
        Ok(Running {
            producer: self.database("user-service", "USERS", 256).await?,
            reader,
            consumer,
            stop,
            tasks: vec![tokio::spawn(following)],
        })
    }

    pub(crate) fn way_of_reader(&self) -> NatsReader {
        self.reader().reader("USERS")
    }

    pub(crate) async fn stop(mut self) -> Result<()> {
        if self.broker.is_running() {
            self.broker.stop().await?;
        }
        Ok(())
    }

    fn owner(&self) -> Nats {
        self.broker.nats("USERS").expect("it has an owner")
    }

    fn reader(&self) -> Nats {
        self.broker.nats("ORDERS").expect("it has an owner")
    }
}

impl Running {
    pub(crate) async fn stop(self) -> Result<()> {
        self.stop.cancel();
        for task in self.tasks {
            task.await??;
        }
        self.producer.close().await;
        self.reader.close().await;
        Ok(())
    }
}

/// One write of a service: a state row and an event. Returns the event's sequence.
pub(crate) async fn write(db: &Database, number: u64) -> Result<u64> {
    let event = Renamed {
        user_id: format!("0191d1a0-0000-7000-8000-{:012}", number % KEYS),
        name: format!("Ada the {number}th of her name"),
        version: number / KEYS + 1,
    };
    Ok(db.write(move |tx| store_and_emit(tx, event)).await?)
}

fn store_and_emit(tx: &Tx<'_>, event: Renamed) -> Result<u64, EmitError> {
    upsert(tx, &event)?;
    tx.emit(&UserEvent::Renamed(event))
}

fn apply(rows: &Rows<'_>, received: &Received<UserEvent>) -> Result<(), ApplyError> {
    let UserEvent::Renamed(event) = &received.event;
    Ok(upsert(rows, event)?)
}

pub(crate) fn upsert(rows: &rusqlite::Connection, event: &Renamed) -> rusqlite::Result<()> {
    let sql =
        "insert into users values (?1, ?2, ?3) on conflict do update set name = ?2, version = ?3";
    rows.prepare_cached(sql)?
        .execute((&event.user_id, &event.name, event.version))?;
    Ok(())
}

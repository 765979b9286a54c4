//! A service that the test itself plays: the owner of a stream, with an outbox and a relay, and without a program.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use relay::error::Fatal;
use relay::testing::AnyEvent;
use relay::{Database, Event, Nats, Options, Relay, Stop};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use crate::declared::Declared;
use crate::ports::Port;

/// It publishes on a thread of its own: while a test waits in a destructor for the final check, its own runtime may stand still.
pub struct Played {
    stream: String,
    file: PathBuf,
    db: Database,
    relay: JoinHandle<Result<(), Fatal>>,
    runtime: Option<Runtime>,
    stop: Stop,
    nowhere: Port,
}

impl Played {
    /// What the harness declares for it; its port is any.
    pub fn declared(stream: &str) -> Declared {
        Declared {
            name: format!("{}-played", stream.to_lowercase().replace('_', "-")),
            port: 0,
            stream: stream.to_owned(),
            follows: vec![],
        }
    }

    /// Opens its database in this folder and begins to publish.
    pub async fn start(declared: &Declared, folder: &Path, nats: Nats) -> Result<Played> {
        let runtime = Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build()?;
        let stream = declared.stream.clone();
        let file = folder.join(format!("{}.db", declared.name));
        let (options, stop) = (Options::new(&declared.name, &stream, &[]), Stop::new());
        let opened = runtime.spawn(Database::open(file.clone(), options));
        let db = opened.await?.context("a database for a played service")?;
        let relay = Relay::new(&db, nats.stream(&stream)).run(stop.clone());
        Ok(Played {
            relay: runtime.spawn(relay),
            runtime: Some(runtime),
            nowhere: Port::any()?,
            stream,
            file,
            db,
            stop,
        })
    }

    /// The stream that the test owns.
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The file with its outbox.
    pub fn database(&self) -> &Path {
        &self.file
    }

    /// Where its followers ask for snapshots: a port that is kept free, so that no other program answers them.
    pub fn url(&self) -> String {
        format!("http://{}", self.nowhere.address())
    }

    /// Stores the event in the outbox; the relay publishes it. Returns its sequence.
    pub async fn emit<E: Event>(&self, event: &E) -> Result<u64> {
        if self.relay.is_finished() {
            let reason = io::Error::other("its relay has ended: the log says why");
            return Err(reason).context(format!("{} is not published any more", self.stream));
        }
        let event = AnyEvent::new(event.event_type(), &event.aggregate(), event);
        let written = self.db.write(move |tx| tx.emit(&event)).await;
        Ok(written?)
    }
}

impl fmt::Debug for Played {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut played = f.debug_struct("Played");
        played.field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Drop for Played {
    fn drop(&mut self) {
        self.stop.cancel();
        // Waiting for it is not allowed here, and nothing depends on its end.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

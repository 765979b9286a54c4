//! A running service: its relay, its consumers and its HTTP, and the order in which they stop.

use std::sync::Arc;

use relay::error::Fatal;
use relay::log::{Connect, Share, Stream};
use relay::publish::{Answers, Retention};
use relay::{Consumer, Database, Relay, Stop};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};

use crate::admin::{self, socket::Socket};
use service_kit::Access;
use service_kit::Monitor;
use service_kit::api;
use service_kit::process::output::print;
use service_kit::snapshot_routes;
use service_kit::{Routes, server};

/// The parts of a running service. [`Service`](crate::Service) assembles them; a program without a stream does it itself.
pub struct Parts {
    db: Database,
    monitor: Monitor,
    /// Stops the tasks, after HTTP.
    background: Stop,
    tasks: JoinSet<Result<(), Fatal>>,
    consumers: Vec<Consumer>,
    /// Its snapshots, for other services.
    answers: Option<Routes>,
    access: Access,
}

impl Parts {
    /// The parts around this database, and nothing that runs yet.
    pub fn new(db: &Database) -> Self {
        Self {
            db: db.clone(),
            monitor: Monitor::new(db),
            background: Stop::new(),
            tasks: JoinSet::new(),
            consumers: Vec::new(),
            answers: None,
            access: Access::closed(),
        }
    }

    /// Lets services that keep a cache of its state load snapshots.
    #[must_use]
    pub fn share(mut self, share: Share) -> Self {
        let answers = Arc::new(Answers::new(&self.db, share));
        self.answers = Some(snapshot_routes(answers));
        self
    }

    /// Who may call. Without this, no caller is admitted.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Publishes the outbox to the service's stream, and applies the retention to both.
    #[must_use]
    pub fn publish<C>(mut self, to: C, retention: Retention) -> Self
    where
        C: Connect,
        C::Session: Stream,
    {
        let relay = Relay::new(&self.db, to).keep(retention);
        self.monitor.watch_relay(relay.status());
        self.spawn(|stop| relay.run(stop))
    }

    /// Applies another service's stream.
    #[must_use]
    pub fn apply<C>(mut self, consumer: Consumer, from: C) -> Self
    where
        C: Connect,
    {
        let stream = (!consumer.is_reaction()).then(|| consumer.stream());
        let status = consumer.status();
        self.monitor.watch_consumer(consumer.name(), stream, status);
        self.consumers.push(consumer.clone());
        let db = self.db.clone();
        self.spawn(|stop| async move { consumer.run(&db, from, stop).await })
    }

    /// Runs a task while the service serves. It is stopped after the last request and before the file is closed, and must
    /// not end earlier.
    #[must_use]
    pub fn spawn<F>(mut self, run: impl FnOnce(Stop) -> F) -> Self
    where
        F: Future<Output = Result<(), Fatal>> + Send + 'static,
    {
        self.tasks.spawn(run(self.background.clone()));
        self
    }

    /// Serves requests until `stop`, or until a task ends, which is an error. Then it stops in order: HTTP finishes the
    /// requests under way, the relay and the consumers stop, the file is closed.
    ///
    /// # Errors
    ///
    /// A task ended with an error or panicked; everything has stopped in
    /// order before.
    pub async fn serve(
        mut self,
        routes: Routes,
        listener: TcpListener,
        stop: Stop,
    ) -> anyhow::Result<()> {
        tokio::spawn(self.monitor.clone().upkeep(stop.clone()));
        let socket = Socket::bind(self.db.path());
        let operator = admin::api::routes(self.monitor.clone(), self.consumers.clone());
        let routes = match self.answers.take() {
            Some(answers) => routes.merge(answers),
            None => routes,
        };
        let api = api(routes, self.monitor.clone(), self.access.clone());
        announce(&listener)?;
        let admin = tokio::spawn(socket.serve(operator, stop.clone()));
        let http = tokio::spawn({
            let stops_all = stop.clone().drop_guard(); // also after a panic: without HTTP the rest must not go on
            let http = server::serve(listener, api, stop.clone());
            async move {
                http.await;
                drop(stops_all);
            }
        });
        let first = self.until(&stop).await;
        stop.cancel();
        let (http, admin) = tokio::join!(http, admin);
        let rest = self.finish().await;
        self.db.close().await;
        tracing::info!("stopped");
        http.and(admin)?;
        Ok(first.and(rest)?)
    }

    /// Waits for the stop. A task that ends earlier has failed, even if it returns no error.
    async fn until(&mut self, stop: &Stop) -> Result<(), Fatal> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            Some(ended) = self.tasks.join_next() => {
                outcome(ended)?;
                Err(Fatal("a background task ended before it was stopped".to_owned()))
            }
        }
    }

    /// Stops the tasks, waits for all of them and returns the first failure.
    async fn finish(&mut self) -> Result<(), Fatal> {
        self.background.cancel();
        let mut result = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            result = result.and(outcome(ended));
        }
        result
    }
}

fn outcome(ended: Result<Result<(), Fatal>, JoinError>) -> Result<(), Fatal> {
    ended.unwrap_or_else(|panic| Err(Fatal(format!("a background task panicked: {panic}"))))
}

/// The only line on stdout: the service accepts requests, at this address. With `--listen …:0` it shows the port.
fn announce(listener: &TcpListener) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "started");
    // A stdout that is gone, full or stalled is no reason not to serve, so nothing waits for it.
    let say = move || print(&format!("listening on http://{address}\n"));
    let _no_thread = std::thread::Builder::new().spawn(say);
    Ok(())
}

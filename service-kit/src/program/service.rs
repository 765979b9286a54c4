//! A running service: its relay, its consumers and its HTTP, and the order in which they stop.

use std::sync::Arc;

use relay::{Answers, Connect, Consumer, Database, Fatal, Relay, Retention, Share, Stop, Stream};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};

use crate::admin::{door, operator_api};
use crate::api::around;
use crate::auth::{Access, Token};
use crate::http::{Routes, server};
use crate::observe::Monitor;
use crate::observe::output::print;
use crate::snapshot::answers;

/// What a service's `main` puts together.
pub struct Service {
    db: Database,
    monitor: Monitor,
    /// Stops what runs beside HTTP, which is later than the service is asked to stop.
    background: Stop,
    tasks: JoinSet<Result<(), Fatal>>,
    consumers: Vec<Consumer>,
    retention: Retention,
    /// Its answers to other services.
    answers: Option<Routes>,
    access: Access,
    /// What other services send; without one, what to set.
    reader: Result<Token, String>,
}

impl Service {
    pub fn new(db: &Database) -> Self {
        Self {
            db: db.clone(),
            monitor: Monitor::new(db),
            background: Stop::new(),
            tasks: JoinSet::new(),
            consumers: Vec::new(),
            retention: Retention::default(),
            answers: None,
            access: Access::closed(),
            reader: Err("this service shares nothing".to_owned()),
        }
    }

    /// How much of the log is kept, once it is published. To be said before `publish`.
    #[must_use]
    pub fn keep(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Answers the services that keep a cache of its state, when they send the token, or one of the access file. Without
    /// any, and with the reason why there is none, it answers nobody.
    #[must_use]
    pub fn share(mut self, share: Share, token: Result<Token, String>) -> Self {
        if let Err(cure) = &token {
            tracing::warn!(%cure, "services without a token in the access file can load no snapshot from this one");
        }
        let answers = Arc::new(Answers::new(&self.db, share));
        self.answers = Some(answers::routes(answers));
        self.reader = token;
        self
    }

    /// Who may come in. When nothing is said, nobody may.
    #[must_use]
    pub fn access(mut self, access: Access) -> Self {
        self.access = access;
        self
    }

    /// Publishes the outbox to the service's stream.
    #[must_use]
    pub fn publish<C>(mut self, to: C) -> Self
    where
        C: Connect,
        C::Session: Stream,
    {
        let relay = Relay::new(&self.db, to).keep(self.retention);
        self.monitor.watch_relay(relay.status());
        self.tasks.spawn(relay.run(self.background.clone()));
        self
    }

    /// Applies another service's stream.
    #[must_use]
    pub fn apply<C>(mut self, consumer: Consumer, from: C) -> Self
    where
        C: Connect,
    {
        let (name, status) = (consumer.name(), consumer.status());
        match consumer.is_reaction() {
            true => self.monitor.watch_reaction(name, status),
            false => self.monitor.watch_consumer(name, consumer.stream(), status),
        }
        self.consumers.push(consumer.clone());
        let (db, stop) = (self.db.clone(), self.background.clone());
        self.tasks
            .spawn(async move { consumer.run(&db, from, stop).await });
        self
    }

    /// Runs something of the program's own beside the requests, until the stop that it is given: later than the requests,
    /// earlier than the file. That it ends before is a failure.
    #[must_use]
    pub fn beside<F>(mut self, run: impl FnOnce(Stop) -> F) -> Self
    where
        F: Future<Output = Result<(), Fatal>> + Send + 'static,
    {
        self.tasks.spawn(run(self.background.clone()));
        self
    }

    /// Answers requests until `stop`, or until one of the above ends, which is an error. Then everything stops in
    /// order: HTTP finishes what is under way, then the relay and the consumers, and at last the file is closed.
    pub async fn serve(
        mut self,
        routes: Routes,
        listener: TcpListener,
        stop: Stop,
    ) -> anyhow::Result<()> {
        let upkeep = self.monitor.clone().upkeep(stop.clone());
        tokio::spawn(upkeep);
        let (mut door, guard) = door::open(self.db.path(), listener.local_addr()?);
        let operator = operator_api::routes(self.monitor.clone(), self.consumers.clone(), guard);
        let routes = match self.answers.take() {
            Some(answers) => routes.merge(answers),
            None => routes,
        };
        let access = self.access.clone().read_token(self.reader.clone());
        let api = around(routes, operator, self.monitor.clone(), access);
        announce(&listener)?;
        let http = tokio::spawn({
            let stops_all = stop.clone().drop_guard(); // also by a panic: without HTTP nobody would notice the rest
            let http = server::serve(listener, api, stop.clone());
            async move {
                http.await;
                drop(stops_all);
            }
        });
        let first = tokio::select! {
            first = self.until(&stop) => first,
            never = door.keep_trying() => match never {},
        };
        stop.cancel();
        let http = http.await;
        drop(door);
        let rest = self.finish().await;
        self.db.close().await;
        tracing::info!("stopped");
        http?;
        Ok(first.and(rest)?)
    }

    /// Waits for the stop. A task that ends before it is a failure, whatever it answers.
    async fn until(&mut self, stop: &Stop) -> Result<(), Fatal> {
        tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            Some(ended) = self.tasks.join_next() => {
                outcome(ended)?;
                Err(Fatal("a background task ended although nobody asked it to".to_owned()))
            }
        }
    }

    /// Stops what runs in the background and waits for all of it; answers the first failure.
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

/// The only line on stdout: it says that requests are answered, and on which port when 0 was asked for.
fn announce(listener: &TcpListener) -> std::io::Result<()> {
    let address = listener.local_addr()?;
    tracing::info!(%address, "started");
    // A stdout that is gone, full or stalled is no reason not to serve, so nothing waits for it.
    let say = move || print(&format!("listening on http://{address}\n"));
    let _no_thread = std::thread::Builder::new().spawn(say);
    Ok(())
}

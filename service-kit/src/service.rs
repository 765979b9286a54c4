//! A running service: its relay, its consumers and its HTTP, and the order in which they stop.

use std::io::Write;
use std::process::ExitCode;

use axum::Router;
use relay::{Connect, Consumer, Database, Fatal, Relay, Stop, Stream};
use tokio::net::TcpListener;
use tokio::task::{JoinError, JoinSet};

use crate::{Monitor, api, server};

/// What a service's `main` puts together.
pub struct Service {
    db: Database,
    monitor: Monitor,
    /// Stops what runs beside HTTP, which is later than the service is asked to stop.
    background: Stop,
    tasks: JoinSet<Result<(), Fatal>>,
}

impl Service {
    pub fn new(db: &Database) -> Self {
        Self {
            db: db.clone(),
            monitor: Monitor::new(db),
            background: Stop::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Publishes the outbox to the service's stream.
    #[must_use]
    pub fn publish<C>(mut self, to: C) -> Self
    where
        C: Connect,
        C::Session: Stream,
    {
        let relay = Relay::new(&self.db, to);
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
        self.monitor
            .watch_consumer(consumer.name(), consumer.status());
        let (db, stop) = (self.db.clone(), self.background.clone());
        self.tasks
            .spawn(async move { consumer.run(&db, from, stop).await });
        self
    }

    /// Answers requests until `stop`, or until one of the above ends, which is an error. Then everything stops in
    /// order: HTTP finishes what is under way, then the relay and the consumers, and at last the file is closed.
    pub async fn serve(
        mut self,
        routes: Router,
        listener: TcpListener,
        stop: Stop,
    ) -> anyhow::Result<()> {
        let upkeep = self.monitor.clone().upkeep(stop.clone());
        tokio::spawn(upkeep);
        announce(&listener)?;
        let api = api(routes, self.monitor.clone());
        let http = tokio::spawn({
            let stops_all = stop.clone().drop_guard(); // also by a panic: without HTTP nobody would notice the rest
            let http = server::serve(listener, api, stop.clone());
            async move {
                http.await;
                drop(stops_all);
            }
        });
        let first = self.until(&stop).await;
        stop.cancel();
        let http = http.await;
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
    let mut stdout = std::io::stdout().lock();
    // Nobody may be listening to stdout, which is no reason not to serve.
    let _ = writeln!(stdout, "listening on http://{address}").and_then(|()| stdout.flush());
    Ok(())
}

/// The exit code of a service: 0 after a stop that was asked for; otherwise 1 and one line with all the causes.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    eprintln!("error: {}", line(&error));
    ExitCode::FAILURE
}

/// Every cause once: some errors already end with what their source says.
fn line(error: &anyhow::Error) -> String {
    relay::chain(error.as_ref()).replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn an_error_is_one_line_that_says_each_cause_once() {
        let refused = anyhow!("refused").context("cannot connect: refused");
        assert_eq!(
            line(&refused.context("no\nbroker")),
            "no broker: cannot connect: refused"
        );
    }
}

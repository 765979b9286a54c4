//! Broker and services put together and started, broker first.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use freehold_tests::broker::{Broker, NatsServer, nats_server};
use freehold_tests::http::Api;
use freehold_tests::services::{self, Home, Service};
use freehold_tests::{Credentials, Part, Password, seconds, within};
use tokio::task::spawn_blocking;

use super::supervise::{Supervised, supervise};
use super::{Up, ports, scripts};
use crate::console::{Console, human};
use crate::data_dir::DataDir;

/// All three, ready.
pub(super) struct System {
    pub(super) broker: Broker,
    pub(super) user_service: Service,
    pub(super) orders_service: Service,
    /// Names of services that are not started.
    left_out: Vec<String>,
}

/// Where the services answer.
#[derive(Clone, Debug)]
pub(super) struct Urls {
    pub(super) users: String,
    pub(super) orders: String,
    /// What `up` itself sends, as their operator.
    pub(super) operator: Password,
}

/// The same, watched.
pub(super) struct SupervisedSystem {
    services: Vec<Supervised>,
    broker: Supervised,
}

impl System {
    pub(super) async fn start(up: &Up, data: &DataDir, console: &Arc<Console>) -> Result<System> {
        let mut system = System::assemble(up, data, console).await?;
        start(&mut system.broker, console).await?;
        for service in [&mut system.user_service, &mut system.orders_service] {
            scripts::write(service, data)?;
            if !up.without.iter().any(|name| name == service.name()) {
                start(service, console).await?;
                ready(service, console).await?;
            }
        }
        Ok(system)
    }

    /// Ports and passwords first: a mistake there should show before minutes of building.
    async fn assemble(up: &Up, data: &DataDir, console: &Arc<Console>) -> Result<System> {
        let users_port = ports::choose("--users-port", up.users_port, 7101)?;
        let orders_port = ports::choose("--orders-port", up.orders_port, 7102)?;
        let broker_port = ports::choose("--broker-port", up.broker_port, 4222)?;
        let credentials = Credentials::load_or_create(&data.credentials())?
            .or_from(|name| std::env::var(name).ok())?;
        data.rotate_logs()?;
        let server = find_broker(console).await?;
        let binaries = build(up.release, console).await?;

        let broker = Broker::new(
            server,
            broker_port,
            data.broker(),
            data.logs(),
            credentials.clone(),
        );
        let home = Home {
            binaries,
            databases: data.databases(),
            logs: data.logs(),
            broker_url: broker.url(),
        };
        let user_service = Service::users(&home, users_port, &credentials)?;
        let orders_service =
            Service::orders(&home, orders_port, &credentials, &user_service.url())?;
        Ok(System {
            broker,
            user_service,
            orders_service,
            left_out: up.without.clone(),
        })
    }

    pub(super) fn urls(&self) -> Urls {
        Urls {
            users: self.user_service.url(),
            orders: self.orders_service.url(),
            operator: self.user_service.operator.clone(),
        }
    }

    pub(super) fn supervise(self, console: &Arc<Console>) -> SupervisedSystem {
        let left_out = self.left_out;
        let runs = |service: &Service| !left_out.iter().any(|name| name == service.name());
        let services = [self.user_service, self.orders_service];
        SupervisedSystem {
            services: services
                .into_iter()
                .filter(runs)
                .map(|service| supervise(service, console))
                .collect(),
            broker: supervise(self.broker, console),
        }
    }
}

impl SupervisedSystem {
    /// Services first: they publish what they still have while the broker listens. False when one had to be killed.
    pub(super) async fn stop(self, console: &Console) -> bool {
        let services = self
            .services
            .into_iter()
            .map(|service| service.stop(console));
        let services = futures::future::join_all(services).await;
        let broker = self.broker.stop(console).await;
        services.into_iter().all(|clean| clean) && broker
    }
}

async fn find_broker(console: &Arc<Console>) -> Result<NatsServer> {
    let teller = Arc::clone(console);
    let search = spawn_blocking(move || nats_server(&|line| teller.about("broker", line)));
    let server = console
        .while_waiting("looking for nats-server", search)
        .await??;
    console.about(
        "broker",
        &format!(
            "nats-server {} at {}",
            server.version,
            server.program.display()
        ),
    );
    Ok(server)
}

/// cargo shows its own progress on stderr, so we only say what for.
async fn build(release: bool, console: &Console) -> Result<PathBuf> {
    let start = Instant::now();
    console.about(
        "build",
        "user-service and orders-service (the first time takes minutes)",
    );
    let find = if release {
        services::optimised_binaries
    } else {
        services::binaries
    };
    let folder = spawn_blocking(find).await??;
    console.about("build", &format!("done after {}", human(start.elapsed())));
    Ok(folder)
}

async fn start(part: &mut impl Part, console: &Console) -> Result<()> {
    let start = Instant::now();
    let name = part.name().to_owned();
    let started = console
        .while_waiting(&format!("starting {name}"), part.start())
        .await;
    started.map_err(|error| anyhow!("{error}"))?;
    console.about(&name, &format!("up after {}", human(start.elapsed())));
    Ok(())
}

async fn ready(service: &Service, console: &Console) -> Result<()> {
    let api = Api::of(service);
    let what = format!("waiting for {}", service.name());
    let answer = console
        .while_waiting(&what, within(seconds(30), || api.is_ready()))
        .await;
    answer.map_err(|reason| anyhow!("{} is not ready after 30 s: {reason}", service.name()))
}

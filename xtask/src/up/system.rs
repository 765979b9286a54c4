//! Broker, services and drivers' devices put together and started, in this order.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use freehold_tests::broker::{Broker, NatsServer, nats_server};
use freehold_tests::http::Api;
use freehold_tests::services::{self, Home, Service};
use freehold_tests::{Credentials, DriverApi, Office, Part, Password, Port, seconds, within};
use tokio::task::spawn_blocking;

use super::crew::{Crew, Device, PEOPLE, driver_id, name_of};
use super::enrol::{Enrolled, enrol};
use super::network::Network;
use super::supervise::{Supervised, supervise};
use super::{Up, ports, scripts};
use crate::console::{Console, human};
use crate::data_dir::DataDir;

/// All of it, ready.
pub(super) struct System {
    pub(super) broker: Broker,
    pub(super) user_service: Service,
    pub(super) orders_service: Service,
    /// In the order of [`PEOPLE`]; none at all when nobody is to drive.
    pub(super) devices: Vec<Device>,
    /// Names of services and devices that are not started.
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
    /// And devices.
    services: Vec<Supervised>,
    broker: Supervised,
    /// Also of devices that were left out, for whoever starts one by its script.
    _networks: Vec<Network>,
}

const PORTS_OF_DEVICES: [u16; 2] = [7103, 7104];

impl Up {
    fn leaves_out(&self, name: &str) -> bool {
        self.without.iter().any(|without| without == name)
    }

    /// None, or one for each.
    fn driver_ports(&self) -> Result<Vec<Port>> {
        if self.no_drivers {
            return Ok(vec![]);
        }
        let stated = [
            ("--driver-1-port", self.driver_1_port),
            ("--driver-2-port", self.driver_2_port),
        ];
        let choose = |((flag, stated), usual)| ports::choose(flag, stated, usual);
        stated
            .into_iter()
            .zip(PORTS_OF_DEVICES)
            .map(choose)
            .collect()
    }
}

impl System {
    pub(super) async fn start(up: &Up, data: &DataDir, console: &Arc<Console>) -> Result<System> {
        let mut system = System::assemble(up, data, console).await?;
        start(&mut system.broker, console).await?;
        for service in [&mut system.user_service, &mut system.orders_service] {
            scripts::write(service, Some(&data.credentials()), data)?;
            if !up.leaves_out(service.name()) {
                start(service, console).await?;
                ready(service, console).await?;
            }
        }
        system.start_devices(data, console).await?;
        Ok(system)
    }

    /// Devices that run have a driver by then, unless orders-service cannot be reached.
    async fn start_devices(&mut self, data: &DataDir, console: &Arc<Console>) -> Result<()> {
        let office = (!self.leaves_out(services::ORDERS_SERVICE)).then(|| self.office());
        for device in &mut self.devices {
            scripts::write(&device.app, None, data)?;
            if !self.left_out.iter().any(|name| name == device.app.name()) {
                start(&mut device.app, console).await?;
                ready(&device.app, console).await?;
                if let Some(office) = &office {
                    give_driver(device, office, console).await;
                }
                let shown = DriverApi::new(device.app.url()).state().await?;
                device.driver_id = driver_id(&shown).map(str::to_owned);
            }
            // Not before: who is to be enrolled needs the network.
            device.network.watch_file();
        }
        Ok(())
    }

    /// Ports and passwords first: a mistake there should show before minutes of building.
    async fn assemble(up: &Up, data: &DataDir, console: &Arc<Console>) -> Result<System> {
        let users_port = ports::choose("--users-port", up.users_port, 7101)?;
        let orders_port = ports::choose("--orders-port", up.orders_port, 7102)?;
        let broker_port = ports::choose("--broker-port", up.broker_port, 4222)?;
        let driver_ports = up.driver_ports()?;
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
        let mut devices = Vec::new();
        for (place, port) in driver_ports.into_iter().enumerate() {
            let name = name_of(place + 1);
            let network = Network::before(orders_service.address(), data.offline_file(&name))?;
            let app = Service::device(&name, &home, port, &network.url());
            devices.push(Device {
                person: PEOPLE[place],
                app,
                network,
                played: up.manual_driver.includes(place + 1),
                driver_id: None,
            });
        }
        Ok(System {
            broker,
            user_service,
            orders_service,
            devices,
            left_out: up.without.clone(),
        })
    }

    pub(super) fn leaves_out(&self, name: &str) -> bool {
        self.left_out.iter().any(|left_out| left_out == name)
    }

    pub(super) fn office(&self) -> Office {
        Office::of(&self.orders_service)
    }

    /// Those whose device was started.
    pub(super) fn crew(&self, console: &Arc<Console>) -> Crew {
        let devices = (1..).zip(&self.devices);
        let runs = devices.filter(|(_, device)| !self.leaves_out(device.app.name()));
        Crew::of(runs, console)
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
        let networks = self.devices.iter().map(|device| device.network.clone());
        let networks = networks.collect();
        let devices = self.devices.into_iter().map(|device| device.app);
        let services = [self.user_service, self.orders_service];
        SupervisedSystem {
            services: services
                .into_iter()
                .chain(devices)
                .filter(runs)
                .map(|service| supervise(service, console))
                .collect(),
            broker: supervise(self.broker, console),
            _networks: networks,
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
        "user-service, orders-service and driver-app (the first time takes minutes)",
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

/// A device without a driver is told about, and does no harm to the rest.
async fn give_driver(device: &Device, office: &Office, console: &Console) {
    let api = DriverApi::new(device.app.url());
    let what = format!("enrolling {}", device.app.name());
    let enrolled = console
        .while_waiting(&what, enrol(office, &api, device.person))
        .await;
    match enrolled {
        Ok(Enrolled::Before) => {}
        Ok(Enrolled::Now) => console.about(
            device.app.name(),
            &format!("enrolled for {}", device.person),
        ),
        Err(error) => console.about(
            device.app.name(),
            &format!("is not enrolled for {}: {error:#}", device.person),
        ),
    }
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

//! Broker, services and drivers' devices, assembled and started in this order.

use anyhow::{Result, anyhow};
use freehold_tests::UserApi;
use freehold_tests::broker::{Broker, NatsServer, nats_server};
use freehold_tests::http::Api;
use freehold_tests::services::{Home, ORDERS_SERVICE, Service, USER_SERVICE, introduced};
use freehold_tests::{Credentials, OrderApi, Part, Password, Port, seconds, within};
use tokio::task::spawn_blocking;

use crate::console::Console;
use crate::data_dir::DataDir;
use crate::driver::{Device, Driver, driver_id, name_of};
use crate::enrol::enrol;
use crate::network::Network;
use crate::options::Up;
use crate::plan::Plan;
use crate::scripts;
use crate::supervise::{Supervised, supervise};

/// Everything, ready.
pub(crate) struct System {
    pub(crate) broker: Broker,
    /// In the order of their declaration.
    pub(crate) services: Vec<Service>,
    /// None at all with `--no-drivers`.
    pub(crate) devices: Vec<Device>,
    /// What people and the simulation send to every service.
    pub(crate) operator: Password,
    /// Names of services and devices that are not started.
    left_out: Vec<String>,
}

/// Everything, restarted when it dies.
pub(crate) struct SupervisedSystem {
    services_and_devices: Vec<Supervised>,
    broker: Supervised,
}

impl System {
    pub(crate) async fn start(up: &Up, data: &DataDir, console: &Console) -> Result<System> {
        let mut system = System::assemble(up, data, console).await?;
        start(&mut system.broker, console).await?;
        for service in &mut system.services {
            scripts::write(service, &data.at(service.name()))?;
            if !leaves_out(&system.left_out, service.name()) {
                let started = start_service(service, console).await;
                started.map_err(|error| with_cure(&error, service.name(), data))?;
            }
        }
        let orders = (!system.leaves_out(ORDERS_SERVICE)).then(|| system.orders());
        for device in &mut system.devices {
            scripts::write(&device.app, &data.at(device.app.name()))?;
            if !leaves_out(&system.left_out, device.app.name()) {
                start_device(device, orders.as_ref(), console).await?;
            }
        }
        Ok(system)
    }

    /// Names, ports and passwords first: a mistake there should show before minutes of building.
    async fn assemble(up: &Up, data: &DataDir, console: &Console) -> Result<System> {
        let plan = Plan::of(up).await?;
        let (ports, service_ports) = (up.ports()?, up.service_ports(&plan.services)?);
        let credentials =
            Credentials::load_or_create(&data.at("credentials.env"), &plan.streams())?
                .or_from(|name| std::env::var(name).ok())?;
        data.rotate_logs()?;
        let server = find_broker(console).await?;
        let programs = plan.build(up.release, console).await?;
        let accounts = plan.accounts(&programs).await?;
        let (store, logs) = (data.at("broker"), data.at("logs"));
        let broker = Broker::new(
            server,
            ports.broker,
            store,
            logs,
            credentials.clone(),
            &accounts,
        )?;
        let home = Home {
            binaries: programs.built,
            databases: data.at("databases"),
            logs: data.at("logs"),
            broker_url: broker.url(),
        };
        let mut services = Vec::new();
        let parts = service_ports.into_iter().zip(programs.services);
        for (declared, (port, program)) in plan.services.iter().zip(parts) {
            let service = Service::new(declared, program, &home, port, &credentials)?;
            services.push((service, declared.follows.clone()));
        }
        let mut system = System {
            services: introduced(services, vec![], &credentials),
            devices: vec![],
            broker,
            operator: credentials.operator().clone(),
            left_out: up.without.clone(),
        };
        system.add_devices(up, ports.drivers, &home, data)?;
        Ok(system)
    }

    fn add_devices(
        &mut self,
        up: &Up,
        ports: Vec<Port>,
        home: &Home,
        data: &DataDir,
    ) -> Result<()> {
        let orders = self.service(ORDERS_SERVICE).address();
        for (number, port) in (1..).zip(ports) {
            let file = data.at(&format!("{}.offline", name_of(number)));
            let network = Network::before(orders, file)?;
            let played = up.manual_driver.includes(number);
            let device = Device::new(number, home, port, network, played);
            self.devices.push(device);
        }
        Ok(())
    }

    pub(crate) fn leaves_out(&self, name: &str) -> bool {
        leaves_out(&self.left_out, name)
    }

    /// Panics when none has this name.
    pub(crate) fn service(&self, name: &str) -> &Service {
        let named = self.services.iter().find(|service| service.name() == name);
        named.unwrap_or_else(|| panic!("this system has no {name}"))
    }

    pub(crate) fn orders(&self) -> OrderApi {
        OrderApi::of(self.service(ORDERS_SERVICE))
    }

    pub(crate) fn users(&self) -> UserApi {
        UserApi::of(self.service(USER_SERVICE))
    }

    /// The drivers whose device was started.
    pub(crate) fn running_drivers(&self) -> Vec<Driver> {
        let devices = self.devices.iter();
        let run = devices.filter(|device| !self.leaves_out(device.app.name()));
        run.map(|device| device.driver.clone()).collect()
    }

    /// The running device that a person plays, else the first that runs.
    pub(crate) fn first_device(&self) -> Option<&Device> {
        let running = || self.devices.iter().filter(|it| it.app.pid().is_some());
        let played = running().find(|device| device.driver.played);
        played.or(running().next())
    }

    pub(crate) fn supervise(self, console: &Console) -> SupervisedSystem {
        let devices = self.devices.into_iter().map(|device| device.app);
        let services = self.services.into_iter().chain(devices);
        SupervisedSystem {
            services_and_devices: services
                .filter(|service| !leaves_out(&self.left_out, service.name()))
                .map(|service| supervise(service, console))
                .collect(),
            broker: supervise(self.broker, console),
        }
    }
}

impl SupervisedSystem {
    /// Services first: they publish their last events while the broker runs. False when a process had to be killed.
    pub(crate) async fn stop(self, console: &Console) -> bool {
        let parts = self.services_and_devices.into_iter();
        let parts = parts.map(|part| part.stop(console));
        let clean = futures::future::join_all(parts).await;
        self.broker.stop(console).await && clean.into_iter().all(|clean| clean)
    }
}

fn leaves_out(left_out: &[String], name: &str) -> bool {
    left_out.iter().any(|left_out| left_out == name)
}

async fn find_broker(console: &Console) -> Result<NatsServer> {
    let printer = console.clone();
    let search = spawn_blocking(move || nats_server(&|line| printer.about("broker", line)));
    console
        .while_waiting("looking for nats-server", search)
        .await?
}

/// The device has a driver afterwards, unless orders-service cannot be reached: that is printed and harms nothing else.
async fn start_device(
    device: &mut Device,
    orders: Option<&OrderApi>,
    console: &Console,
) -> Result<()> {
    start(&mut device.app, console).await?;
    until_ready(&device.app, console).await?;
    let (name, person, api) = (
        device.app.name(),
        device.driver.person,
        &device.driver.device,
    );
    if let Some(orders) = orders {
        let enrolled = enrol(orders, api, person);
        match console
            .while_waiting(&format!("enrolling {name}"), enrolled)
            .await
        {
            Ok(_) => {}
            Err(error) => console.about(name, &format!("is not enrolled for {person}: {error:#}")),
        }
    }
    device.driver.id = driver_id(&api.state().await?);
    Ok(())
}

async fn start_service(service: &mut Service, console: &Console) -> Result<()> {
    start(service, console).await?;
    until_ready(service, console).await
}

/// Below the last lines of its log, which the error may show.
fn with_cure(error: &anyhow::Error, name: &str, data: &DataDir) -> anyhow::Error {
    let log = data.at("logs").join(format!("{name}.log"));
    anyhow!(
        "{error}\nIts whole log is {}. Correct its program, or start the others alone: --without {name}",
        log.display()
    )
}

async fn start(part: &mut impl Part, console: &Console) -> Result<()> {
    let what = format!("starting {}", part.name());
    let started = console.while_waiting(&what, part.start()).await;
    started.map_err(|error| anyhow!("{error}"))
}

async fn until_ready(service: &Service, console: &Console) -> Result<()> {
    let (api, name) = (Api::of(service), service.name());
    let ready = within(seconds(30), || api.is_ready());
    let ready = console
        .while_waiting(&format!("waiting for {name}"), ready)
        .await;
    ready.map_err(|reason| anyhow!("{name} is not ready after 30 s: {reason}"))
}

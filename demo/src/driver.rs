//! Two people who deliver, each with a device and a network that can be switched off.

use std::sync::Arc;
use std::time::Duration;

use freehold_tests::services::{self, Home, Service};
use freehold_tests::{DriverApi, Port, Shown};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::console::Console;
use crate::network::Network;

/// A driver and their device's program, started or not.
pub(crate) struct Device {
    pub(crate) app: Service,
    pub(crate) driver: Driver,
}

/// A driver as the rest of `up` uses them. Clones are the same driver.
#[derive(Clone)]
pub(crate) struct Driver {
    /// 1 or 2.
    pub(crate) number: usize,
    pub(crate) person: &'static str,
    pub(crate) device: DriverApi,
    pub(crate) network: Arc<Network>,
    /// A person plays this driver, not the simulation.
    pub(crate) played: bool,
    /// As orders-service knows them; none while the device is not enrolled.
    pub(crate) id: Option<String>,
}

/// In the order of their devices.
pub(crate) const PEOPLE: [&str; 2] = ["Mia Santos", "Noor Haddad"];
/// A device that does not answer within this time is shown as not answering.
pub(crate) const PATIENCE: Duration = Duration::from_millis(900);
/// How often the network's file is looked for.
const LOOK: Duration = Duration::from_millis(100);

impl Device {
    pub(crate) fn new(
        number: usize,
        home: &Home,
        port: Port,
        network: Network,
        played: bool,
    ) -> Device {
        let app = services::device(&name_of(number), home, port, &network.url());
        let driver = Driver {
            number,
            person: PEOPLE[number - 1],
            device: DriverApi::new(app.url()),
            network: Arc::new(network),
            played,
            id: None,
        };
        Device { app, driver }
    }
}

impl Driver {
    /// What the device shows now; none when it does not answer.
    pub(crate) async fn shown(&self) -> Option<Shown> {
        timeout(PATIENCE, self.device.state()).await.ok()?.ok()
    }

    pub(crate) fn first_name(&self) -> &'static str {
        self.person.split(' ').next().unwrap_or(self.person)
    }

    /// Switches the network as the file says, for ever. An operating system notifies its programs when the network is back; here we
    /// tell the device, which would otherwise retry within a minute.
    pub(crate) async fn watch_network(self, console: Console) {
        loop {
            if let Some(on) = self.network.look() {
                let now = if on {
                    "is back online"
                } else {
                    "is offline, and works on"
                };
                console.about(&name_of(self.number), &format!("{} {now}", self.person));
                if on {
                    self.device.sync().await;
                }
            }
            sleep(LOOK).await;
        }
    }
}

/// The name of the device of this number.
pub(crate) fn name_of(number: usize) -> String {
    format!("driver-{number}")
}

/// The driver whose device shows this.
pub(crate) fn driver_id(shown: &Shown) -> Option<String> {
    shown.0["driver"]["driver_id"].as_str().map(str::to_owned)
}

/// A text field; empty when it is missing.
pub(crate) fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

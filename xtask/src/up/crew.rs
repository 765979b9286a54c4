//! Two people who deliver, each with a device: what each device shows, kept up to date, and a line when one loses its network.

use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use freehold_tests::http::Reply;
use freehold_tests::{DriverApi, Service, Shown};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::network::Network;
use crate::console::Console;

/// A device that is put together, started or not.
pub(super) struct Device {
    pub(super) person: &'static str,
    /// `driver-1`, `driver-2`.
    pub(super) app: Service,
    pub(super) network: Network,
    /// By a person, not by the simulation.
    pub(super) played: bool,
    /// As orders-service knows the person, once the device is enrolled.
    pub(super) driver_id: Option<String>,
}

/// Whom the simulation leaves to a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Played {
    #[value(name = "1")]
    First,
    #[value(name = "2")]
    Second,
    Both,
    None,
}

/// A driver whose device runs, as the rest of `up` knows them. Clones are the same driver.
#[derive(Clone)]
pub(super) struct Driver {
    /// As they are typed: 1 or 2.
    pub(super) number: usize,
    pub(super) person: &'static str,
    pub(super) device: DriverApi,
    pub(super) network: Network,
    pub(super) played: bool,
    shown: watch::Receiver<Option<Shown>>,
}

/// Who works today. Dropped, nobody looks at the devices any more; they go on.
pub(super) struct Crew {
    pub(super) drivers: Vec<Driver>,
    _looking: JoinSet<()>,
}

/// In the order of their devices.
pub(super) const PEOPLE: [&str; 2] = ["Mia Santos", "Noor Haddad"];
/// How long a device may keep a question for news.
const WAIT_MS: u32 = 8000;
/// A device that does not answer is asked again then.
const PAUSE: Duration = Duration::from_millis(500);

impl Played {
    pub(super) fn includes(self, number: usize) -> bool {
        match self {
            Self::First => number == 1,
            Self::Second => number == 2,
            Self::Both => true,
            Self::None => false,
        }
    }
}

/// What the device of this number is called.
pub(super) fn name_of(number: usize) -> String {
    format!("driver-{number}")
}

impl Crew {
    /// Only those whose device is up.
    pub(super) fn of<'a>(
        devices: impl Iterator<Item = (usize, &'a Device)>,
        console: &Arc<Console>,
    ) -> Crew {
        let (mut drivers, mut looking) = (Vec::new(), JoinSet::new());
        for (number, device) in devices {
            let (tell, shown) = watch::channel(None);
            let driver = Driver {
                number,
                person: device.person,
                device: DriverApi::new(device.app.url()),
                network: device.network.clone(),
                played: device.played,
                shown,
            };
            looking.spawn(look(driver.device.clone(), tell));
            looking.spawn(accompany(driver.clone(), Arc::clone(console)));
            drivers.push(driver);
        }
        Crew {
            drivers,
            _looking: looking,
        }
    }
}

impl Driver {
    /// What the device shows now, while it answers.
    pub(super) fn shown(&self) -> Option<Shown> {
        self.shown.borrow().clone()
    }

    /// As orders-service knows them, once the device is enrolled.
    pub(super) fn id(&self) -> Option<String> {
        let shown = self.shown.borrow();
        driver_id(shown.as_ref()?).map(str::to_owned)
    }

    pub(super) fn first_name(&self) -> &'static str {
        self.person.split(' ').next().unwrap_or(self.person)
    }
}

/// Whose device it is.
pub(super) fn driver_id(shown: &Shown) -> Option<&str> {
    shown.0["driver"]["driver_id"].as_str()
}

/// Asks for news, again and again.
async fn look(device: DriverApi, tell: watch::Sender<Option<Shown>>) {
    loop {
        let known = tell
            .borrow()
            .as_ref()
            .and_then(|shown: &Shown| shown.0["revision"].as_u64());
        let news = news(&device, known).await;
        let silent = news.is_none();
        tell.send_replace(news);
        if silent {
            sleep(PAUSE).await;
        }
    }
}

async fn news(device: &DriverApi, known: Option<u64>) -> Option<Shown> {
    let after = known.map(|known| format!("?after={known}&wait_ms={WAIT_MS}"));
    let path = format!("/api/state{}", after.unwrap_or_default());
    let reply: Reply = device.get(&path).await;
    (reply.status == 200 && reply.body["deliveries"].is_array()).then_some(Shown(reply.body))
}

/// Says so when the network goes and comes. A device that had none asks again within a minute; as an operating system
/// tells its programs that the network is back, we tell the device.
async fn accompany(driver: Driver, console: Arc<Console>) {
    let mut changes = driver.network.changes();
    changes.mark_changed(); // one that is offline from the start is told, too
    let mut was = true;
    while changes.changed().await.is_ok() {
        let on = *changes.borrow_and_update();
        if on != was {
            console.about(&name_of(driver.number), &going(driver.person, on));
        }
        if on && !was {
            driver.device.sync().await;
        }
        was = on;
    }
}

fn going(person: &str, on: bool) -> String {
    match on {
        true => format!("{person} is back online"),
        false => format!("{person} is offline, and works on"),
    }
}

/// A text field of what somebody shows.
pub(super) fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whom_a_person_plays_is_said_with_a_number() {
        let said = |text: &str| Played::from_str(text, false).unwrap();
        let played = |text: &str| [1, 2].map(|number| said(text).includes(number));
        assert_eq!(played("1"), [true, false]);
        assert_eq!(played("2"), [false, true]);
        assert_eq!(played("both"), [true, true]);
        assert_eq!(played("none"), [false, false]);
    }
}

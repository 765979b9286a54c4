//! What runs where: one screen for people, one JSON object for scripts.

use std::path::PathBuf;

use freehold_tests::services::{ORDERS_SERVICE, Service};
use freehold_tests::{Part, paths};
use serde_json::{Map, Value, json};

use crate::commands::{self, ORDER, REGISTER};
use crate::data_dir::DataDir;
use crate::driver::Device;
use crate::options::Up;
use crate::scripts::quoted;
use crate::system::System;

/// The line of `--json`. Scripts rely on these names.
pub(crate) fn json(system: &System, data: &DataDir) -> Value {
    let observer = system.broker.observer();
    let devices = system.devices.iter();
    let services = system.services.iter();
    let services: Map<_, _> = services
        .map(|service| (service.name().to_owned(), service_json(service)))
        .collect();
    let drivers: Map<_, _> = devices
        .map(|device| (device.app.name().to_owned(), device_json(device)))
        .collect();
    json!({
        "services": services,
        "drivers": drivers,
        "broker": {"url": system.broker.url(), "pid": system.broker.pid(), "store": system.broker.store()},
        "observer": {"user": observer.login().user, "password": observer.login().password},
        "operator": {"token": system.operator.reveal()},
        "data_dir": data.path(),
        "credentials": data.at("credentials.env"),
        "commands": data.at(commands::FILE),
    })
}

fn service_json(service: &Service) -> Value {
    let docs = format!("{}/docs", service.url());
    json!({"url": service.url(), "docs": docs, "pid": service.pid(), "database": service.database})
}

/// While the file `offline` exists, the device has no network.
fn device_json(device: &Device) -> Value {
    let (driver, network) = (&device.driver, &device.driver.network);
    let mut json = service_json(&device.app);
    json["page"] = device.app.url().into();
    json["name"] = driver.person.into();
    json["driver_id"] = driver.id.clone().into();
    json["played_by_hand"] = driver.played.into();
    json["switch"] = json!({"url": network.url(), "offline": network.file, "on": network.is_on()});
    json
}

/// The first screen. With all that `up` has printed before and the status line it fits a terminal of 24 rows and 100 columns,
/// so everything else is in [`commands::FILE`].
pub(crate) fn for_people(system: &System, data: &DataDir, up: &Up) -> String {
    let kept = if up.ephemeral {
        "deleted at the end"
    } else {
        ""
    };
    let no_traffic = up.no_traffic;
    let folder = short(data);
    let commands = quoted(&folder.join(commands::FILE));
    format!(
        "{}{}
{}
  In another terminal, register a user; then place an order for them, and see it with their name:
    . {commands}; {REGISTER}
    {ORDER}
  More lines to copy are in that file: a driver without a network, conflicts, status, streams.
  Ctrl-C stops everything.",
        table(system, no_traffic),
        row("data", &folder.display().to_string(), kept),
        first_page(system, no_traffic),
    )
}

fn table(system: &System, no_traffic: bool) -> String {
    let services = system.services.iter().map(|service| {
        let docs = format!(
            "{:<16} its API: {}/docs",
            process(service.pid()),
            service.url()
        );
        row(service.name(), &service.url(), &docs)
    });
    let devices = system.devices.iter().map(|device| {
        let who = format!(
            "{:<16} {}",
            process(device.app.pid()),
            who(device, no_traffic)
        );
        row(device.app.name(), &device.app.url(), &who)
    });
    let (pid, version) = (process(system.broker.pid()), system.broker.server().version);
    let broker = format!("{pid:<16} nats-server {version}");
    let broker = row("broker", &system.broker.url(), &broker);
    let rows = services.chain(devices).chain([broker]);
    rows.collect()
}

fn process(pid: Option<u32>) -> String {
    pid.map_or_else(|| "left out".to_owned(), |pid| format!("process {pid}"))
}

fn row(name: &str, place: &str, more: &str) -> String {
    let row = format!("  {name:<15} {place:<28} {more}");
    format!("{}\n", row.trim_end())
}

fn who(device: &Device, no_traffic: bool) -> String {
    let person = device.driver.person;
    match &device.driver.id {
        None => format!("for {person}, not enrolled"),
        Some(_) if no_traffic => person.to_owned(),
        Some(_) if device.driver.played => format!("{person}: you"),
        Some(_) => format!("{person}: simulated"),
    }
}

/// The page to open: a driver's, whom a person plays if there is one; else the API of orders-service.
fn first_page(system: &System, no_traffic: bool) -> String {
    match system.first_device() {
        Some(device) if device.driver.played && !no_traffic => format!(
            "  Open {}/ and be {}: orders arrive by themselves, the rest is yours.",
            device.app.url(),
            device.driver.person
        ),
        Some(device) => format!(
            "  Open {}/, the page of {}.",
            device.app.url(),
            device.driver.person
        ),
        None => format!(
            "  Open {}/docs, the API of orders-service.",
            system.service(ORDERS_SERVICE).url()
        ),
    }
}

/// Relative to the workspace when it is inside: `cargo xtask` was typed there.
fn short(data: &DataDir) -> PathBuf {
    let path = data.path().strip_prefix(paths::workspace());
    path.unwrap_or(data.path()).to_owned()
}

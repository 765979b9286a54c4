//! The three programs of the platform.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use freehold_harness::declared::{Account, Declared};
use freehold_harness::{Credentials, Manifest, Port, binaries, broker, manifest};

use crate::paths;

pub use freehold_harness::services::{Home, Service, introduced};

pub const USER_SERVICE: &str = "user-service";
pub const ORDERS_SERVICE: &str = "orders-service";
pub const DRIVER_APP: &str = "driver-app";
const PROGRAMS: [&str; 3] = [USER_SERVICE, ORDERS_SERVICE, DRIVER_APP];

/// The folder with the programs, built once per process.
pub fn binaries() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let build = || binaries::built(paths::workspace(), &PROGRAMS);
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

/// What `freehold.toml` of this workspace says.
///
/// Panics with the reason if it is not sound.
pub fn manifest() -> Manifest {
    let read = Manifest::read(&paths::workspace().join(manifest::NAME));
    read.unwrap_or_else(|error| panic!("{error:#}"))
}

/// The accounts of its services, without running their programs.
pub fn accounts() -> Vec<Account> {
    let services = manifest();
    let services = services.services().iter();
    services.map(|entry| entry.declared.account()).collect()
}

/// The broker's whole configuration with these accounts, in one text.
pub fn whole_config() -> String {
    broker::whole_config(&accounts())
}

pub fn users(home: &Home, port: Port, credentials: &Credentials) -> io::Result<Service> {
    service(USER_SERVICE, home, port, credentials)
}

pub fn orders(
    home: &Home,
    port: Port,
    credentials: &Credentials,
    users_url: &str,
) -> io::Result<Service> {
    let orders = service(ORDERS_SERVICE, home, port, credentials)?;
    let follows = declared(ORDERS_SERVICE).follows;
    Ok(follows.iter().fold(orders, |orders, stream| {
        orders.following(stream, users_url, credentials.read_token(stream))
    }))
}

fn service(name: &str, home: &Home, port: Port, credentials: &Credentials) -> io::Result<Service> {
    let program = home.binaries.join(name);
    Service::new(&declared(name), program, home, port, credentials)
}

fn declared(name: &str) -> Declared {
    let services = manifest();
    let mut all = services.services().iter().map(|entry| &entry.declared);
    let declared = all.find(|declared| declared.name == name).cloned();
    declared.unwrap_or_else(|| panic!("{} has no {name}", manifest::NAME))
}

/// A driver's device.
pub fn device(name: &str, home: &Home, port: Port, orders_url: &str) -> Service {
    let program = home.binaries.join(DRIVER_APP);
    let mut device = Service::without_operator(name, program, home, port);
    device.args = vec!["--orders-url".to_owned(), orders_url.to_owned()];
    device
}

//! The three programs of the platform.

use std::io;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Result, anyhow};
use freehold_harness::binaries;
use freehold_harness::{Credentials, Port};

pub use freehold_harness::services::{Home, Service};

pub const USER_SERVICE: &str = "user-service";
pub const ORDERS_SERVICE: &str = "orders-service";
pub const DRIVER_APP: &str = "driver-app";
const PROGRAMS: [&str; 3] = [USER_SERVICE, ORDERS_SERVICE, DRIVER_APP];

/// The folder with the programs, built once per process.
pub fn binaries() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built =
        BUILT.get_or_init(|| binaries::built(&PROGRAMS).map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

/// The same, built with optimisations, however we were built.
pub fn optimised_binaries() -> Result<PathBuf> {
    binaries::optimised(&PROGRAMS)
}

pub fn users(home: &Home, port: Port, credentials: &Credentials) -> io::Result<Service> {
    Ok(
        Service::new(USER_SERVICE, "USERS", home, port, credentials)?
            .with("FREEHOLD_USERS_PASSWORD", credentials.users.reveal())
            .with("FREEHOLD_USERS_READ_TOKEN", credentials.users_read.reveal()),
    )
}

pub fn orders(
    home: &Home,
    port: Port,
    credentials: &Credentials,
    users_url: &str,
) -> io::Result<Service> {
    Ok(
        Service::new(ORDERS_SERVICE, "ORDERS", home, port, credentials)?
            .with("FREEHOLD_ORDERS_PASSWORD", credentials.orders.reveal())
            .with(
                "FREEHOLD_ORDERS_READ_TOKEN",
                credentials.orders_read.reveal(),
            )
            .following("USERS", users_url, &credentials.users_read),
    )
}

/// A driver's device.
pub fn device(name: &str, home: &Home, port: Port, orders_url: &str) -> Service {
    let mut device = Service::without_operator(name, DRIVER_APP, home, port);
    device.args = vec!["--orders-url".to_owned(), orders_url.to_owned()];
    device
}

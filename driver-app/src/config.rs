//! What can be set about this program.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use relay::Stop;
use relay::environment::System;
use service_kit::process::machine::{check_clock, check_machine};
use service_program::{Loopback, Parts, Redacted};

use crate::device::Device;
use crate::owner_api::OwnerApi;
use crate::{http, sync};

/// Runs on a driver's device: shows their deliveries and records what they do, with or without a network, and syncs with
/// orders-service when there is one.
#[derive(Clone, Debug, Parser)]
#[command(name = "driver-app", version, after_help = AFTER_HELP)]
pub struct Config {
    /// Address and port for the device's own browser; port 0 takes a free port and prints it. Loopback only, because the
    /// page has no authentication of its own
    #[arg(
        long,
        env = "FREEHOLD_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7103"
    )]
    pub listen: Loopback,

    /// The SQLite file of this device; created if missing
    #[arg(
        long,
        env = "FREEHOLD_DATABASE",
        value_name = "FILE",
        default_value = "driver-app.db"
    )]
    pub database: PathBuf,

    /// The address of orders-service. The device also works while it cannot be reached
    #[arg(
        long,
        env = "FREEHOLD_ORDERS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:7102",
        hide_env_values = true
    )]
    pub orders_url: Redacted,
}

const AFTER_HELP: &str = "A flag wins over the environment, the environment over a default.

Exit codes:
  0   stopped on request
  1   refused or failed; stderr says why
  2   the command line is not valid
  74  the disk failed during a commit; a restart shows what it holds";

impl Config {
    /// Serves until stopped. Settings and the machine are checked before the port is taken and the file is opened.
    pub async fn serve(self, stop: Stop) -> anyhow::Result<()> {
        let owner = Arc::new(OwnerApi::new(self.orders_url.read("--orders-url")?)?);
        check_machine(&self.database)?;
        // Only a warning: the owner uses its own clock, and a driver must be able to work.
        if let Err(error) = check_clock() {
            tracing::warn!(%error, "the device's times will be wrong");
        }
        let listener = self.listen.bind().await?;
        let device = Device::open(&self.database, Arc::new(System)).await?;
        let routes = http::routes(device.clone(), owner.clone());
        Parts::new(device.database())
            .spawn(|stop| sync::run(device.clone(), owner, stop))
            .serve(routes, listener, stop)
            .await
    }
}

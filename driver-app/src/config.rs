//! What can be set about this program.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use relay::{Stop, System};
use service_kit::{Loopback, Service, Veiled, check_clock, check_machine};

use crate::device::Device;
use crate::owner_api::{Owner, OwnerApi};
use crate::{http, sync};

/// Runs on a driver's device: shows their deliveries and takes what they do with them, with or without a network, and
/// agrees with orders-service when there is one.
#[derive(Clone, Debug, Parser)]
#[command(name = "driver-app", version, after_help = AFTER_HELP)]
pub struct Config {
    /// Address and port to answer the device's own browser on; port 0 takes a free one and prints it. Loopback only: the
    /// page has no authentication of its own
    #[arg(
        long,
        env = "FREEHOLD_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:7103"
    )]
    pub listen: Loopback,

    /// The SQLite file this device owns; made when it does not exist
    #[arg(
        long,
        env = "FREEHOLD_DATABASE",
        value_name = "FILE",
        default_value = "driver-app.db"
    )]
    pub database: PathBuf,

    /// Where orders-service answers HTTP. It may be away for as long as it likes
    #[arg(
        long,
        env = "FREEHOLD_ORDERS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:7102",
        hide_env_values = true
    )]
    pub orders_url: Veiled,
}

const AFTER_HELP: &str = "A flag wins over the environment, the environment over a default.

Exit codes:
  0   stopped because it was asked to
  1   refused or failed; stderr says why
  2   the command line makes no sense
  74  the disk failed under a commit: what is on it is known after a restart";

impl Config {
    /// Serves until stopped. Whatever can be refused is refused before the port is taken and the file is touched.
    pub async fn serve(self, stop: Stop) -> anyhow::Result<()> {
        let owner: Arc<dyn Owner> = Arc::new(OwnerApi::new(self.orders_url.read("--orders-url")?)?);
        check_machine(&self.database)?;
        // The owner goes by its own clock, and a driver without a network must go on.
        if let Err(error) = check_clock() {
            tracing::warn!(%error, "the device's times will be wrong");
        }
        let listener = self.listen.bind().await?;
        let device = Device::open(&self.database, Arc::new(System)).await;
        let device = device.context("the device's data cannot be opened")?;
        let routes = http::routes(device.clone(), owner.clone());
        Service::new(device.database())
            .beside(|stop| sync::run(device.clone(), owner, stop))
            .serve(routes, listener, stop)
            .await
    }
}

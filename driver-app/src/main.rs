//! driver-app: what it is stands in `config`; it serves until it is told to stop.

use std::process::ExitCode;

use clap::Parser;
use driver_app::config::Config;
use service_kit::{Outcome, exit, keep_files_private, or_end, start_logs, stop_on_signal};

#[tokio::main]
async fn main() -> ExitCode {
    keep_files_private();
    let config = or_end(Config::try_parse());
    exit(run(config).await.map(|()| Outcome::Done))
}

async fn run(config: Config) -> anyhow::Result<()> {
    start_logs()?;
    Box::pin(config.serve(stop_on_signal())).await
}

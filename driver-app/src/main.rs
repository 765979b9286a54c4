//! Serves until it is stopped. `config` declares the settings.

use std::process::ExitCode;

use clap::Parser;
use driver_app::config::Config;
use service_program::{Outcome, keep_files_private, or_end, run, start_logs, stop_on_signal};

fn main() -> ExitCode {
    keep_files_private();
    let config = or_end(Config::try_parse());
    run(async {
        start_logs()?;
        Box::pin(config.serve(stop_on_signal())).await?;
        Ok(Outcome::Done)
    })
}

//! `cargo xtask up`: the whole system on this machine, from nothing, until Ctrl-C.

mod crew;
mod describe;
mod desk;
mod enrol;
mod hands;
mod network;
mod ports;
mod scripts;
mod signals;
mod status;
mod supervise;
mod system;
mod traffic;
mod typed;

use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use clap::value_parser;

use crate::console::{Console, human};
use crate::data_dir::{self, DataDir};
use crew::{Crew, Played};
use system::System;
use traffic::Traffic;

/// Every variable that reaches `up`; the services get none of the caller's own.
const ENVIRONMENT: &str = "\
Environment:
  FREEHOLD_NATS_SERVER  The nats-server to run [default: one of this machine, else fetched]
  XDG_CACHE_HOME        A fetched nats-server is kept in freehold/ below it [default: ~/.cache]
  FREEHOLD_BIN_DIR      A folder with the three programs in it; then nothing is built
  FREEHOLD_USERS_PASSWORD, FREEHOLD_ORDERS_PASSWORD, FREEHOLD_OBSERVER_PASSWORD
                        Broker passwords, in place of those drawn into credentials.env
  FREEHOLD_USERS_READ_TOKEN, FREEHOLD_ORDERS_READ_TOKEN
                        With which services ask one another, in place of those drawn
  FREEHOLD_OPERATOR_TOKEN
                        With which people call the services, in place of the one drawn";

#[derive(Debug, Args)]
#[command(after_help = ENVIRONMENT)]
pub(crate) struct Up {
    /// Port of user-service [default: 7101 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    users_port: Option<u16>,

    /// Port of orders-service [default: 7102 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    orders_port: Option<u16>,

    /// Port of the first driver's device, and its page [default: 7103 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    driver_1_port: Option<u16>,

    /// Port of the second driver's device, and its page [default: 7104 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    driver_2_port: Option<u16>,

    /// Port of the broker [default: 4222 when free, else any free one]
    #[arg(long, value_name = "PORT", value_parser = value_parser!(u16).range(1..))]
    broker_port: Option<u16>,

    /// Sample traffic, in events per second. With drivers, customers place an order only while few wait for a driver, and
    /// do something else instead
    #[arg(long, value_name = "EVENTS", default_value_t = 5.0, value_parser = parse_rate)]
    rate: f64,

    /// No sample traffic: nothing happens but what you ask for
    #[arg(long)]
    no_traffic: bool,

    /// No drivers and no devices: orders are placed and wait
    #[arg(long)]
    no_drivers: bool,

    /// Which driver a person plays, on the page of their device: sample traffic gives them orders and does nothing for them
    #[arg(long, value_name = "DRIVER", value_enum, default_value = "2")]
    manual_driver: Played,

    /// Do not start this service or device: for the commands that need it stopped while the broker runs. Without a service
    /// there is no sample traffic
    #[arg(long, value_name = "NAME", value_parser = ["user-service", "orders-service", "driver-1", "driver-2"])]
    without: Vec<String>,

    /// Keep nothing: the data lies in a temporary folder and goes at the end
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,

    /// Where the data stays between runs [default: .freehold in the workspace]
    #[arg(long, value_name = "PATH")]
    data_dir: Option<PathBuf>,

    /// For scripts: one line of JSON on stdout once all is ready, then nothing more there. A part that dies is started
    /// again, and a line on stderr tells its new process number
    #[arg(long)]
    json: bool,

    /// Run the services built with optimisations
    #[arg(long)]
    release: bool,
}

/// What shells report for a program that Ctrl-C ended.
const KILLED: u8 = 130;

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=100_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.01 to 100000; for none at all there is --no-traffic".to_owned()),
    }
}

impl Up {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let console = Arc::new(if self.json {
            Console::on_stderr()
        } else {
            Console::on_stdout()
        });
        // Dropped after the runtime, which kills what still runs: a temporary folder goes once nobody writes into it.
        let data = self.open_data()?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        let result = runtime.block_on(self.run_until_told(&data, &console));
        console.end_live();
        console.flush();
        result
    }

    /// A signal while things still start drops what runs by then, which kills it; the files can bear that.
    async fn run_until_told(&self, data: &DataDir, console: &Arc<Console>) -> Result<ExitCode> {
        let start = Instant::now();
        let mut signals = signals::Signals::new()?;
        let system = tokio::select! {
            system = System::start(self, data, console) => system?,
            name = signals.next() => {
                console.line(&format!("{name} before everything was up; stopped"));
                return Ok(ExitCode::FAILURE);
            }
        };
        console.about("ready", &format!("after {}\n", human(start.elapsed())));
        if let Err(error) = self.announce(&system, data, console) {
            system.supervise(console).stop(console).await;
            return Err(error);
        }
        self.keep_running(system, data, console, signals).await
    }

    fn open_data(&self) -> Result<DataDir> {
        data_dir::sweep_temporary();
        if self.ephemeral {
            return DataDir::ephemeral();
        }
        DataDir::open(&self.data_dir.clone().unwrap_or_else(data_dir::default_path))
    }

    /// The one line for scripts, or the table and the lines to copy for people. A script that cannot read its line would wait
    /// for ever; one that has gone has read enough.
    fn announce(&self, system: &System, data: &DataDir, console: &Console) -> Result<()> {
        if !self.json {
            let lines = describe::for_people(system, data, self);
            lines.iter().for_each(|line| console.line(line));
            return Ok(());
        }
        // Not through the console, which is on stderr.
        let mut stdout = io::stdout().lock();
        let line = describe::json(system, data);
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("stdout does not take the line for scripts")
            }
            _ => Ok(()),
        }
    }

    fn traffic(&self, system: &System, crew: &Crew, console: &Arc<Console>) -> Option<Traffic> {
        let services = ["user-service", "orders-service"];
        let whole = services.iter().all(|name| !system.leaves_out(name));
        (whole && !self.no_traffic).then(|| {
            let (urls, office) = (system.urls(), system.office());
            Traffic::start(self.rate, &urls, office, &crew.drivers, console)
        })
    }

    async fn keep_running(
        &self,
        system: System,
        data: &DataDir,
        console: &Arc<Console>,
        mut signals: signals::Signals,
    ) -> Result<ExitCode> {
        let crew = system.crew(console);
        let traffic = self.traffic(&system, &crew, console);
        let status = status::start(
            console,
            &system.urls(),
            system.office(),
            crew.drivers.clone(),
            traffic.as_ref().map(Traffic::counts),
        );
        typed::listen(crew.drivers.clone(), console);
        let supervised = system.supervise(console);

        let name = signals.next().await;
        status.abort();
        drop((traffic, crew));
        console.end_live();
        console.line(&format!("{name}: stopping (once more kills)"));
        let clean = tokio::select! {
            clean = supervised.stop(console) => clean,
            name = signals.next() => {
                console.line(&format!("{name} once more: killed"));
                return Ok(ExitCode::from(KILLED));
            }
        };
        console.line(&if self.ephemeral {
            "stopped; the data is gone".to_owned()
        } else {
            kept(data)
        });
        Ok(if clean {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

fn kept(data: &DataDir) -> String {
    format!(
        "stopped; the data stays in {} (`{}` deletes it)",
        data.path().display(),
        data.reset_command()
    )
}

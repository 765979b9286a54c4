//! `cargo xtask up`: start everything, announce it, keep it running, stop it.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use freehold_tests::services::{ORDERS_SERVICE, USER_SERVICE};
use tokio::task::JoinSet;

use crate::console::Console;
use crate::data_dir::{self, DataDir};
use crate::driver::Driver;
use crate::options::Up;
use crate::signals::Signals;
use crate::simulation::{self, Scene};
use crate::status::Observed;
use crate::system::System;
use crate::{commands, describe, status};

/// What shells report for a program that Ctrl-C ended.
const KILLED: u8 = 130;

impl Up {
    pub fn run(self) -> Result<ExitCode> {
        let console = match self.json {
            true => Console::on_stderr(),
            false => Console::on_stdout(),
        };
        // The runtime is dropped first and kills what still runs; only then a temporary folder is deleted.
        let data = self.open_data()?;
        let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
        let result = runtime.block_on(self.run_until_stopped(&data, &console));
        console.end_live();
        console.flush();
        result
    }

    fn open_data(&self) -> Result<DataDir> {
        data_dir::sweep_temporary();
        match &self.data_dir {
            _ if self.ephemeral => DataDir::ephemeral(),
            Some(path) => DataDir::open(path),
            None => DataDir::open(&data_dir::default_path()),
        }
    }

    /// A signal during the start drops, and so kills, what runs by then; the files survive that.
    async fn run_until_stopped(&self, data: &DataDir, console: &Console) -> Result<ExitCode> {
        let start = Instant::now();
        let mut signals = Signals::new()?;
        let system = tokio::select! {
            system = System::start(self, data, console) => system?,
            name = signals.next() => {
                console.line(&format!("{name} before everything was up; stopped"));
                return Ok(ExitCode::FAILURE);
            }
        };
        console.about("ready", &format!("after {:.1?}\n", start.elapsed()));
        if let Err(error) = self.announce(&system, data, console) {
            system.supervise(console).stop(console).await;
            return Err(error);
        }
        self.keep_running(system, data, console, signals).await
    }

    /// One line for scripts, or the first screen for people. A failed write ends the run, because the script would
    /// wait for its line for ever; a closed pipe does not, because its reader has read enough.
    fn announce(&self, system: &System, data: &DataDir, console: &Console) -> Result<()> {
        commands::write(system, data, self.no_traffic)?;
        if !self.json {
            console.line(&describe::for_people(system, data, self));
            return Ok(());
        }
        // Not through the console, which writes to stderr here.
        let mut stdout = io::stdout().lock();
        let line = describe::json(system, data);
        match writeln!(stdout, "{line}").and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(error).context("cannot write the line for scripts to stdout")
            }
            _ => Ok(()),
        }
    }

    async fn keep_running(
        &self,
        system: System,
        data: &DataDir,
        console: &Console,
        mut signals: Signals,
    ) -> Result<ExitCode> {
        let tasks = self.background(&system, console);
        let supervised = system.supervise(console);
        let name = signals.next().await;
        drop(tasks);
        console.end_live();
        console.line(&format!("{name}: stopping (once more kills)"));
        let clean = tokio::select! {
            clean = supervised.stop(console) => clean,
            name = signals.next() => {
                console.line(&format!("{name} once more: killed"));
                return Ok(ExitCode::from(KILLED));
            }
        };
        console.line(&match self.ephemeral {
            true => "stopped; the data is deleted".to_owned(),
            false => format!(
                "stopped; the data stays in {} (`{}` deletes it)",
                data.path().display(),
                data.reset_command()
            ),
        });
        Ok(if clean {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }

    /// The networks' files, the simulation and the status line. Dropped, they stop. The networks are watched also for devices
    /// that were left out, since an operator may start one by its script.
    fn background(&self, system: &System, console: &Console) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        for device in &system.devices {
            tasks.spawn(device.driver.clone().watch_network(console.clone()));
        }
        let drivers: Vec<Driver> = system.running_drivers();
        let scene = Scene::new(system.users(), system.orders(), drivers, console);
        let whole = ![USER_SERVICE, ORDERS_SERVICE]
            .iter()
            .any(|it| system.leaves_out(it));
        if whole && !self.no_traffic {
            simulation::start(&scene, self.rate, &mut tasks);
        }
        let observed = system.services.iter().map(Observed::of).collect();
        tasks.spawn(status::show(scene, observed, console.clone()));
        tasks
    }
}

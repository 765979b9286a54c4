//! What a broker and a service have in common: started, stopped, killed, paused, and started again on the same port.

use std::fmt;
use std::io;
use std::process::ExitStatus;

use crate::process::{Launch, Process, StartError};

/// A program that we run as a child process; it may be stopped at the moment.
pub trait Part: fmt::Debug + Send + Sync {
    /// Its name in messages.
    fn name(&self) -> &str;

    /// How it is started.
    fn launch(&self) -> Launch;

    /// Waits until a child that was just started is ready, or returns why it never will be.
    fn until_ready(
        &self,
        process: &mut Process,
    ) -> impl Future<Output = Result<(), StartError>> + Send;

    /// Its process; `None` while it is stopped.
    fn process(&self) -> Option<&Process>;

    /// Holds the child while it runs. Emptying it kills the child.
    fn slot(&mut self) -> &mut Option<Process>;

    /// Starts it and waits until it is ready; at once when it runs already.
    fn start(&mut self) -> impl Future<Output = Result<(), StartError>> + Send
    where
        Self: Sized,
    {
        async {
            if self.is_running() {
                return Ok(());
            }
            self.clear();
            let mut process = Process::spawn(self.launch())?;
            self.until_ready(&mut process).await?;
            *self.slot() = Some(process);
            Ok(())
        }
    }

    /// As [`process`](Self::process), to kill or pause it.
    fn process_mut(&mut self) -> Option<&mut Process> {
        self.slot().as_mut()
    }

    /// Forgets the child, which kills it if it runs.
    fn clear(&mut self) {
        *self.slot() = None;
    }

    /// Its process number, while it runs or until its end was noticed.
    fn pid(&self) -> Option<u32> {
        self.process().map(Process::pid)
    }

    /// Whether its process lives.
    fn is_running(&mut self) -> bool {
        self.process_mut()
            .is_some_and(|process| process.exit_status().is_none())
    }

    /// How it ended, if it ended by itself.
    fn exit_status(&mut self) -> Option<ExitStatus> {
        self.process_mut().and_then(Process::exit_status)
    }

    /// Stops it gracefully, with SIGTERM. If it does not end in time it is killed, and that is an error.
    fn stop(&mut self) -> impl Future<Output = io::Result<Option<ExitStatus>>> + Send
    where
        Self: Sized,
    {
        async {
            let Some(process) = self.process_mut() else {
                return Ok(None);
            };
            let ended = process.stop().await;
            self.clear();
            ended.map(Some)
        }
    }

    /// SIGKILL; it has ended when this returns.
    fn kill(&mut self) {
        if let Some(process) = self.process_mut() {
            process.kill();
        }
        self.clear();
    }

    /// Whether it runs in a state that only a restart can repair.
    fn needs_restart(&self) -> bool {
        false
    }

    /// SIGSTOP: it neither responds nor ends.
    fn pause(&self) {
        self.process().inspect(|process| process.pause());
    }

    /// SIGCONT.
    fn resume(&self) {
        self.process().inspect(|process| process.resume());
    }

    /// The last lines it wrote since its latest start.
    fn log_tail(&self, lines: usize) -> String {
        self.process()
            .map_or_else(String::new, |process| process.logs().tail(lines))
    }
}

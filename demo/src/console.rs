//! What people see: lines one after the other and, on a terminal, a status line that stays below them.
//!
//! Not `indicatif`: it writes on the caller's thread, and a terminal that is stopped (Ctrl-S) would stop the system.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::interval;

/// Writes for people: on stdout, or on stderr with `--json`, which keeps stdout for its one line. A thread of its own
/// writes. A terminal or pipe that is stuck or closed loses lines; it never blocks the system. Clones share the output.
#[derive(Clone)]
pub(crate) struct Console {
    out: Arc<Mutex<Out>>,
    pub(crate) is_terminal: bool,
}

struct Out {
    jobs: SyncSender<Job>,
    /// The text of the status line; empty when there is none.
    live: String,
}

/// Work for the writing thread.
type Job = Box<dyn FnOnce(&mut dyn Write) + Send>;

/// Lines that may wait to be written; more are dropped.
const MAX_WAITING: usize = 1024;
/// How long the program waits at its end for the last lines.
const MAX_FLUSH_TIME: Duration = Duration::from_secs(1);
/// How often a person reads that something is still under way.
const PATIENCE: Duration = Duration::from_secs(2);
const ERASE_LINE: &str = "\r\x1b[2K";
/// A status line wider than the terminal would wrap, and the next one could not erase it.
const CUT_OFF: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

impl Console {
    pub(crate) fn on_stdout() -> Console {
        Console::on(Box::new(io::stdout()), io::stdout().is_terminal())
    }

    pub(crate) fn on_stderr() -> Console {
        Console::on(Box::new(io::stderr()), io::stderr().is_terminal())
    }

    fn on(mut stream: Box<dyn Write + Send>, is_terminal: bool) -> Console {
        let (jobs, waiting) = sync_channel::<Job>(MAX_WAITING);
        thread::spawn(move || waiting.into_iter().for_each(|job| job(&mut stream)));
        let live = String::new();
        Console {
            out: Arc::new(Mutex::new(Out { jobs, live })),
            is_terminal,
        }
    }

    /// Waits, with a limit, until everything is written. Call it before the program ends.
    pub(crate) fn flush(&self) {
        let (written, all_written) = channel::<()>();
        let _full = self.out().jobs.try_send(Box::new(move |_| drop(written)));
        let _late = all_written.recv_timeout(MAX_FLUSH_TIME);
    }

    pub(crate) fn line(&self, text: &str) {
        let out = self.out();
        match out.live.as_str() {
            "" => out.write(format!("{text}\n")),
            live => out.write(format!("{ERASE_LINE}{text}\n{}", live_line(live))),
        }
    }

    /// Two columns: the topic, and the message.
    pub(crate) fn about(&self, topic: &str, text: &str) {
        self.line(&format!("  {topic:<15} {text}"));
    }

    /// Replaces the status line. Call it only on a terminal.
    pub(crate) fn live(&self, text: &str) {
        let mut out = self.out();
        text.clone_into(&mut out.live);
        out.write(live_line(text));
    }

    /// Removes the status line.
    pub(crate) fn end_live(&self) {
        let mut out = self.out();
        if !std::mem::take(&mut out.live).is_empty() {
            out.write(format!("{ERASE_LINE}{WRAP}"));
        }
    }

    /// Waits for the work and says every two seconds that it is still under way: on a terminal in the status line, which is gone
    /// afterwards, so that a slow start does not push the first screen out of sight.
    pub(crate) async fn while_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let mut work = pin!(work);
        let mut ticks = interval(PATIENCE);
        ticks.tick().await; // the first tick comes at once
        loop {
            tokio::select! {
                result = &mut work => {
                    self.end_live();
                    return result;
                }
                _ = ticks.tick() => self.progress(&format!("{what}, {} s so far", start.elapsed().as_secs())),
            }
        }
    }

    fn progress(&self, text: &str) {
        match self.is_terminal {
            true => self.live(&format!("  {text}")),
            false => self.about("", text),
        }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn live_line(text: &str) -> String {
    format!("{ERASE_LINE}{CUT_OFF}{text}{WRAP}")
}

impl Out {
    fn write(&self, text: String) {
        let _full = self.jobs.try_send(Box::new(move |stream| {
            let _gone = write!(stream, "{text}").and_then(|()| stream.flush());
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_goes_above_the_status_line() {
        let paper = Paper::default();
        let console = Console::on(Box::new(paper.clone()), true);
        console.line("one");
        console.live("5/s");
        console.line("two");
        console.end_live();
        console.flush();
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        let live = format!("{ERASE_LINE}{CUT_OFF}5/s{WRAP}");
        assert_eq!(
            text,
            format!("one\n{live}{ERASE_LINE}two\n{live}{ERASE_LINE}{WRAP}")
        );
    }

    /// Writes nothing until its sender is dropped.
    struct Stalled(std::sync::mpsc::Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_terminal_blocks_no_caller() {
        let ((_stall, stalled), (finished, all_finished)) = (channel(), channel());
        thread::spawn(move || {
            let console = Console::on(Box::new(Stalled(stalled)), false);
            (0..2 * MAX_WAITING).for_each(|_| console.line("more"));
            console.flush();
            finished.send(()).unwrap();
        });
        let deadline = Duration::from_secs(60);
        assert_eq!(all_finished.recv_timeout(deadline), Ok(()));
    }
}

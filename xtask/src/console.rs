//! What people see: lines, one after the other, and on a terminal a live line that stays below them.

use std::io::{self, IsTerminal, Write};
use std::pin::pin;
use std::sync::mpsc::{SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::time::interval;

/// Writes for people. With `--json` that is stderr, so that stdout carries nothing but the one line. A thread writes: a
/// terminal or a pipe that takes nothing, or is gone, costs lines and must not stop the system.
pub(crate) struct Console {
    out: Mutex<Out>,
    terminal: bool,
}

struct Out {
    jobs: SyncSender<Job>,
    live: String,
}

/// For the thread that writes.
type Job = Box<dyn FnOnce(&mut dyn Write) + Send>;

/// Lines that may wait to be written; more are dropped.
const MAX_WAITING: usize = 1024;
/// How long the end of the program waits for the last ones.
const MAX_FLUSH_TIME: Duration = Duration::from_secs(1);

/// Whoever waits longer than this is told what for.
const PATIENCE: Duration = Duration::from_secs(2);
const ERASE_LINE: &str = "\r\x1b[2K";
/// A live line longer than the terminal is wide would wrap, and the next one could not erase it.
const CUT_OFF: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

impl Console {
    pub(crate) fn on_stdout() -> Console {
        Console::on(Box::new(io::stdout()), io::stdout().is_terminal())
    }

    pub(crate) fn on_stderr() -> Console {
        Console::on(Box::new(io::stderr()), io::stderr().is_terminal())
    }

    fn on(mut stream: Box<dyn Write + Send>, terminal: bool) -> Console {
        let (jobs, waiting) = sync_channel::<Job>(MAX_WAITING);
        thread::spawn(move || waiting.into_iter().for_each(|job| job(&mut stream)));
        Console {
            out: Mutex::new(Out {
                jobs,
                live: String::new(),
            }),
            terminal,
        }
    }

    /// Waits until all is written, but not for long. To be called before the program ends, or another one writes.
    pub(crate) fn flush(&self) {
        let (written, all_written) = channel::<()>();
        let out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _full = out.jobs.try_send(Box::new(move |_| drop(written)));
        drop(out);
        let _late = all_written.recv_timeout(MAX_FLUSH_TIME);
    }

    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    pub(crate) fn line(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let live = out.live.clone();
        let text = if live.is_empty() {
            format!("{text}\n")
        } else {
            format!("{ERASE_LINE}{text}\n{}", live_line(&live))
        };
        out.write(&text);
    }

    /// Two columns: what it is about, and what there is to say.
    pub(crate) fn about(&self, topic: &str, text: &str) {
        self.line(&format!("  {topic:<15} {text}"));
    }

    /// Replaces the live line. Only on a terminal.
    pub(crate) fn live(&self, text: &str) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        out.live = text.to_owned();
        out.write(&live_line(text));
    }

    /// The live line is over; what follows starts on a line of its own.
    pub(crate) fn end_live(&self) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if !out.live.is_empty() {
            out.live.clear();
            out.write(&format!("{ERASE_LINE}{WRAP}"));
        }
    }

    /// Waits for something and says so every two seconds.
    pub(crate) async fn while_waiting<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let start = Instant::now();
        let mut work = pin!(work);
        let mut ticks = interval(PATIENCE);
        ticks.tick().await; // the first comes at once
        loop {
            tokio::select! {
                result = &mut work => return result,
                _ = ticks.tick() => self.about("", &format!("{what}, {} s so far", start.elapsed().as_secs())),
            }
        }
    }
}

fn live_line(text: &str) -> String {
    format!("{ERASE_LINE}{CUT_OFF}{text}{WRAP}")
}

impl Out {
    fn write(&mut self, text: &str) {
        let text = text.to_owned();
        let _full = self.jobs.try_send(Box::new(move |stream| {
            let _gone = stream
                .write_all(text.as_bytes())
                .and_then(|()| stream.flush());
        }));
    }
}

/// `0.3 s`, `2 min 5 s`.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

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
    fn a_line_goes_above_the_live_one() {
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

    /// Takes nothing until it is let.
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
    fn a_console_that_takes_nothing_keeps_no_one_waiting() {
        let ((_stall, stalled), (said, all_said)) = (channel(), channel());
        thread::spawn(move || {
            let console = Console::on(Box::new(Stalled(stalled)), false);
            (0..2 * MAX_WAITING).for_each(|_| console.line("more"));
            console.flush();
            said.send(()).unwrap();
        });
        let deadline = Duration::from_secs(60);
        assert_eq!(all_said.recv_timeout(deadline), Ok(()));
    }

    #[test]
    fn durations_read_like_speech() {
        assert_eq!(human(Duration::from_millis(340)), "0.3 s");
        assert_eq!(human(Duration::from_secs(125)), "2 min 5 s");
    }
}

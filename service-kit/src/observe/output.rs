//! What a program writes to stdout and stderr.
//!
//! - stdout carries a command's answer. It is written, or the command fails; only a reader that has seen enough may go.
//! - stderr is best effort. A line waits in a bounded queue for one thread, so that a reader that stalls or is gone and a
//!   full disk cost lines and nothing else. Lost lines are counted, and reported once lines can be written again.
//!
//! `tracing-appender` has such a queue, but tells its own troubles with `eprintln!`, which stalls and panics with stderr.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::{Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;
use std::{fmt, thread};

/// What may wait for stderr: some thousand lines.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// How long the end of a program waits for stderr to take the last lines.
const MAX_FLUSH_TIME: Duration = Duration::from_secs(1);
/// Another process has made stderr non-blocking, and it takes nothing at the moment.
const PAUSE: Duration = Duration::from_millis(20);

static STDERR: Queue = Queue::new();
static WRITER: Once = Once::new();

/// Prints all of a command's answer. `false`: the reader has closed the pipe.
pub(crate) fn print(text: &str) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// A line for people, behind the log lines that already wait.
pub(crate) fn note(line: impl fmt::Display) {
    Stderr.send(format!("{line}\n").as_bytes());
}

/// Waits until stderr has taken what waits, but not for long. To be called before the process ends.
pub(crate) fn flush_stderr() {
    STDERR.flush(MAX_FLUSH_TIME);
}

/// Since the start.
pub(crate) fn dropped_lines() -> u64 {
    STDERR.lock().dropped
}

/// Takes whole lines, at once and without an error.
#[derive(Clone, Copy)]
pub(crate) struct Stderr;

impl Stderr {
    fn send(self, lines: &[u8]) {
        WRITER.call_once(|| {
            let write = |bytes: &[u8]| Ok(rustix::io::write(io::stderr(), bytes)?);
            // Without a thread to write them the lines are dropped and counted.
            let _ = thread::Builder::new()
                .name("stderr".to_owned())
                .spawn(move || STDERR.write_out(write));
        });
        STDERR.push(lines);
    }
}

impl Write for Stderr {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.send(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

struct Waiting {
    lines: VecDeque<Box<[u8]>>,
    /// With the line that is being written.
    bytes: usize,
    dropped: u64,
    /// Of the dropped ones, those that no line has reported.
    unreported: u64,
}

impl Queue {
    const fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                lines: VecDeque::new(),
                bytes: 0,
                dropped: 0,
                unreported: 0,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: &[u8]) {
        let mut waiting = self.lock();
        if waiting.bytes + line.len() > MAX_WAITING_BYTES {
            return waiting.lose_one();
        }
        waiting.bytes += line.len();
        waiting.lines.push_back(line.into());
        self.changed.notify_all();
    }

    fn write_out(&self, mut write: impl FnMut(&[u8]) -> io::Result<usize>) {
        let mut torn = false;
        loop {
            let line = self.next();
            let written = write_line(&mut write, &line, &mut torn);
            let lost = self.done(&line, written.is_ok());
            if lost > 0 {
                tracing::warn!(lines = lost, "log lines were dropped: stderr took none");
            }
        }
    }

    fn next(&self) -> Box<[u8]> {
        let mut waiting = self.lock();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                return line;
            }
            let changed = self.changed.wait(waiting);
            waiting = changed.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// How many lines were lost, once there is room for a line that says so.
    fn done(&self, line: &[u8], written: bool) -> u64 {
        let mut waiting = self.lock();
        waiting.bytes -= line.len();
        self.changed.notify_all();
        if !written {
            waiting.lose_one();
        }
        match written && waiting.lines.is_empty() {
            true => std::mem::take(&mut waiting.unreported),
            false => 0,
        }
    }

    fn flush(&self, limit: Duration) {
        let some = |waiting: &mut Waiting| waiting.bytes > 0;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, some);
        drop(waited);
    }
}

impl Waiting {
    fn lose_one(&mut self) {
        self.dropped += 1;
        self.unreported += 1;
    }
}

/// A full disk may take a part of a line: then the next one begins on a line of its own.
fn write_line(
    write: &mut impl FnMut(&[u8]) -> io::Result<usize>,
    line: &[u8],
    torn: &mut bool,
) -> io::Result<()> {
    let begin: &[u8] = if *torn { b"\n" } else { b"" };
    let text = [begin, line].concat();
    let mut left = &text[..];
    while !left.is_empty() {
        match write(left) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                left = &left[count..];
                *torn = !left.is_empty();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Takes so many bytes, then has no room for a while.
    fn write_through(room: &[usize], lines: &[&str]) -> (String, usize) {
        let (mut room, mut paper, mut torn) = (room.iter(), Vec::new(), false);
        let mut write = |bytes: &[u8]| match room.next() {
            Some(0) => Err(ErrorKind::StorageFull.into()),
            taken => {
                let taken = taken.map_or(bytes.len(), |taken| bytes.len().min(*taken));
                paper.extend_from_slice(&bytes[..taken]);
                Ok(taken)
            }
        };
        let failed = lines.iter().filter(|line| {
            let written = write_line(&mut write, line.as_bytes(), &mut torn);
            written.is_err()
        });
        let failed = failed.count();
        (String::from_utf8(paper).unwrap(), failed)
    }

    #[test]
    fn a_torn_line_does_not_run_into_the_next_one() {
        let lines = ["first\n", "second\n", "third\n"];
        let whole = "first\nsecond\nthird\n";
        assert_eq!(write_through(&[], &lines), (whole.to_owned(), 0));
        assert_eq!(write_through(&[2, 1], &lines), (whole.to_owned(), 0));
        for (room, paper, failed) in [
            (&[0][..], "second\nthird\n", 1),
            (&[3, 0], "fir\nsecond\nthird\n", 1),
            (&[3, 0, 0], "fir\nthird\n", 2),
            (&[3, 0, 1, 0], "fir\n\nthird\n", 2),
        ] {
            assert_eq!(write_through(room, &lines), (paper.to_owned(), failed));
        }
    }

    #[test]
    fn a_reader_that_stalls_costs_lines_which_are_counted() {
        static QUEUE: Queue = Queue::new();
        let (go_on, stalled) = mpsc::channel::<()>();
        thread::spawn(move || {
            QUEUE.write_out(|bytes| {
                let _ = stalled.recv();
                Ok(bytes.len())
            });
        });
        let line = [b'x'; MAX_WAITING_BYTES / 4];
        (0..6).for_each(|_| QUEUE.push(&line));
        assert_eq!(QUEUE.lock().dropped, 2);
        QUEUE.flush(Duration::from_millis(1)); // returns although nothing moves
        drop(go_on);
        QUEUE.flush(Duration::from_secs(60));
        QUEUE.push(&line);
        QUEUE.flush(Duration::from_secs(60));
        let end = QUEUE.lock();
        assert_eq!((end.bytes, end.dropped, end.unreported), (0, 2, 0));
    }
}

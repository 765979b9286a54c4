//! What a program writes to stdout and stderr.
//!
//! - stdout carries a command's answer. It is written in full or the command fails, except that its reader may close the pipe.
//! - stderr is best effort. One thread writes the lines of a bounded queue, so a stalled or closed reader and a full disk cost
//!   lines and nothing else. Dropped lines are counted, and reported once lines can be written again.
//!
//! `tracing-appender` has such a queue, but reports its own errors with `eprintln!`, which stalls and panics with stderr.

use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};
use std::{fmt, thread};

/// The lines that may wait for stderr: some thousand.
const MAX_WAITING_BYTES: usize = 1 << 20;
/// How long the end of a program waits for stderr to take the last lines.
const MAX_FLUSH_TIME: Duration = Duration::from_secs(1);
/// Another process has made stderr non-blocking, and it takes nothing at the moment.
const PAUSE: Duration = Duration::from_millis(20);

static STDERR: LazyLock<Queue> =
    LazyLock::new(|| Queue::start(|bytes| Ok(rustix::io::write(io::stderr(), bytes)?)));

/// Prints all of a command's answer. `false`: the reader has closed the pipe.
///
/// # Errors
///
/// Stdout cannot be written for another reason, such as a full disk behind a redirection.
pub fn print(text: &str) -> io::Result<bool> {
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
pub fn note(line: impl fmt::Display) {
    STDERR.push(format!("{line}\n").as_bytes());
}

/// Waits, but not for long, until stderr has taken every line. Call it before the process ends.
pub fn flush_stderr() {
    STDERR.flush(MAX_FLUSH_TIME);
}

/// Since the start.
pub fn dropped_lines() -> u64 {
    STDERR.counts.dropped.load(Ordering::Relaxed)
}

/// Takes whole lines, at once and without an error.
#[derive(Clone, Copy)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        STDERR.push(lines);
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Queue {
    lines: Sender<Box<[u8]>>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Including the line that is being written.
    waiting_bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl Queue {
    /// Starts the thread that writes. Without a thread every line is dropped and counted.
    fn start(write: impl FnMut(&[u8]) -> io::Result<usize> + Send + 'static) -> Self {
        let (lines, waiting) = mpsc::channel();
        let counts = Arc::<Counts>::default();
        let shared = counts.clone();
        let writer = thread::Builder::new().name("stderr".to_owned());
        let _ = writer.spawn(move || write_out(&waiting, &shared, write));
        Self { lines, counts }
    }

    fn push(&self, line: &[u8]) {
        let waiting = &self.counts.waiting_bytes;
        let before = waiting.fetch_add(line.len(), Ordering::Relaxed);
        let fits = before + line.len() <= MAX_WAITING_BYTES;
        if !fits || self.lines.send(line.into()).is_err() {
            waiting.fetch_sub(line.len(), Ordering::Relaxed);
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self, limit: Duration) {
        let began = Instant::now();
        while self.counts.waiting_bytes.load(Ordering::Acquire) > 0 && began.elapsed() < limit {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Reports dropped lines once no other line waits, so that there is room for the report.
fn write_out(
    lines: &Receiver<Box<[u8]>>,
    counts: &Counts,
    mut write: impl FnMut(&[u8]) -> io::Result<usize>,
) {
    let (mut torn, mut reported) = (false, 0);
    for line in lines {
        let written = write_line(&mut write, &line, &mut torn).is_ok();
        if !written {
            counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
        let lost = counts.dropped.load(Ordering::Relaxed) - reported;
        let is_last = counts.waiting_bytes.load(Ordering::Relaxed) == line.len();
        if written && is_last && lost > 0 {
            reported += lost;
            tracing::warn!(lines = lost, "log lines were dropped: stderr took none");
        }
        counts
            .waiting_bytes
            .fetch_sub(line.len(), Ordering::Release);
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
        let (go_on, stalled) = mpsc::channel::<()>();
        let queue = Queue::start(move |bytes| {
            let _ = stalled.recv();
            Ok(bytes.len())
        });
        let line = [b'x'; MAX_WAITING_BYTES / 4];
        (0..6).for_each(|_| queue.push(&line));
        let dropped = || queue.counts.dropped.load(Ordering::Relaxed);
        assert_eq!(dropped(), 2);
        queue.flush(Duration::from_millis(1)); // returns although nothing moves
        drop(go_on);
        queue.flush(Duration::from_secs(60));
        queue.push(&line);
        queue.flush(Duration::from_secs(60));
        let left = queue.counts.waiting_bytes.load(Ordering::Relaxed);
        assert_eq!((left, dropped()), (0, 2));
    }
}

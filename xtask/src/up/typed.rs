//! What a person types while the system runs: `offline 1`, `online 1`.

use std::io::{self, BufRead, IsTerminal};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::crew::{Driver, name_of};
use crate::console::Console;

#[derive(Debug, PartialEq, Eq)]
struct Wish {
    number: usize,
    on: bool,
}

const HELP: &str =
    "what can be typed here: `offline 1`, `online 1`, and the same with 2; Ctrl-C stops everything";
const LOOK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 300_000_000,
};
const PAUSE: Duration = Duration::from_millis(300);

/// Listens as long as the process lives, when there is a terminal to type at.
pub(super) fn listen(drivers: Vec<Driver>, console: &Arc<Console>) {
    let console = Arc::clone(console);
    if io::stdin().is_terminal() && !drivers.is_empty() {
        // A thread, not a task: a read that waits would keep the runtime from ending.
        thread::spawn(move || while_there_is_input(|line| obey(line, &drivers, &console)));
    }
}

/// Whoever reads from the terminal in the background is stopped, so we read only what is there, and only in the foreground.
fn while_there_is_input(mut heard: impl FnMut(&str)) {
    let mut stdin = io::stdin().lock();
    loop {
        if !in_foreground() {
            thread::sleep(PAUSE);
        } else if has_input() {
            let taken = match stdin.fill_buf() {
                Ok(bytes) if !bytes.is_empty() => {
                    String::from_utf8_lossy(bytes).lines().for_each(&mut heard);
                    bytes.len()
                }
                _ => return,
            };
            stdin.consume(taken);
        }
    }
}

fn in_foreground() -> bool {
    let ours = rustix::process::getpgrp();
    rustix::termios::tcgetpgrp(rustix::stdio::stdin()).is_ok_and(|group| group == ours)
}

fn has_input() -> bool {
    let stdin = rustix::stdio::stdin();
    let mut asked = [PollFd::new(&stdin, PollFlags::IN)];
    poll(&mut asked, Some(&LOOK)).is_ok_and(|ready| ready > 0)
}

fn obey(line: &str, drivers: &[Driver], console: &Console) {
    if line.trim().is_empty() {
        return;
    }
    let wish = Wish::parse(line);
    let meant = wish.and_then(|wish| {
        let driver = drivers.iter().find(|driver| driver.number == wish.number)?;
        Some((driver, wish.on))
    });
    let Some((driver, on)) = meant else {
        return console.about("", HELP);
    };
    if let Err(error) = driver.network.turn(on) {
        let file = driver.network.file().display();
        console.about(&name_of(driver.number), &format!("{file}: {error}"));
    }
}

impl Wish {
    fn parse(line: &str) -> Option<Wish> {
        let mut words = line.split_whitespace();
        let on = match words.next()? {
            "online" => true,
            "offline" => false,
            _ => return None,
        };
        let number = words.next()?.trim_start_matches("driver-").parse().ok()?;
        words.next().is_none().then_some(Wish { number, on })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_meant_by_number_and_anything_else_is_not_understood() {
        let wish = |number, on| Some(Wish { number, on });
        assert_eq!(Wish::parse(" offline 1 "), wish(1, false));
        assert_eq!(Wish::parse("online driver-2"), wish(2, true));
        for odd in ["offline", "offline mia", "online 1 2", "help", ""] {
            assert_eq!(Wish::parse(odd), None, "{odd:?}");
        }
    }
}

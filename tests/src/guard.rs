//! Children never outlive us, not even when we are killed with SIGKILL.
//!
//! One tiny shell per process of ours stands beside us in a process group of its own. It is told of each child that starts
//! (`+PID`) and ends (`-PID`) over a pipe. When the pipe closes, which the kernel does however we ended, it kills the
//! process groups that are left. Ctrl-C, SIGTERM and SIGHUP do not impress it: they are for us, and we end first.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The guard of this process; it starts with the first child.
#[derive(Debug)]
pub struct Guard {
    shell: Mutex<Child>,
}

const SCRIPT: &str = r#"
trap '' INT TERM HUP
alive=' '
while read -r line; do
  pid=${line#?}
  case $line in
    +*) alive="$alive$pid " ;;
    -*) case $alive in *" $pid "*) alive="${alive%%" $pid "*} ${alive#*" $pid "}" ;; esac ;;
  esac
done
for pid in $alive; do kill -s KILL -- "-$pid"; done
"#;

impl Guard {
    /// One for the whole process, never dropped: its pipe closes when we end.
    pub fn of_this_process() -> io::Result<&'static Guard> {
        static GUARD: OnceLock<Guard> = OnceLock::new();
        static STARTING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        match GUARD.get() {
            Some(guard) => Ok(guard),
            None => Guard::start().map(|guard| GUARD.get_or_init(|| guard)),
        }
    }

    /// From now on the process group of this child dies with us.
    pub fn watch(&self, pid: u32) -> io::Result<()> {
        self.tell(format!("+{pid}\n"))
    }

    /// The child has ended and its number may soon be somebody else's.
    pub fn forget(&self, pid: u32) -> io::Result<()> {
        self.tell(format!("-{pid}\n"))
    }

    /// Its output goes nowhere: holding our stdout open would make `cargo test | tail` wait for it.
    fn start() -> io::Result<Guard> {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        Ok(Guard {
            shell: Mutex::new(shell),
        })
    }

    /// One short write, so lines of several threads never mix.
    fn tell(&self, line: String) -> io::Result<()> {
        let mut shell = self.shell.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = shell.stdin.as_mut().expect("the pipe is ours until we end");
        pipe.write_all(line.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::{eventually, seconds};

    fn sleeper() -> Child {
        Command::new("sleep")
            .arg("1000")
            .process_group(0)
            .spawn()
            .expect("sleep starts")
    }

    #[tokio::test]
    async fn when_the_pipe_closes_it_kills_who_is_left_and_nobody_else() {
        let guard = Guard::start().expect("the guard starts");
        let (mut watched, mut forgotten) = (sleeper(), sleeper());
        for child in [&watched, &forgotten] {
            guard.watch(child.id()).expect("told");
        }
        guard.forget(forgotten.id()).expect("told");
        drop(guard);
        eventually("killed", seconds(10), async || {
            watched.try_wait().expect("ours").ok_or("still alive")
        })
        .await;
        assert!(
            forgotten.try_wait().expect("ours").is_none(),
            "a forgotten child was killed"
        );
        forgotten.kill().expect("ours");
        forgotten.wait().expect("ours");
    }
}

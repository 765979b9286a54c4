//! A child process: its own process group, its output in files, registered with the guard before its first instruction.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::future::ready;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::eventually::within;
use crate::guard::Guard;

/// A running child; dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    child: Child,
    logs: Logs,
    /// Once set, the kernel may reuse its number, so we do not use it again.
    ended: Option<ExitStatus>,
}

/// What to start, with which arguments and environment, and where its output goes (`NAME.out`, `NAME.log`).
#[derive(Clone, Debug)]
pub struct Launch {
    /// Its name in messages and in the names of its logs.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Its variables, besides ours.
    pub env: Vec<(String, String)>,
    /// The folder for its logs.
    pub logs: PathBuf,
    /// Where the child runs; by default where we run.
    pub folder: Option<PathBuf>,
}

/// The two output files of a child, read from the beginning of this start.
#[derive(Clone, Debug)]
pub struct Logs {
    out: Tail,
    err: Tail,
}

/// A failed start: the child's output, and how it ended if it did.
#[derive(Debug, thiserror::Error)]
pub struct StartError {
    /// The name of the process.
    pub name: String,
    /// What went wrong.
    pub reason: String,
    /// How it ended, if it did.
    pub status: Option<ExitStatus>,
    /// The end of what it wrote to stderr.
    pub log: String,
}

/// How long a child may take to end after SIGTERM before it is killed and reported.
pub const STOP_DEADLINE: Duration = Duration::from_secs(15);
/// The child waits for a line from us, which comes once the guard has it. If we die before, it reads the end of input and starts
/// nothing.
const HELD: &str = r#"read -r go && exec "$0" "$@" </dev/null"#;
/// How much of a log a failure shows.
pub const TAIL_LINES: usize = 20;

impl Launch {
    /// A program without arguments.
    pub fn of(name: &str, program: impl Into<PathBuf>, logs: impl Into<PathBuf>) -> Launch {
        Launch {
            name: name.to_owned(),
            program: program.into(),
            args: vec![],
            env: vec![],
            logs: logs.into(),
            folder: None,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Launch {
        self.args.push(arg.into());
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Launch {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// FREEHOLD_ variables of the caller's shell must not reach the child: it gets exactly the given ones.
    fn command(&self, logs: &Logs) -> io::Result<Command> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", HELD])
            .arg(&self.program)
            .args(&self.args)
            .process_group(0);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("FREEHOLD_"))
        {
            command.env_remove(name);
        }
        command.envs(self.env.iter().cloned());
        command
            .stdin(Stdio::piped())
            .stdout(logs.out.append()?)
            .stderr(logs.err.append()?);
        Ok(command)
    }

    fn failed(&self, error: impl fmt::Display) -> StartError {
        let reason = format!("cannot be started: {error}");
        StartError {
            name: self.name.clone(),
            reason,
            status: None,
            log: String::new(),
        }
    }
}

impl Process {
    /// Starts it. It is killed with us.
    pub fn spawn(launch: Launch) -> Result<Process, StartError> {
        if !launch.program.is_file() {
            return Err(launch.failed(format_args!("there is no {}", launch.program.display())));
        }
        Process::spawn_held(&launch).map_err(|error| launch.failed(error))
    }

    fn spawn_held(launch: &Launch) -> io::Result<Process> {
        let guard = Guard::of_this_process()?;
        let logs = Logs::open(&launch.logs, &launch.name)?;
        let child = launch.command(&logs)?.spawn()?;
        let mut process = Process {
            child,
            logs,
            ended: None,
        };
        guard.watch(process.pid())?;
        process.let_go()?;
        Ok(process)
    }

    fn let_go(&mut self) -> io::Result<()> {
        let mut word = self
            .child
            .stdin
            .take()
            .expect("its stdin is a pipe of ours");
        word.write_all(b"go\n")
    }

    /// Its number at the kernel.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it writes.
    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
            self.forget_if_ended();
        }
        self.ended
    }

    /// SIGTERM, then SIGKILL for a child that does not end in time, which is an error.
    pub async fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let ended = within(STOP_DEADLINE, || {
            ready(self.exit_status().ok_or("it still runs"))
        })
        .await;
        ended.map_err(|_| {
            self.kill();
            let what = format!("it did not stop within {STOP_DEADLINE:?} of SIGTERM");
            io::Error::new(io::ErrorKind::TimedOut, what)
        })
    }

    /// SIGKILL, to it and its own children. Waits for its end, so that its port and files are free.
    pub fn kill(&mut self) {
        if self.ended.is_none() {
            self.signal(Signal::KILL);
            self.ended = self.child.wait().ok();
            self.forget_if_ended();
        }
    }

    /// Pauses it: a machine that hangs.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until a pause has reached every thread: until then one may still respond.
    pub async fn until_paused(&self) -> io::Result<()> {
        let stopped = within(STOP_DEADLINE, || ready(all_threads_stopped(self.pid())));
        stopped.await.map_err(io::Error::other)
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let (Some(group), None) = (group, self.ended) {
            // The only possible error is that the group is gone, and then there is nothing to signal.
            let _gone = kill_process_group(group, signal);
        }
    }

    fn forget_if_ended(&self) {
        if let (Some(_), Ok(guard)) = (self.ended, Guard::of_this_process()) {
            // A guard that is gone kills no process.
            let _told = guard.forget(self.pid());
        }
    }

    pub(crate) fn failed(&mut self, name: &str, reason: impl Into<String>) -> StartError {
        let status = self.exit_status();
        StartError {
            name: name.to_owned(),
            reason: reason.into(),
            status,
            log: self.logs.tail(TAIL_LINES),
        }
    }
}

/// The state is the first word behind the name, which is in brackets and may contain any character (proc(5)).
fn all_threads_stopped(pid: u32) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot look at process {pid}: {error}");
    for thread in fs::read_dir(format!("/proc/{pid}/task")).map_err(failed)? {
        let stat = fs::read_to_string(thread.map_err(failed)?.path().join("stat"));
        let stat = stat.map_err(failed)?;
        let state = stat.rsplit(") ").next().unwrap_or_default();
        if !state.starts_with(['T', 't']) {
            return Err(format!("a thread of process {pid} still runs: {stat}"));
        }
    }
    Ok(())
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.reason)?;
        if let Some(status) = self.status {
            write!(f, " ({status})")?;
        }
        if !self.log.is_empty() {
            write!(f, "; its last lines:\n{}", indented(&self.log))?;
        }
        Ok(())
    }
}

fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  | {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

impl Logs {
    fn open(folder: &Path, name: &str) -> io::Result<Logs> {
        fs::create_dir_all(folder)?;
        Ok(Logs {
            out: Tail::of(folder.join(format!("{name}.out")))?,
            err: Tail::of(folder.join(format!("{name}.log")))?,
        })
    }

    /// The stdout of this start so far.
    pub fn stdout(&self) -> String {
        self.out.text()
    }

    /// The stderr of this start so far.
    pub fn stderr(&self) -> String {
        self.err.text()
    }

    /// The last lines of this start, preferably of stderr: services log there.
    pub fn tail(&self, count: usize) -> String {
        let text = [self.stdout(), self.stderr()].concat();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(count)..].join("\n")
    }
}

/// A file, and the offset from which we read it.
#[derive(Clone, Debug)]
struct Tail {
    path: PathBuf,
    from: u64,
}

impl Tail {
    fn of(path: PathBuf) -> io::Result<Tail> {
        let from = fs::metadata(&path).map_or(0, |file| file.len());
        Ok(Tail { path, from })
    }

    fn append(&self) -> io::Result<File> {
        File::options().append(true).create(true).open(&self.path)
    }

    /// A log that cannot be read must not hide the failure it was asked about, so the error replaces the text.
    fn text(&self) -> String {
        self.read()
            .unwrap_or_else(|error| format!("(cannot read {}: {error})", self.path.display()))
    }

    fn read(&self) -> io::Result<String> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::{eventually, seconds};

    fn shell(script: &str, folder: &Path) -> Process {
        let launch = Launch::of("child", "/bin/sh", folder).arg("-c").arg(script);
        Process::spawn(launch).expect("the shell starts")
    }

    async fn said(child: &Process, word: &str) {
        let check = async || {
            if child.logs().stdout().contains(word) {
                Ok(())
            } else {
                Err(child.logs().stdout())
            }
        };
        eventually(word, seconds(10), check).await;
    }

    #[tokio::test]
    async fn a_child_stops_on_sigterm_and_its_exit_code_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell(
            "trap 'exit 7' TERM; echo ready; while :; do sleep 0.02; done",
            folder.path(),
        );
        said(&child, "ready").await;
        assert_eq!(child.stop().await.unwrap().code(), Some(7));
        assert!(child.exit_status().is_some());
    }

    #[tokio::test]
    async fn each_start_reads_only_its_own_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = shell("echo first; echo oops >&2", folder.path());
        eventually("it ends", seconds(10), async || {
            first.exit_status().ok_or("runs")
        })
        .await;
        let second = shell("echo second; sleep 100", folder.path());
        said(&second, "second").await;
        assert_eq!(second.logs().stdout(), "second\n");
        assert_eq!(first.logs().tail(1), "oops");
    }

    #[tokio::test]
    async fn a_kill_includes_the_grandchildren() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("sleep 1000 & echo $!; wait", folder.path());
        said(&child, "\n").await;
        let grandchild = child
            .logs()
            .stdout()
            .trim()
            .parse()
            .ok()
            .and_then(Pid::from_raw)
            .unwrap();
        child.kill();
        let gone = async || {
            rustix::process::test_kill_process(grandchild)
                .err()
                .ok_or("the grandchild lives")
        };
        eventually("all gone", seconds(10), gone).await;
    }

    #[test]
    fn a_missing_program_is_named() {
        let launch = Launch::of("ghost", "/nowhere/ghost", std::env::temp_dir());
        let refusal = Process::spawn(launch).expect_err("not there").to_string();
        assert_eq!(
            refusal,
            "ghost cannot be started: there is no /nowhere/ghost"
        );
    }

    #[tokio::test]
    async fn settings_of_the_callers_shell_do_not_reach_a_child() {
        let folder = tempfile::tempdir().unwrap();
        let launch = Launch::of("child", "/bin/sh", folder.path())
            .arg("-c")
            .arg("env | grep -c ^FREEHOLD_; echo end");
        let child = Process::spawn(launch.env("FREEHOLD_LISTEN", "x")).unwrap();
        said(&child, "end").await;
        assert_eq!(child.logs().stdout(), "1\nend\n");
    }
}

//! Children and temporary folders never outlive us, not even when we are killed with SIGKILL.
//!
//! One tiny shell per process of ours, the guard, runs in a process group of its own. Over a pipe it learns of each child that
//! starts (`+PID`) and ends (`-PID`). When the pipe closes, which the kernel does however we end, it kills the remaining process
//! groups, then deletes the folders it was given. It ignores Ctrl-C, SIGTERM and SIGHUP: they are for us, and we end first. If the guard is killed, we notice at the
//! next child that starts or ends, and a new guard learns of all living children.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The guard of this process; it starts with the first child.
#[derive(Debug)]
pub struct Guard {
    post: Mutex<Post>,
}

/// The running shell, and the state that the next one needs.
#[derive(Debug)]
struct Post {
    shell: Child,
    alive: BTreeSet<u32>,
    folders: BTreeSet<PathBuf>,
}

const SCRIPT: &str = r#"
trap '' INT TERM HUP
alive=' '
while read -r line; do
  pid=${line#?}
  case $line in
    +*) alive="$alive$pid " ;;
    /*) set -- "$@" "$line" ;;
    '~'*) for each; do shift; [ "$each" = "$pid" ] || set -- "$@" "$each"; done ;;
    -*) case $alive in *" $pid "*) alive="${alive%%" $pid "*} ${alive#*" $pid "}" ;; esac ;;
  esac
done
for pid in $alive; do kill -s KILL -- "-$pid"; done
for folder; do rm -rf -- "$folder"; done
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

    /// From now on the process group of this child is killed when we end.
    pub fn watch(&self, pid: u32) -> io::Result<()> {
        let mut post = self.post();
        post.alive.insert(pid);
        post.tell(&format!("+{pid}\n"))
    }

    /// The child has ended, and the kernel may soon reuse its number.
    pub fn forget(&self, pid: u32) -> io::Result<()> {
        let mut post = self.post();
        post.alive.remove(&pid);
        post.tell(&format!("-{pid}\n"))
    }

    /// From now on this folder, of an absolute path, is deleted when we end.
    pub fn delete(&self, folder: &Path) -> io::Result<()> {
        let mut post = self.post();
        post.folders.insert(folder.to_owned());
        post.tell(&format!("{}\n", folder.display()))
    }

    /// The folder is gone, or is to stay.
    pub fn keep(&self, folder: &Path) -> io::Result<()> {
        let mut post = self.post();
        post.folders.remove(folder);
        post.tell(&format!("~{}\n", folder.display()))
    }

    fn start() -> io::Result<Guard> {
        let post = Post {
            shell: shell()?,
            alive: BTreeSet::new(),
            folders: BTreeSet::new(),
        };
        Ok(Guard {
            post: Mutex::new(post),
        })
    }

    /// Held from the note to the write, so that lines of several threads never mix.
    fn post(&self) -> MutexGuard<'_, Post> {
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Post {
    fn tell(&mut self, line: &str) -> io::Result<()> {
        match self.write(line) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.relieve(),
            written => written,
        }
    }

    /// A new shell with every living child. The old one is killed before its pipe closes: it must not kill them.
    fn relieve(&mut self) -> io::Result<()> {
        self.shell.kill()?;
        self.shell.wait()?;
        self.shell = shell()?;
        let living: String = self.alive.iter().map(|pid| format!("+{pid}\n")).collect();
        let folders = self.folders.iter();
        let folders: String = folders
            .map(|path| format!("{}\n", path.display()))
            .collect();
        self.write(&(living + &folders))
    }

    fn write(&mut self, lines: &str) -> io::Result<()> {
        // It is missing if starting a new one failed; the next write tries again.
        let pipe = self.shell.stdin.as_mut();
        pipe.ok_or(io::ErrorKind::BrokenPipe)?
            .write_all(lines.as_bytes())
    }
}

/// Its output goes nowhere: holding our stdout open would make `cargo test | tail` wait for it.
fn shell() -> io::Result<Child> {
    Command::new("/bin/sh")
        .args(["-c", SCRIPT])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
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

    fn end(child: &mut Child) {
        child.kill().expect("ours");
        child.wait().expect("ours");
    }

    #[tokio::test]
    async fn when_the_pipe_closes_it_kills_the_remaining_children_and_no_others() {
        let guard = Guard::start().expect("the guard starts");
        let (mut watched, mut forgotten) = (sleeper(), sleeper());
        for child in [&watched, &forgotten] {
            guard.watch(child.id()).expect("written");
        }
        guard.forget(forgotten.id()).expect("written");
        drop(guard);
        eventually("killed", seconds(10), async || {
            watched.try_wait().expect("ours").ok_or("still alive")
        })
        .await;
        assert!(
            forgotten.try_wait().expect("ours").is_none(),
            "a forgotten child was killed"
        );
        end(&mut forgotten);
    }

    #[tokio::test]
    async fn when_the_pipe_closes_it_deletes_the_folders_that_are_not_to_stay() {
        let guard = Guard::start().expect("the guard starts");
        let root = tempfile::tempdir().expect("a folder");
        let [gone, kept] = ["is gone", "is kept"].map(|name| root.path().join(name));
        for folder in [&kept, &gone] {
            std::fs::create_dir(folder).expect("made");
            guard.delete(folder).expect("written");
        }
        guard.keep(&kept).expect("written");
        drop(guard);
        eventually("deleted", seconds(10), async || {
            (!gone.exists()).then_some(()).ok_or("it is there")
        })
        .await;
        assert!(kept.exists());
    }

    #[tokio::test]
    async fn a_killed_guard_is_replaced_by_one_with_every_living_child() {
        let guard = Guard::start().expect("the guard starts");
        let mut children = [sleeper(), sleeper()];
        guard.watch(children[0].id()).expect("written");
        guard.post().shell.kill().expect("ours");
        eventually("the guard is gone", seconds(10), async || {
            let ended = guard.post().shell.try_wait().expect("ours");
            ended.ok_or("it lives")
        })
        .await;

        guard
            .watch(children[1].id())
            .expect("written to the next guard");
        drop(guard);
        for child in &mut children {
            eventually("killed", seconds(10), async || {
                child.try_wait().expect("ours").ok_or("still alive")
            })
            .await;
        }
    }
}

//! However a test ends, no child, port or file of its world stays.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use freehold_harness::{Part, Port, World, eventually, seconds};
use rustix::process::{Pid, test_kill_process};

const SAID: &str = "the world: ";

/// What one world holds on this machine.
struct Held {
    child: Pid,
    port: u16,
    folder: PathBuf,
}

#[tokio::test]
#[ignore = "the other tests run it, in a process that they end"]
async fn a_world_until_it_is_told_to_panic() {
    let world = World::builder().start().await;
    let pid = world.broker.pid().expect("it runs");
    let port = world.broker.address().port();
    let folder = world.folder().display();
    writeln!(io::stdout(), "{SAID}{pid} {port} {folder}").expect("it is read");
    let mut line = String::new();
    io::stdin().read_line(&mut line).expect("a line");
    panic!("as told");
}

fn spawn() -> Child {
    let mut command = Command::new(env::current_exe().expect("this test is a file"));
    let name = "ends::a_world_until_it_is_told_to_panic";
    command.args([name, "--exact", "--ignored", "--nocapture"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.stderr(Stdio::null()).spawn().expect("it starts")
}

fn held(child: &mut Child) -> Held {
    let said = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let mut lines = said.lines().map_while(Result::ok);
    let line = lines.find_map(|line| Some(line.split_once(SAID)?.1.to_owned()));
    let line = line.expect("it says what it holds");
    let words: Vec<_> = line.splitn(3, ' ').collect();
    let pid = words[0].parse().ok().and_then(Pid::from_raw);
    Held {
        child: pid.expect("a process number"),
        port: words[1].parse().expect("a port"),
        folder: words[2].into(),
    }
}

async fn nothing_stays(held: &Held) {
    eventually("all is gone", seconds(30), async || {
        if test_kill_process(held.child).is_ok() {
            return Err("the broker lives".to_owned());
        }
        if held.folder.exists() {
            return Err(format!("{} is there", held.folder.display()));
        }
        Port::exactly(held.port).map_err(|error| error.to_string())
    })
    .await;
}

#[tokio::test]
async fn nothing_stays_of_a_world_whose_process_is_killed() {
    let mut process = spawn();
    let held = held(&mut process);
    assert!(test_kill_process(held.child).is_ok() && held.folder.exists());
    process.kill().expect("it is ours");
    process.wait().expect("it is ours");
    nothing_stays(&held).await;
}

#[tokio::test]
async fn nothing_stays_of_a_world_whose_test_panics() {
    let mut process = spawn();
    let held = held(&mut process);
    let mut pipe = process.stdin.take().expect("it is a pipe");
    pipe.write_all(b"panic\n").expect("it reads");
    let ended = process.wait().expect("it is ours");
    assert_eq!(ended.code(), Some(101), "a failed test");
    nothing_stays(&held).await;
}

//! Children never outlive their parent, not even one that is killed with SIGKILL.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use freehold_harness::{eventually, seconds};
use rustix::process::{Pid, test_kill_process};

#[tokio::test]
async fn a_child_dies_with_a_parent_killed_by_sigkill() {
    let mut parent = Command::new(env!("CARGO_BIN_EXE_guarded"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let mut said = BufReader::new(parent.stdout.take().expect("piped"));
    said.read_line(&mut line).expect("it tells its child");
    let pid = line.trim().parse().ok().and_then(Pid::from_raw);
    let pid = pid.expect("a process number");
    assert!(test_kill_process(pid).is_ok(), "the child lives");

    parent.kill().expect("SIGKILL");
    parent.wait().expect("ours");
    eventually("it is gone", seconds(10), async || {
        test_kill_process(pid).err().ok_or("the child still lives")
    })
    .await;
}

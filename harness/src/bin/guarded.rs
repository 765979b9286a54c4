//! Starts a child the way the harness does, prints its process number, and waits to be killed, for `harness/tests/it/guard.rs`.

#![expect(clippy::print_stdout, reason = "a test reads it")]

use freehold_harness::process::{Launch, Process};

fn main() {
    let launch = Launch::of("sleep", "/bin/sleep", std::env::temp_dir()).arg("1000");
    let child = Process::spawn(launch).expect("sleep starts");
    println!("{}", child.pid());
    loop {
        std::thread::park();
    }
}

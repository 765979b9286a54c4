//! The programs' output: if stderr cannot be written, log lines are lost, never the process; if stdout cannot be written, a command
//! fails.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use freehold_tests::http::Api;
use freehold_tests::process::Process;
use freehold_tests::{Part, Service, World, eventually, seconds};

/// More lines than fit into a pipe.
const REQUESTS: usize = 1_000;

/// All three programs on files of their own, which do not run.
pub(crate) async fn stopped() -> World {
    let world = World::builder().with_drivers(1);
    let mut world = world.start().await;
    world.waive_final_check();
    world.drivers[0].app.stop().await.expect("it stops");
    world.orders_service.stop().await.expect("it stops");
    world.user_service.stop().await.expect("it stops");
    world
}

pub(crate) fn programs(world: &World) -> [&Service; 3] {
    [
        &world.user_service,
        &world.orders_service,
        &world.drivers[0].app,
    ]
}

/// The programs do not meet, so all three are examined at the same time.
async fn each_program(world: &World, examine: impl AsyncFn(&Service)) {
    let [users, orders, device] = programs(world);
    tokio::join!(
        Box::pin(examine(users)),
        Box::pin(examine(orders)),
        Box::pin(examine(device)),
    );
}

/// How the shell replaces itself by the program.
pub(crate) const PROGRAM: &str = r#"exec "$0" "$@""#;

/// Starts a program from a shell: after a command, and with its output redirected. Each request makes a line.
pub(crate) async fn start(service: &Service, before: &str, redirected: &str) -> Process {
    let mut launch = service.launch().env("RUST_LOG", "debug");
    let program = std::mem::replace(&mut launch.program, PathBuf::from("/bin/sh"));
    let script = format!("{before}\n{PROGRAM} {redirected}");
    let words = ["-c".into(), script.into(), program.into_os_string()];
    launch.args.splice(0..0, words);
    let process = Process::spawn(launch).expect("a shell");
    let api = Api::of(service);
    eventually("it answers", seconds(60), async || {
        match api.get("/livez").await.status {
            200 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    process
}

async fn answers_on(service: &Service, process: &mut Process) {
    let api = Api::of(service);
    for _ in 0..REQUESTS {
        let status = api.get("/livez").await.status;
        assert_eq!(
            status,
            200,
            "{} is {:?}",
            service.name(),
            process.exit_status()
        );
    }
}

/// Where this program's log goes.
fn fifo(service: &Service) -> PathBuf {
    service.database.with_added_extension("log")
}

/// The reading end of a fresh pipe with a name; nothing is read until the test reads.
fn pipe(at: &Path) -> File {
    let _another = fs::remove_file(at);
    let made = Command::new("mkfifo").arg(at).status();
    assert!(made.expect("mkfifo").success());
    reader(at)
}

fn reader(at: &Path) -> File {
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).expect("a flag");
    let opened = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(at);
    opened.expect("a pipe can be read")
}

/// Reads until a line says this.
async fn read_until(pipe: &mut File, word: &str) {
    let mut text = String::new();
    eventually(word, seconds(30), async || {
        let mut some = vec![0; 1 << 16];
        if let Ok(count) = pipe.read(&mut some) {
            text.push_str(&String::from_utf8_lossy(&some[..count]));
        }
        match text.contains(word) {
            true => Ok(()),
            false => Err(format!("{} bytes without it", text.len())),
        }
    })
    .await;
}

#[tokio::test]
async fn a_log_without_a_reader_loses_lines_and_the_next_reader_sees_their_count() {
    let world = stopped().await;
    each_program(&world, async |service| {
        let fifo = fifo(service);
        let first = pipe(&fifo);
        let mut process = start(service, "", &format!("2>{}", fifo.display())).await;
        drop(first);
        answers_on(service, &mut process).await;
        let mut second = reader(&fifo);
        assert_eq!(Api::of(service).get("/livez").await.status, 200);
        read_until(&mut second, "log lines were dropped").await;
        process.stop().await.expect("it stops in order");
    })
    .await;
}

#[tokio::test]
async fn a_log_that_is_not_read_stalls_nothing_and_resumes_when_it_is() {
    let world = stopped().await;
    each_program(&world, async |service| {
        let fifo = fifo(service);
        let mut unread = pipe(&fifo);
        // stdout as well: a shell's `2>&1`.
        let mut process = start(service, "", &format!(">{} 2>&1", fifo.display())).await;
        answers_on(service, &mut process).await;
        process.stop().await.expect("it stops in order");
        let mut again = start(service, "", &format!(">{} 2>&1", fifo.display())).await;
        answers_on(service, &mut again).await;
        read_until(&mut unread, "listening on").await;
        Api::of(service).get("/metrics").await;
        read_until(&mut unread, "\"/metrics\"").await;
        again.stop().await.expect("it stops in order");
    })
    .await;
}

#[tokio::test]
async fn a_log_on_a_full_disk_loses_lines_and_counts_them() {
    let world = stopped().await;
    each_program(&world, async |service| {
        let mut process = start(service, "", ">/dev/full 2>/dev/full").await;
        answers_on(service, &mut process).await;
        let metrics = Api::of(service).metrics().await.expect("metrics");
        let dropped = metrics.get("freehold_log_lines_dropped_total");
        assert!(dropped.is_some_and(|lines| lines > 100.0), "{dropped:?}");
        process.stop().await.expect("it stops in order");
    })
    .await;
}

/// Runs a command with this redirection of its output.
fn command(service: &Service, words: &[&str], redirected: &str) -> Output {
    let output = shell(service, words, redirected).output();
    output.expect("a shell")
}

/// With a pipe as stdout whose reader is closed.
fn unread(service: &Service, words: &[&str]) -> Output {
    let (_, stdout) = std::io::pipe().expect("a pipe");
    let child = shell(service, words, "")
        .stdout(stdout)
        .stderr(Stdio::piped())
        .spawn();
    child.and_then(Child::wait_with_output).expect("a shell")
}

fn shell(service: &Service, words: &[&str], redirected: &str) -> Command {
    let launch = service.launch();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("{PROGRAM} {redirected}")])
        .arg(launch.program)
        .args(launch.args)
        .args(words)
        .envs(launch.env);
    shell
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn an_unwritable_stdout_is_an_error_and_a_closed_pipe_is_none() {
    let world = stopped().await;
    let [users, _, device] = programs(&world);
    for words in [
        &["status"][..],
        &["quarantine", "--json"],
        &["token", "list"],
        &["broker-config"],
        &["--help"],
    ] {
        let full = command(users, words, ">/dev/full");
        assert_eq!(full.status.code(), Some(1), "{words:?}");
        assert!(stderr(&full).contains("error: "), "{words:?}");
        let gone = unread(users, words);
        assert_eq!(stderr(&gone), "", "{words:?}");
    }
    let full = command(device, &["--help"], ">/dev/full");
    assert_eq!(full.status.code(), Some(1));
    let nothing_works = command(users, &["status"], ">/dev/full 2>/dev/full");
    assert_eq!(nothing_works.status.code(), Some(1));
}

#[tokio::test]
async fn a_token_that_cannot_be_printed_is_not_created() {
    let world = stopped().await;
    let users = &world.user_service;
    let listed = || {
        let list = command(users, &["token", "list"], "");
        String::from_utf8_lossy(&list.stdout).into_owned()
    };
    for words in [
        &["token", "new", "operator", "eve"][..],
        &["token", "new", "operator", "eve", "--json"],
    ] {
        let lost = [">/dev/full", ">&-", ">/dev/null"];
        let lost = lost.map(|redirected| command(users, words, redirected));
        for lost in lost.into_iter().chain([unread(users, words)]) {
            assert_eq!(lost.status.code(), Some(1));
            let said = stderr(&lost);
            assert!(said.contains("no token was made"), "{said}");
            assert!(!listed().contains("eve"));
        }
    }
    let made = command(users, &["token", "new", "operator", "eve"], "2>/dev/full");
    assert!(made.status.success() && made.stdout.starts_with(b"fho_"));
    assert!(listed().contains("eve"));
}

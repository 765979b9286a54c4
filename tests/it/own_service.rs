//! The commands of docs/your-own-service.md, in order, in a clean clone. `new_service.rs` has those for a workspace elsewhere.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use freehold_tests::broker::nats_server;
use freehold_tests::paths::workspace;
use freehold_tests::process::{Launch, Process};
use freehold_tests::{eventually, seconds};
use tokio::task::spawn_blocking;

use crate::house::read;

const PAGE: &str = "docs/your-own-service.md";
/// A page that lost its blocks would pass.
const FEWEST_LINES: usize = 30;
/// Compiling included, on a slow machine.
const DEADLINE: u64 = 1_200;
/// Lines of a failure.
const TAIL: usize = 60;
/// What cargo sets for this test must not reach the page's own cargo: see `freehold_harness::cargo`.
const FORGET_CARGO: &str = r"unset $(env | sed -nE 's/^(CARGO_(PKG|MANIFEST|BIN|CRATE|PRIMARY)_[A-Z_]*)=.*/\1/p') CARGO_TARGET_DIR OUT_DIR";

#[tokio::test]
async fn every_command_of_the_page_works_in_a_clean_clone() {
    if workspace().join("payments-service").exists() {
        eprintln!("SKIPPED: this checkout has a payments-service already");
        return;
    }
    let commands = commands(&read(&workspace().join(PAGE)));
    assert!(commands.lines().count() >= FEWEST_LINES, "{commands}");
    let made = spawn_blocking(|| (clean_clone(), nats_server(&|line| println!("{line}"))));
    let (clone, broker) = made.await.expect("it does not panic");
    let mut launch = Launch::of("page", "/bin/sh", clone.with_file_name("logs"))
        .arg("-exc")
        // It compiles much, so the tests beside it come first.
        .arg(format!(
            "renice -n 10 -p $$ || true\n{FORGET_CARGO}\n{commands}"
        ))
        .env(
            "FREEHOLD_NATS_SERVER",
            &broker.expect("a broker").program.to_string_lossy(),
        )
        // What was compiled here is not compiled again, and the programs themselves do not replace ours.
        .env("CARGO_BUILD_BUILD_DIR", &target().to_string_lossy())
        .env("CARGO_INCREMENTAL", "0");
    for who in ["AUTHOR", "COMMITTER"] {
        launch = launch
            .env(&format!("GIT_{who}_NAME"), "Ada")
            .env(&format!("GIT_{who}_EMAIL"), "ada@example.org");
    }
    launch.folder = Some(clone);
    let mut page = Process::spawn(launch).expect("sh starts");
    let ended = eventually("the end of the page", seconds(DEADLINE), async || {
        page.exit_status().ok_or_else(|| page.logs().tail(TAIL))
    });
    let ended = ended.await;
    assert!(ended.success(), "{ended}\n{}", page.logs().tail(TAIL));
}

/// The blocks that say `sh`, as one script.
fn commands(page: &str) -> String {
    let blocks = page.split("```sh\n").skip(1);
    blocks.filter_map(|rest| rest.split("```").next()).collect()
}

/// `target` of this workspace, whose `tmp` cargo made for this test.
pub(crate) fn target() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .parent()
        .expect("target")
}

/// Our files, as git would hand them to a newcomer. At the same path each time and with their times, so that cargo compiles what has
/// changed, and no more.
fn clean_clone() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("own-service");
    let _new = fs::remove_dir_all(&folder);
    let clone = folder.join("freehold");
    let listed = git(
        workspace(),
        &[
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ],
    );
    let files = listed
        .split('\0')
        .filter(|file| workspace().join(file).is_file());
    files.for_each(|file| copy(&workspace().join(file), &clone.join(file)));
    git(&clone, &["init", "-q"]);
    git(&clone, &["add", "-A"]);
    git(
        &clone,
        &[
            "-c",
            "user.name=Ada",
            "-c",
            "user.email=ada@example.org",
            "commit",
            "-qm",
            "clone",
        ],
    );
    clone
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("it is made");
    fs::copy(from, to).expect("it is copied");
    let changed = fs::metadata(from)
        .and_then(|of| of.modified())
        .expect("a time");
    let file = File::options().write(true).open(to).expect("it opens");
    file.set_modified(changed).expect("it takes a time");
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output();
    let output = output.expect("git runs");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("names in UTF-8")
}

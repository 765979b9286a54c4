//! Machines with too few resources: the start says so, in one line with the remedy.

use std::process::Output;

use freehold_tests::{Part, Service, seconds};
use tokio::process::Command;
use tokio::time::timeout;

use crate::output::{PROGRAM, programs, start, stopped};

/// The one line of a start that is expected to end by itself, by a script that ends with the program.
async fn refused(service: &Service, script: &str) -> String {
    let launch = service.launch();
    let mut shell = Command::new("sh");
    shell
        .args(["-c", script])
        .arg(launch.program)
        .args(launch.args)
        .envs(launch.env)
        .kill_on_drop(true);
    let ended = timeout(seconds(60), shell.output()).await;
    let Output { status, stderr, .. } = ended.expect("it ends by itself").expect("a shell");
    let stderr = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(1), "{stderr}");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let error = stderr.lines().rfind(|line| line.starts_with("error: "));
    error.unwrap_or_else(|| panic!("{stderr}")).to_owned()
}

#[tokio::test]
async fn too_few_descriptors_are_reported_at_the_start() {
    let world = stopped().await;
    for service in programs(&world) {
        for few in [6, 24, 64] {
            let error = refused(service, &format!("ulimit -n {few}; {PROGRAM}")).await;
            assert!(error.contains("LimitNOFILE"), "{few}: {error}");
        }
    }
}

#[tokio::test]
async fn a_low_limit_of_descriptors_that_can_be_raised_is_raised() {
    let world = stopped().await;
    for service in programs(&world) {
        let mut process = start(service, "ulimit -S -n 24", "").await;
        process.stop().await.expect("it stops in order");
    }
}

/// Skipped, with a line that says why, where nothing can be mounted.
#[tokio::test]
async fn a_new_database_on_a_full_disk_is_told_at_the_start() {
    let mut world = stopped().await;
    let volume = world.folder().join("volume");
    std::fs::create_dir(&volume).expect("a folder");
    let tried = Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "tmpfs"])
        .arg(&volume)
        .output()
        .await;
    if !tried.is_ok_and(|tried| tried.status.success()) {
        return eprintln!("skipped: nothing can be mounted here");
    }
    world.user_service.database = volume.join("users.db");
    world.orders_service.database = volume.join("orders.db");
    world.drivers[0].app.database = volume.join("device.db");
    let at = volume.display();
    let full = format!("mount -t tmpfs -o size=64k tmpfs {at}; cat /dev/zero >{at}/ballast");
    for service in programs(&world) {
        let script = format!("exec unshare --mount sh -c '{full}; {PROGRAM}' \"$0\" \"$@\"");
        let error = refused(service, &script).await;
        assert!(error.contains("no room for a new database"), "{error}");
    }
}

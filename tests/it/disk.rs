//! A disk that fails under a commit: nobody knows what is stored, so the process ends, and a restart reads what is there.

use std::process::Stdio;

use freehold_tests::{Part, World, eventually, seconds};
use tokio::process::{Child, Command};

/// EX_IOERR of sysexits.h, as relay's README promises.
const EXIT_STORAGE: i32 = 74;

#[tokio::test]
async fn a_disk_that_fails_under_a_commit_ends_the_process_and_nothing_answered_is_lost() {
    let mut world = World::builder()
        .without_broker()
        .without_orders_service()
        .start()
        .await;
    world
        .users()
        .register("first", "first@example.org")
        .await
        .expect_status(201);
    world.user_service.stop().await.expect("it stops");

    let mut limited = start_with_a_small_disk(&world);
    eventually("it answers", seconds(30), async || {
        world.users().is_ready().await
    })
    .await;
    let mut answered = Vec::new();
    let status = loop {
        let email = format!("user-{}@example.org", answered.len());
        let reply = world.users().register("Ada", &email).await;
        match reply.is_success() {
            true => answered.push(reply.id().to_owned()),
            false => break limited.wait().await.expect("it ends by itself"),
        }
        assert!(answered.len() < 10_000, "the disk never failed");
    };
    assert_eq!(status.code(), Some(EXIT_STORAGE));
    assert!(answered.len() > 10, "it wrote before the disk failed");

    world
        .user_service
        .start()
        .await
        .expect("with a healthy disk it starts");
    for id in &answered {
        world.users().user(id).await.expect_status(200);
    }
    world
        .users()
        .register("last", "last@example.org")
        .await
        .expect_status(201);
}

/// The same service, whose files may not grow beyond some 400 kB: past it a write fails with EFBIG, which SQLite
/// reports as an I/O error under the commit, just as it does for a failed flush.
fn start_with_a_small_disk(world: &World) -> Child {
    let service = &world.user_service;
    Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 800; exec \"$0\" \"$@\""])
        .arg(service.program())
        .args([
            "--listen",
            &format!("127.0.0.1:{}", service.port()),
            "--database",
        ])
        .arg(&service.database)
        .args(["--broker", "nats://127.0.0.1:1"])
        .env("FREEHOLD_USERS_PASSWORD", "p0123456789abcdefghijklmnop")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("a shell")
}

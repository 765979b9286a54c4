//! A disk that fails during a commit: its content is unknown, so the process ends, and a restart reads it. And a full disk: the
//! service says so, and continues when there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use freehold_tests::http::Reply;
use freehold_tests::services::Service;
use freehold_tests::{Part, Shown, World, eventually, image, seconds};
use rusqlite::Connection;
use tokio::process::{Child, Command};

use crate::applied::{count_every_application, everything_arrived_once, register};

/// EX_IOERR of sysexits.h, as relay's README promises.
const EXIT_STORAGE: i32 = 74;

#[tokio::test]
async fn a_disk_that_fails_during_a_commit_ends_the_process_and_no_acknowledged_write_is_lost() {
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

/// Skipped, with a line that says why, where nothing can be mounted.
#[tokio::test]
async fn a_full_disk_shows_in_status_metrics_and_readiness_until_there_is_room() {
    let mut world = World::builder()
        .without_broker()
        .without_orders_service()
        .start()
        .await;
    world.waive_final_check(); // its disk goes with it
    world.user_service.stop().await.expect("it stops");
    let volume = world.folder().join("volume");
    std::fs::create_dir(&volume).expect("a folder");
    let access = world.user_service.database.with_added_extension("access");
    world.user_service.database = volume.join("users.db");
    let log = world.folder().join("full.log");
    let mut service = match start_on_a_volume(&world.user_service, &access, &volume, &log) {
        Ok(service) => service,
        Err(why) => return eprintln!("skipped: nothing can be mounted on this machine: {why}"),
    };
    let pid = service.id().expect("it runs");
    let users = world.users();
    eventually("it answers", seconds(30), async || {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        users
            .is_ready()
            .await
            .map_err(|why| format!("{why}: {said}"))
    })
    .await;

    let mut count = 0;
    let refused = loop {
        let email = format!("user-{count}@example.org");
        let reply = users.register("Ada", &email).await;
        if !reply.is_success() {
            break reply;
        }
        count += 1;
        assert!(count < 20_000, "the disk was never full");
    };
    assert_eq!(refused.problem(), Some("disk_full"), "{refused:?}");
    let unready = users.is_ready().await.expect_err("it takes no writes");
    assert!(unready.contains("the disk is full"), "{unready}");
    let figure = async |name: &str| users.metrics().await.expect("read").get(name);
    assert_eq!(figure("freehold_disk_full").await, Some(1.0));
    eventually("a checkpoint fails", seconds(30), async || {
        match figure("freehold_checkpoint_failures_total").await {
            Some(failures) if failures > 0.0 => Ok(()),
            failures => Err(format!("{failures:?}")),
        }
    })
    .await;
    assert!(figure("freehold_wal_bytes").await > Some(4e6));
    let status = status_on_the_volume(&world.user_service, pid).await;
    assert!(status.contains("the disk is full"), "{status}");

    let ballast = format!("/proc/{pid}/root{}", volume.join("ballast").display());
    std::fs::remove_file(ballast).expect("room is made");
    eventually("it is ready", seconds(30), async || users.is_ready().await).await;
    users
        .register("Ada", "last@example.org")
        .await
        .expect_status(201);
    assert_eq!(figure("freehold_disk_full").await, Some(0.0));
    service.kill().await.expect("it ends");
    let log = std::fs::read_to_string(log).expect("a log");
    let count = |line| log.matches(line).count();
    assert_eq!(
        count("the disk is full"),
        2,
        "when it begins, and when it is over: {log}"
    );
    assert_eq!(count("resolved: the disk is full"), 1, "{log}");
}

/// The service with its database on a volume of 7 MiB, which holds something else, too. The kernel takes it down with the
/// process.
fn start_on_a_volume(
    service: &Service,
    access: &Path,
    volume: &Path,
    log: &Path,
) -> Result<Child, String> {
    let tried = std::process::Command::new("unshare")
        .args(["--mount", "mount", "-t", "tmpfs", "-o", "size=7m", "tmpfs"])
        .arg(volume)
        .output();
    match tried {
        Ok(tried) if tried.status.success() => {}
        Ok(tried) => return Err(String::from_utf8_lossy(&tried.stderr).into_owned()),
        Err(error) => return Err(error.to_string()),
    }
    let mount = r#"
        mount -t tmpfs -o size=7m tmpfs "$0" &&
        head -c 2097152 /dev/zero > "$0/ballast" && exec "$@""#;
    let child = Command::new("unshare")
        .args(["--mount", "sh", "-c", mount])
        .arg(volume)
        .arg(service.program())
        .args(service.arguments())
        .envs(service.env.iter().cloned())
        .env("FREEHOLD_ACCESS", access)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(log).expect("a log"))
        .kill_on_drop(true)
        .spawn();
    child.map_err(|error| error.to_string())
}

async fn status_on_the_volume(service: &Service, pid: u32) -> String {
    let said = Command::new("nsenter")
        .args([&format!("--target={pid}"), "--mount"])
        .arg(service.program())
        .args(service.arguments())
        .arg("status")
        .envs(service.env.iter().cloned())
        .output()
        .await
        .expect("nsenter");
    assert_eq!(said.status.code(), Some(3), "{said:?}");
    String::from_utf8_lossy(&said.stdout).into_owned()
}

/// As a person's `sqlite3` does, in a process of its own: this one.
#[tokio::test]
async fn a_program_that_holds_the_write_lock_is_named_until_it_releases_it() {
    let builder = World::builder().without_broker().without_orders_service();
    let world = builder.start().await;
    let users = world.users();
    let other = Connection::open(&world.user_service.database).expect("it opens");
    other.execute_batch("begin immediate").expect("it is free");
    let holder = format!("process {} (", std::process::id());

    let refused = users.register("Ada", "ada@example.org").await;
    assert_eq!(refused.problem(), Some("busy"), "{refused:?}");
    let detail = refused.body["detail"].to_string();
    assert!(
        detail.contains(&holder) && detail.contains("write lock"),
        "{detail}"
    );
    let unready = users.is_ready().await.expect_err("it takes no writes");
    assert!(unready.contains(&holder), "{unready}");
    let status = world.user_service.command(&["status"]).await;
    assert_eq!(status.code, Some(3), "{status:?}");
    assert!(status.stdout.contains(&holder), "{status:?}");

    other.execute_batch("rollback").expect("it lets go");
    eventually("it is ready", seconds(30), async || users.is_ready().await).await;
    let taken = users.register("Ada", "ada@example.org").await;
    taken.expect_status(201);
    let log = world.user_service.log_tail(10_000);
    assert_eq!(
        log.matches("writes fail until it releases it").count(),
        2, // when it begins and when it is resolved
        "{log}"
    );
}

/// nats-server 2.15.1 keeps the error of a failed write until it is restarted, and does not report it to publishers. Skipped,
/// with a line that says why, where no image can be mounted.
#[tokio::test]
async fn a_broker_that_needs_a_restart_after_a_full_disk_is_reported_and_then_no_event_is_lost_or_duplicated()
 {
    if let Err(why) = image::available() {
        return eprintln!("skipped: {why}");
    }
    let mut world = World::builder().with_power_cuts().start().await;
    count_every_application(&mut world).await;
    register(&world, 0..5).await;
    world.until_applied(5).await;
    let ballast = fill(&world);
    let users = world.users();
    let restart_needed = async || {
        let metrics = users.metrics().await.expect("read");
        metrics.get("freehold_broker_restart_needed")
    };
    let mut count = 5;
    while restart_needed().await != Some(1.0) {
        register(&world, count..count + 1).await;
        count += 1;
        assert!(count < 5_000, "the broker's disk was never full");
    }

    let status = world.user_service.command(&["status"]).await;
    assert_eq!(status.code, Some(3), "{status:?}");
    for words in [
        "cannot write stream USERS",
        "no space left",
        "restart nats-server",
    ] {
        assert!(status.stdout.contains(words), "{words}: {status:?}");
    }
    let ready = users.get("/readyz").await.expect_status(200);
    let trouble = ready.body["trouble"].as_str().unwrap_or_default();
    assert!(trouble.contains("nats-server is restarted"), "{ready:?}");
    std::fs::remove_file(ballast).expect("room is made");
    register(&world, count..count + 30).await;
    assert_eq!(
        restart_needed().await,
        Some(1.0),
        "room alone does not help"
    );
    let log = world.user_service.log_tail(10_000);
    let alarm = "ALARM: nothing is published until the broker is restarted";
    assert_eq!(log.matches(alarm).count(), 1, "{log}");

    assert!(world.broker.needs_restart(), "as `up` sees it");
    world.broker.stop().await.expect("it stops");
    world.broker.start().await.expect("it starts");
    assert!(!world.broker.needs_restart());
    everything_arrived_once(&mut world).await;
    assert_eq!(restart_needed().await, Some(0.0));
}

/// Fills the broker's own disk, except for a few events.
fn fill(world: &World) -> PathBuf {
    let (pid, store) = (world.broker.pid().expect("it runs"), world.broker.store());
    let ballast = format!("/proc/{pid}/root{}", store.join("ballast").display());
    let mut file = File::create(&ballast).expect("the broker's disk is there");
    for chunk in [1 << 20, 1 << 12] {
        while file.write_all(&vec![1; chunk]).is_ok() {}
    }
    let taken = file.metadata().expect("it is there").len();
    file.set_len(taken - (64 << 10)).expect("a little room");
    PathBuf::from(ballast)
}

const ON_A_VOLUME: &str = "FREEHOLD_TESTS_ON_A_VOLUME";

/// Runs this test again in a process of its own, with a small disk that the kernel removes with the process.
fn on_a_volume(test: &str) -> Option<PathBuf> {
    if let Some(volume) = std::env::var_os(ON_A_VOLUME) {
        return Some(volume.into());
    }
    let volume = tempfile::tempdir().expect("a folder");
    let mount = "mount -t tmpfs -o size=24m tmpfs \"$0\" || exit 77; exec \"$@\"";
    let child = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", mount])
        .arg(volume.path())
        .arg(std::env::current_exe().expect("this program"))
        .args(["--exact", "--nocapture", test])
        .env(ON_A_VOLUME, volume.path())
        .output();
    match child {
        Ok(child) if child.status.success() => {}
        Ok(child) if child.status.code() == Some(77) => {
            eprintln!("skipped: nothing can be mounted on this machine");
        }
        Ok(child) => {
            let said = [child.stdout, child.stderr].concat();
            panic!("{}: {}", child.status, String::from_utf8_lossy(&said));
        }
        Err(why) => eprintln!("skipped: nothing can be mounted on this machine: {why}"),
    }
    None
}

/// Every file that a program writes, except the broker's store: databases, keys, access, admin, locks, logs.
async fn move_to(volume: &Path, world: &mut World) {
    let logs = world.logs();
    let services = [&mut world.user_service, &mut world.orders_service];
    for service in services
        .into_iter()
        .chain(world.drivers.iter_mut().map(|driver| &mut driver.app))
    {
        service.stop().await.expect("it stops");
        let from = service.database.with_added_extension("*");
        let copy = format!(
            "cp -a {} {} {}",
            service.database.display(),
            from.display(),
            volume.display()
        );
        let copied = std::process::Command::new("sh")
            .args(["-c", &copy])
            .status();
        assert!(copied.expect("a shell").success(), "{copy}");
        let name = service.database.file_name().expect("a name").to_owned();
        service.database = volume.join(name);
        let access = service.database.with_added_extension("access");
        let access = access.display().to_string();
        service.env.push(("FREEHOLD_ACCESS".to_owned(), access));
    }
    let moved = format!(
        "cp -a {0} {1}/logs && rm -r {0} && ln -s {1}/logs {0}",
        logs.display(),
        volume.display()
    );
    let moved = std::process::Command::new("sh")
        .args(["-c", &moved])
        .status();
    assert!(moved.expect("a shell").success());
    start_all(world).await;
}

/// Starts it again, as a supervisor does: another program may hold the last room at that moment.
async fn start_all(world: &mut World) {
    for service in parts(world) {
        for tries_left in (0..20).rev() {
            match service.start().await {
                Ok(()) => break,
                Err(why) => assert!(tries_left > 0, "{why}"),
            }
        }
    }
}

/// All the room that the volume has.
fn fill_volume(volume: &Path) -> PathBuf {
    let ballast = volume.join("ballast");
    let file = File::options().create(true).append(true).open(&ballast);
    let mut file = file.expect("there is room for a file");
    for chunk in [1 << 16, 1 << 12] {
        while file.write_all(&vec![1; chunk]).is_ok() {}
    }
    ballast
}

/// Acknowledged writes, by id.
#[derive(Default)]
struct Told {
    users: Vec<String>,
    orders: Vec<String>,
    intents: Vec<String>,
}

impl Told {
    async fn write_until_each_is_full(&mut self, world: &World, order: &str) {
        let (users, orders, device) = (world.users(), world.orders(), world.drivers[0].api());
        let user = self.users[0].clone();
        until_full(&mut self.users, async |count| {
            let email = format!("user-{count}@example.org");
            users.register("Ada", &email).await
        })
        .await;
        until_full(&mut self.orders, async |_| {
            orders.place(&user, 1, "EUR").await
        })
        .await;
        until_full(&mut self.intents, async |count| {
            let note = format!("{count}: {}", "x".repeat(400));
            device
                .report_problem(order, "nobody_home", Some(&note))
                .await
        })
        .await;
    }

    async fn is_all_there(&self, world: &World) {
        for user in &self.users {
            world.users().user(user).await.expect_status(200);
        }
        for order in &self.orders {
            world.orders().order(order).await.expect_status(200);
        }
        let device = world.drivers[0].api();
        let sent = |shown: &Shown| shown.pending() == 0;
        let shown = device.wait_until("it is sent", seconds(120), sent).await;
        assert_eq!(shown.refused().count(), 0, "{shown}");
        let intents = world.orders().intents("").await.expect("they are listed");
        let told: BTreeSet<_> = self.intents.iter().collect();
        assert_eq!(intents.keys().collect::<BTreeSet<_>>(), told);
    }
}

/// A WAL has some room of its own, so the first refusal may not come at once.
async fn until_full(told: &mut Vec<String>, mut write: impl AsyncFnMut(usize) -> Reply) {
    let enough = told.len() + 2_000;
    loop {
        let reply = write(told.len()).await;
        if !reply.is_success() {
            assert_eq!(reply.status, 507, "{reply:?}");
            assert_eq!(reply.problem(), Some("disk_full"), "{reply:?}");
            return;
        }
        let id = reply.body["id"]
            .as_str()
            .or(reply.body["intent_id"].as_str());
        told.push(id.expect("an id").to_owned());
        assert!(told.len() < enough, "the disk was never full");
    }
}

async fn everything_reads(world: &World, told: &Told, order: &str) {
    let (users, orders, device) = (world.users(), world.orders(), world.drivers[0].api());
    let paths = ["/livez", "/metrics"];
    for path in paths.into_iter().chain(["/users?limit=1"]) {
        users.get(path).await.expect_status(200);
    }
    for path in paths.into_iter().chain(["/orders?limit=1", "/drivers"]) {
        orders.get(path).await.expect_status(200);
    }
    for path in paths.into_iter().chain(["/"]) {
        device.get(path).await.expect_status(200);
    }
    let shown = device.state().await.expect("it answers");
    assert!(shown.pending() <= told.intents.len() as u64, "{shown}");
    let kept = shown.delivery(order).expect("it is still there");
    let kept = kept["pending"].as_array().map(Vec::len);
    assert!(kept <= Some(told.intents.len()), "{shown}");
    for service in [&world.user_service, &world.orders_service] {
        let said = command(service, &["status"]).await;
        assert_eq!(said.status.code(), Some(3), "{said:?}");
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(text.contains("the disk is full"), "{said:?}");
    }
}

/// Not stored with the logs: they are on the full disk.
async fn command(service: &Service, words: &[&str]) -> std::process::Output {
    let ended = Command::new(service.program())
        .args(service.arguments())
        .args(words)
        .envs(service.env.iter().cloned())
        .env_remove(ON_A_VOLUME)
        .output();
    ended.await.expect("it is started")
}

async fn stop_all(world: &mut World) {
    for service in parts(world) {
        let ended = service.stop().await.expect("it stops");
        assert_eq!(
            ended.and_then(|ended| ended.code()),
            Some(0),
            "{}",
            service.name()
        );
    }
}

fn parts(world: &mut World) -> impl Iterator<Item = &mut Service> {
    let World {
        user_service,
        orders_service,
        drivers,
        ..
    } = world;
    let devices = drivers.iter_mut().map(|driver| &mut driver.app);
    [user_service, orders_service].into_iter().chain(devices)
}

/// Databases, logs, locks, keys, access files and admin sockets of all three programs are on one disk. The consumer has events before it.
#[tokio::test]
async fn a_full_disk_stops_only_writes_and_every_program_continues_once_there_is_room() {
    let test = "disk::a_full_disk_stops_only_writes_and_every_program_continues_once_there_is_room";
    let Some(volume) = on_a_volume(test) else {
        return;
    };
    let mut world = World::builder().with_drivers(1).start().await;
    count_every_application(&mut world).await;
    move_to(&volume, &mut world).await;
    let mut told = Told {
        users: register(&world, 0..1).await,
        ..Told::default()
    };
    world.until_applied(1).await;
    let order = world.orders().place(&told.users[0], 1250, "EUR").await;
    let order = order.expect_status(201).id().to_owned();
    let assigned = world
        .orders()
        .assign(&order, None, &world.drivers[0].id)
        .await;
    let device = world.drivers[0].api();
    device
        .until_quiet(assigned.expect_status(200).version())
        .await;
    device
        .wait_until("it is there", seconds(60), |shown| {
            shown.delivery(&order).is_some()
        })
        .await;

    world.broker.stop().await.expect("it stops");
    told.users.extend(register(&world, 1..100).await);
    world.drivers[0].switch.off();
    let noted = device.report_problem(&order, "nobody_home", None).await;
    let noted = noted.expect_status(202).body["intent_id"]
        .as_str()
        .map(str::to_owned);
    told.intents.extend(noted);
    let ballast = fill_volume(&volume);
    world.drivers[0].switch.on();
    world.broker.start().await.expect("it starts");
    told.write_until_each_is_full(&world, &order).await;
    everything_reads(&world, &told, &order).await;
    stop_all(&mut world).await;
    start_all(&mut world).await;
    told.write_until_each_is_full(&world, &order).await;
    everything_reads(&world, &told, &order).await;
    for _again in 0..3 {
        parts(&mut world).for_each(Part::kill);
        fill_volume(&volume); // no room is kept for this start
        start_all(&mut world).await;
        told.write_until_each_is_full(&world, &order).await;
        everything_reads(&world, &told, &order).await;
    }

    std::fs::remove_file(ballast).expect("room is made");
    for api in [&*world.users(), &*world.orders()] {
        eventually("it is ready", seconds(60), async || api.is_ready().await).await;
    }
    told.users.extend(register(&world, 90_000..90_001).await);
    told.is_all_there(&world).await;
    everything_arrived_once(&mut world).await;
}

/// Whether their services run or not.
#[tokio::test]
async fn on_a_full_disk_commands_that_read_work_and_others_say_why_not_and_leave_no_files() {
    let test =
        "disk::on_a_full_disk_commands_that_read_work_and_others_say_why_not_and_leave_no_files";
    let Some(volume) = on_a_volume(test) else {
        return;
    };
    let mut world = World::builder().with_drivers(1).start().await;
    count_every_application(&mut world).await;
    move_to(&volume, &mut world).await;
    register(&world, 0..300).await;
    world.until_applied(300).await;
    world.drivers[0].app.stop().await.expect("it stops");
    for service in [&world.user_service, &world.orders_service] {
        let backup = service.database.with_added_extension("backup");
        let done = command(service, &["backup", &backup.display().to_string()]).await;
        assert!(done.status.success(), "{done:?}");
    }
    let ballast = fill_volume(&volume);
    nothing_changes(&volume, &world, true).await;
    std::fs::remove_file(ballast).expect("room is made");
    for service in [&mut world.user_service, &mut world.orders_service] {
        service.stop().await.expect("it stops");
    }
    let ballast = fill_volume(&volume);
    nothing_changes(&volume, &world, false).await;
    start_all(&mut world).await;
    std::fs::remove_file(ballast).expect("room is made");
    for api in [&*world.users(), &*world.orders()] {
        eventually("it is ready", seconds(60), async || api.is_ready().await).await;
    }
    let orders = &world.orders_service; // a command reaches it once its admin socket is bound
    eventually("it is rebuilt", seconds(60), async || {
        let rebuilt = command(orders, &["rebuild", "orders-user-cache"]).await;
        let done = rebuilt.status.success();
        done.then_some(()).ok_or(format!("{rebuilt:?}"))
    })
    .await;
    register(&world, 300..301).await;
    world.until_applied(301).await;
    world.check().await;
}

async fn nothing_changes(volume: &Path, world: &World, running: bool) {
    for service in [&world.user_service, &world.orders_service] {
        let before = kept_files(volume);
        for words in [
            &["status"][..],
            &["verify"],
            &["quarantine"],
            &["token", "list"],
        ] {
            fill_volume(volume);
            let said = command(service, words).await;
            assert_ne!(said.status.code(), Some(1), "{words:?}: {said:?}");
        }
        let (to, from) = (
            volume.join("to"),
            service.database.with_added_extension("backup"),
        );
        let (to, from) = (to.display().to_string(), from.display().to_string());
        let mut refused = vec![vec!["token", "new", "operator", "eve"], vec!["backup", &to]];
        // A rebuild is not among them: the WAL may have room for a cache of this size.
        if service.name() == "user-service" {
            refused.push(vec!["rotate-key"]);
        }
        if !running {
            refused.push(vec!["restore", &from]);
        }
        for words in refused {
            fill_volume(volume); // a file that was closed has left some
            let said = command(service, &words).await;
            assert_eq!(said.status.code(), Some(1), "{words:?}: {said:?}");
            let why = String::from_utf8_lossy(&said.stderr);
            let named = ["No space left", "disk is full"];
            let named = named.iter().any(|named| why.contains(named));
            assert!(named, "{words:?}: {why}");
        }
        assert_eq!(kept_files(volume), before, "{}", service.name());
    }
}

/// What there is, but for what every open file has beside it; with what it says, where that is text: access, keys, manifests.
fn kept_files(volume: &Path) -> BTreeMap<String, String> {
    let files = std::fs::read_dir(volume).expect("a folder").flatten();
    let named = files.map(|file| {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        (file.file_name().to_string_lossy().into_owned(), text)
    });
    let beside = ["-wal", "-shm", ".room", ".lock", "logs", "ballast"];
    named
        .filter(|(name, _)| !beside.iter().any(|end| name.ends_with(end)))
        .collect()
}

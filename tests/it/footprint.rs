//! CPU and memory of the idle platform, and the peak memory before: printed for each process.
//!
//! Machines differ, so no time is asserted, only that every figure was read and has a plausible size.

use std::fmt;
use std::fs;
use std::time::Duration;

use freehold_tests::{Part, World, seconds};
use serde_json::json;
use tokio::time::{Instant, sleep};

/// One process over the idle window.
struct Footprint {
    name: String,
    peak_kib: u64,
    idle_cpu: Duration,
    window: Duration,
}

/// What a process has used so far.
struct Usage {
    peak_kib: u64,
    cpu: Duration,
}

const WINDOW: Duration = seconds(5);
/// About five times a debug build's.
const MOST_KIB: u64 = 200 * 1024;
/// Of one core. A loop that spins takes all of it.
const MOST_IDLE_SHARE: f64 = 0.5;

#[tokio::test]
async fn the_platform_is_small_and_idle_when_nothing_happens() {
    let world = World::builder().with_drivers(2).start().await;
    traffic(&world).await;
    let parts = parts(&world);
    let before: Vec<Usage> = parts.iter().map(|(_, pid)| usage(*pid)).collect();
    let start = Instant::now();
    sleep(WINDOW).await; // what is measured is that time passes
    let window = start.elapsed();
    let footprints = parts.into_iter().zip(before).map(|((name, pid), before)| {
        let after = usage(pid);
        Footprint {
            name,
            peak_kib: after.peak_kib,
            idle_cpu: after.cpu.saturating_sub(before.cpu),
            window,
        }
    });
    for footprint in footprints {
        println!("{footprint}");
        let kib = footprint.peak_kib;
        assert!(kib > 1024 && kib < MOST_KIB, "{footprint}");
        assert!(footprint.share() < MOST_IDLE_SHARE, "{footprint}");
    }
}

/// Orders on both devices: picked up, delivered, settled.
async fn traffic(world: &World) {
    let office = world.orders();
    let user = world
        .users()
        .register("Ada", "ada@example.org")
        .await
        .expect_status(201);
    for count in 0..20 {
        let driver = &world.drivers[count % 2];
        let order = office
            .place(user.id(), 1250, "EUR")
            .await
            .expect_status(201);
        let assigned = office.assign(order.id(), None, &driver.id).await;
        assigned.expect_status(200);
        let api = driver.api();
        let there = "the order is on the device";
        let can = |action: &'static str| {
            let id = order.id().to_owned();
            move |shown: &freehold_tests::Shown| shown.can(&id, action)
        };
        api.wait_until(there, seconds(30), can("pick_up")).await;
        api.pick_up(order.id()).await.expect_status(202);
        let delivered = api.deliver(order.id(), Some("with the neighbour")).await;
        delivered.expect_status(202);
    }
    for driver in &world.drivers {
        driver.api().until_quiet(1).await;
    }
    let orders = world
        .orders()
        .get("/orders?status=delivered")
        .await
        .expect_status(200);
    let delivered = orders.body["items"].as_array().map(Vec::len);
    assert_eq!(json!(delivered), json!(20));
}

fn parts(world: &World) -> Vec<(String, u32)> {
    let services = [&world.user_service, &world.orders_service];
    let devices = world.drivers.iter().map(|driver| &driver.app);
    let mut parts: Vec<_> = services
        .into_iter()
        .chain(devices)
        .map(|service| (service.name().to_owned(), service.pid().expect("it runs")))
        .collect();
    let broker = world.broker.pid().expect("it runs");
    parts.push((world.broker.name().to_owned(), broker));
    parts
}

/// proc(5): `VmHWM` of `status` is the peak of the resident set; `utime` and `stime` are fields 14 and 15 of `stat`, counted
/// behind the name, which stands in brackets and may hold anything.
fn usage(pid: u32) -> Usage {
    let read = |file: &str| {
        let path = format!("/proc/{pid}/{file}");
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let (status, stat) = (read("status"), read("stat"));
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.trim().strip_suffix(" kB"));
    let fields = stat.rsplit(") ").next().expect("it has fields");
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |place: usize| -> u64 { fields[place - 3].parse().expect("a number") };
    Usage {
        peak_kib: peak.and_then(|kib| kib.parse().ok()).expect("a peak"),
        cpu: Duration::from_millis((ticks(14) + ticks(15)) * 1000 / ticks_per_second()),
    }
}

fn ticks_per_second() -> u64 {
    rustix::param::clock_ticks_per_second()
}

impl Footprint {
    fn share(&self) -> f64 {
        self.idle_cpu.as_secs_f64() / self.window.as_secs_f64()
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.peak_kib as f64 / 1024.0;
        let percent = self.share() * 100.0;
        write!(
            f,
            "{:<16} {mib:6.1} MiB at most, {percent:4.1} % of a core while idle",
            self.name
        )
    }
}

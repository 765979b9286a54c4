//! The broker's machine loses its power: unflushed data is lost. (A broker that is only killed: `kills.rs`.)
//! Skipped, with a line that says why, where no image can be mounted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use freehold_tests::UserApi;
use freehold_tests::{Part, World, WorldBuilder, eventually, image, outbox, seconds};

use crate::applied::{count_every_application, everything_arrived_once, register};
use crate::owner::Owner;

fn cannot_be_played() -> bool {
    let available = image::available();
    if let Err(why) = &available {
        eprintln!("skipped: {why}");
    }
    available.is_err()
}

/// The fault itself works.
#[tokio::test]
async fn a_power_cut_loses_unflushed_data_and_keeps_flushed_data() {
    if cannot_be_played() {
        return;
    }
    let lazy = World::builder().with_power_cuts_and_flushes_every("2m");
    assert_eq!(left_of_two(lazy).await, 1, "the second was not flushed");
    let always = World::builder().with_power_cuts();
    assert_eq!(left_of_two(always).await, 2);
}

/// Publishes an event, flushes, publishes another, cuts the power; returns how many are left.
async fn left_of_two(builder: WorldBuilder) -> usize {
    let builder = builder.without_user_service().without_orders_service();
    let mut world = builder.start().await;
    let mut owner = Owner::of_users(&world.broker).await;
    owner.create_stream().await;
    owner.publish("created").await;
    world.broker.flush_store().expect("flushed");
    owner.publish("created").await;
    world.broker.power_cut().await.expect("cut");
    world.broker.start().await.expect("it starts again");
    let left = world.observer().read_all("USERS").await.expect("read");
    let folder = world.folder().to_owned();
    drop(world);
    nothing_is_left_mounted(&folder).await;
    left.len()
}

async fn nothing_is_left_mounted(folder: &std::path::Path) {
    let folder = folder.to_str().expect("a text");
    eventually("its loop devices are free", seconds(20), async || {
        let devices = tokio::process::Command::new("losetup")
            .arg("--all")
            .output();
        let devices = devices.await.map_err(|error| error.to_string())?;
        let devices = String::from_utf8_lossy(&devices.stdout).into_owned();
        if devices.contains(folder) {
            Err(devices)
        } else {
            Ok(())
        }
    })
    .await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
    assert!(!mounts.contains(folder), "{mounts}");
}

#[tokio::test]
async fn events_that_a_lazy_broker_loses_in_a_power_cut_are_refilled_with_the_same_sequences() {
    if cannot_be_played() {
        return;
    }
    let builder = World::builder().with_power_cuts_and_flushes_every("2m");
    let mut world = builder.start().await;
    count_every_application(&mut world).await;

    register(&world, 0..50).await;
    world.until_applied(50).await;
    cut(&mut world).await;
    let stream = world.observer().stream_info("USERS").await;
    stream.expect_err("the stream was younger than any flush");
    world.user_service.resume();
    until_refilled(&world, 50).await;

    world.broker.flush_store().expect("flushed");
    register(&world, 50..100).await;
    world.until_applied(100).await;
    let before = world.observer().read_all("USERS").await.expect("read");
    cut(&mut world).await;
    let left = world.observer().read_all("USERS").await.expect("read");
    assert_eq!(left, before[..50], "what was flushed, and no more");
    world.user_service.resume();
    until_refilled(&world, 100).await;
    let after = world.observer().read_all("USERS").await.expect("read");
    assert_eq!(after, before, "the same events at the same numbers");

    register(&world, 100..110).await;
    everything_arrived_once(&mut world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_events_survive_a_power_cut_under_load() {
    if cannot_be_played() {
        return;
    }
    let mut world = World::builder().with_power_cuts().start().await;
    count_every_application(&mut world).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|client| tokio::spawn(write_until(stop.clone(), world.users(), client)))
        .collect();

    for round in 1..=3 {
        until_acknowledged(&world, acknowledged(&world).await + 200).await;
        world.broker.power_cut().await.expect("cut");
        let acknowledged = acknowledged(&world).await;
        world.user_service.pause();
        world.broker.start().await.expect("it starts again");
        let left = world.observer().read_all("USERS").await.expect("read");
        println!(
            "cut {round}: {acknowledged} acknowledged, {} left",
            left.len()
        );
        assert!(
            left.len() as u64 >= acknowledged,
            "only {} are left",
            left.len()
        );
        let emitted = outbox::read_all(&world.user_service.database).expect("read");
        assert!(
            emitted.starts_with(&left),
            "another event at the same number"
        );
        world.user_service.resume();
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.expect("a client");
    }
    everything_arrived_once(&mut world).await;
}

async fn write_until(stop: Arc<AtomicBool>, api: UserApi, client: u64) {
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let email = format!("client-{client}-{number}@example.org");
        api.register("Ada", &email).await.expect_status(201);
    }
}

/// Cuts the power and starts the broker; its owner is paused, so that the remains can be inspected.
async fn cut(world: &mut World) {
    world.user_service.pause();
    world.broker.power_cut().await.expect("cut");
    world.broker.start().await.expect("it starts again");
}

/// The last acknowledgement that user-service received.
async fn acknowledged(world: &World) -> u64 {
    let metrics = world.users().metrics().await.expect("metrics");
    metrics.get("freehold_stream_head").unwrap_or(0.0) as u64
}

async fn until_acknowledged(world: &World, seq: u64) {
    eventually(
        "the broker acknowledges",
        seconds(60),
        async || match acknowledged(world).await {
            head if head >= seq => Ok(()),
            head => Err(format!("{head}, not {seq}")),
        },
    )
    .await;
}

async fn until_refilled(world: &World, seq: u64) {
    eventually("the stream is filled again", seconds(60), async || {
        let info = world.observer().stream_info("USERS").await;
        match info.map(|info| info.last_seq) {
            Ok(head) if head == seq => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

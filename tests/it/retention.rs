//! Retention, with real processes: a reader's unread events stay, until the reader has been silent for too long.

use freehold_tests::{Part, World, eventually, outbox, seconds};
use rusqlite::types::Value;

use crate::applied::register;
use crate::states::{cache_is_its_owners, rebuilt, says};

/// The first sequence that the stream keeps.
async fn first_kept(world: &World) -> u64 {
    let stream = world.observer().stream_info("USERS").await;
    stream.expect("it is there").first_seq
}

async fn is_kept_from(world: &World, first: u64) {
    eventually("the stream is trimmed", seconds(60), async || {
        let kept = first_kept(world).await;
        (kept == first).then_some(()).ok_or(kept)
    })
    .await;
}

#[tokio::test]
async fn unread_events_of_a_stopped_reader_stay_until_it_is_dropped() {
    let mut world = World::start().await;
    register(&world, 0..20).await;
    world.until_applied(20).await;
    // A start reports where it is, both the cache and the reaction.
    world.orders_service.stop().await.expect("it stops");
    world.orders_service.start().await.expect("it starts");
    let reported =
        "select group_concat(reader, ' ' order by reader) from relay_reader where seq = 20";
    let both = Value::Text("orders-of-deleted-users orders-user-cache".to_owned());
    eventually("both report", seconds(60), async || {
        let found = outbox::rows(&world.user_service.database, reported).expect("read");
        let said = || format!("{found:?}");
        (found[0][0] == both).then_some(()).ok_or_else(said)
    })
    .await;
    world.orders_service.stop().await.expect("it stops");

    world.expect_trimmed_streams(); // retention trims stream and outbox one after the other
    world.user_service.stop().await.expect("it stops");
    world
        .user_service
        .args
        .extend(["--keep-events", "10"].map(str::to_owned));
    world.user_service.start().await.expect("it starts");
    register(&world, 20..60).await;
    is_kept_from(&world, 20).await;
    let status = world.user_service.command(&["status"]).await.stdout;
    let line = "reader        orders-user-cache is at 20, 40 behind; it reported ";
    assert!(status.contains(line), "{status}");

    world.user_service.stop().await.expect("it stops");
    let ten_seconds = ["--hold-readers", "0.000116"].map(str::to_owned);
    world.user_service.args.extend(ten_seconds);
    world.user_service.start().await.expect("it starts");
    says(&world.user_service, "this reader reports no more").await;
    is_kept_from(&world, 51).await;
    let status = world.user_service.command(&["status"]).await.stdout;
    assert!(
        status.contains("reader dropped: orders-user-cache, at 20"),
        "{status}"
    );
    assert!(!status.contains("reader        orders"), "{status}");

    world.orders_service.start().await.expect("it starts");
    says(&world.orders_service, "the cache is loaded").await;
    assert_eq!(rebuilt(&world).await, 1);
    cache_is_its_owners(&world).await;
    world.check().await;
}

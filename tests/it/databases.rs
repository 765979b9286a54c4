//! The harness' own promises about a service's database: a copy is complete, can be restored, and a second service can run on it.

use freehold_tests::UserApi;
use freehold_tests::{Part, World, outbox};

use crate::applied::register;

async fn users_alone() -> World {
    let builder = World::builder().without_broker().without_orders_service();
    builder.start().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_running_service_is_complete_and_can_be_restored() {
    let mut world = users_alone().await;
    let before = register(&world, 0..50).await;
    let copy = world.folder().join("copy.db");
    let meanwhile = world.users();
    let writing = tokio::spawn(async move {
        for number in 0..200 {
            let email = format!("meanwhile-{number}@example.org");
            meanwhile.register("Bob", &email).await.expect_status(201);
        }
    });
    world.user_service.copy_database(&copy).expect("copied");
    writing.await.expect("a client");
    let later = register(&world, 50..60).await;
    let events = outbox::head(&copy).expect("read");
    assert!((50..=250).contains(&events), "{events}");

    world.user_service.stop().await.expect("it stops");
    world.user_service.swap_database(&copy).expect("swapped");
    world.user_service.start().await.expect("it starts");
    for id in &before {
        world.users().user(id).await.expect_status(200);
    }
    world.users().user(&later[0]).await.expect_status(404);
    assert_eq!(
        outbox::head(&world.user_service.database).expect("read"),
        events
    );
}

#[tokio::test]
async fn a_copy_of_a_killed_service_holds_every_acknowledged_write() {
    let mut world = users_alone().await;
    let users = register(&world, 0..50).await;
    world.user_service.kill();
    let copy = world.folder().join("copy.db");
    world.user_service.copy_database(&copy).expect("copied");
    world.user_service.delete_database().expect("deleted");
    world.user_service.swap_database(&copy).expect("put back");
    world.user_service.start().await.expect("it starts");
    for id in &users {
        world.users().user(id).await.expect_status(200);
    }
}

#[tokio::test]
async fn a_twin_runs_at_the_same_time_as_its_original_on_its_own_copy() {
    let mut world = users_alone().await;
    let before = register(&world, 0..1).await;
    let copy = world.folder().join("twin.db");
    world.user_service.copy_database(&copy).expect("copied");
    let mut twin = world.user_service.twin(&copy).expect("a free port");
    twin.start().await.expect("it starts beside the original");
    let later = register(&world, 1..2).await;

    let of_twin = UserApi::of(&twin);
    of_twin.user(&before[0]).await.expect_status(200);
    of_twin.user(&later[0]).await.expect_status(404);
    world.users().user(&later[0]).await.expect_status(200);
    assert!(twin.is_running() && world.user_service.is_running());
}

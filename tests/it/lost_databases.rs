//! user-service's database file is lost: its stream holds every event, and the events rebuild the rows, e-mail addresses included.

use std::fs;

use freehold_tests::{Part, World, outbox};

use crate::applied::register;
use crate::clients::Load;
use crate::states::{Kept, is_between, is_halted, is_ready, kept, logged};

/// The address of a user who changed it.
const TAKEN: Option<&str> = Some("moved-1@example.org");

/// Every kind of event, all of them published and applied.
async fn world_of_users() -> World {
    let mut world = World::start().await;
    let users = register(&world, 0..40).await;
    let api = world.users();
    for (number, id) in users.iter().enumerate() {
        let email = format!("moved-{number}@example.org");
        match number % 4 {
            0 => drop(api.rename(id, "Countess").await.expect_status(200)),
            1 => drop(api.change_email(id, &email).await.expect_status(200)),
            2 => drop(api.delete(id).await.expect_status(204)),
            _ => {}
        }
    }
    world.check().await;
    world
}

/// It accepts writes, used addresses are still refused, and orders-service logged nothing.
async fn all_is_as_before(world: &mut World, before: &Kept, orders_log: &str, taken: Option<&str>) {
    is_ready(&world.user_service).await;
    let now = kept(&world.user_service.database);
    assert!(now == *before, "other rows or other events than before");
    if let Some(taken) = taken {
        let refused = world.users().register("Eve", taken).await;
        refused.expect_status(409);
    }
    register(world, 100..110).await;
    world.check().await;
    assert_eq!(
        logged(&world.orders_service),
        orders_log,
        "orders-service noticed"
    );
}

#[tokio::test]
async fn a_deleted_database_is_restored_from_its_stream_after_a_stop() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (
        kept(&world.user_service.database),
        logged(&world.orders_service),
    );
    world.user_service.stop().await.expect("it stops");
    world.user_service.delete_database().expect("deleted");
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log, TAKEN).await;
}

#[tokio::test]
async fn a_deleted_database_is_restored_from_its_stream_after_a_kill() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (
        kept(&world.user_service.database),
        logged(&world.orders_service),
    );
    world.user_service.kill();
    world.user_service.delete_database().expect("deleted");
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log, TAKEN).await;
}

/// Each imported batch is kept, and so is the mark that more events follow.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_log_is_imported_through_kills() {
    let mut world = World::start().await;
    let load = Load {
        clients: 32,
        writes: 4_000,
        customer: None,
        seed: freehold_tests::chance::seed(),
    };
    println!("FREEHOLD_SEED={}", load.seed);
    let (told, losses) = load.start(&world).finish().await;
    world.check().await;
    let (before, orders_log) = (
        kept(&world.user_service.database),
        logged(&world.orders_service),
    );
    let head = outbox::head(&world.user_service.database).expect("read");
    let head = i64::try_from(head).expect("small");
    world.user_service.kill();
    world.user_service.delete_database().expect("deleted");
    let (mut low, mut amid) = (0, Vec::new());
    for _ in 0..4 {
        world.user_service.start().await.expect("it starts");
        let sql = "select coalesce(max(seq), 0) from relay_outbox";
        let hit = is_between(&world.user_service.database, sql, low, head).await;
        world.user_service.kill();
        low = i64::try_from(outbox::head(&world.user_service.database).expect("read"))
            .expect("small");
        if hit && low < head {
            amid.push(low);
        } else {
            break;
        }
    }
    println!("killed at {amid:?} of {head} events");
    assert!(!amid.is_empty(), "no kill came on the way");
    world.user_service.start().await.expect("it starts");
    is_ready(&world.user_service).await;
    assert_eq!(told.check_found_or_reported(&world, &losses), 0);
    all_is_as_before(&mut world, &before, &orders_log, None).await;
}

#[tokio::test]
async fn without_its_key_file_it_halts_and_with_the_key_file_it_heals() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (
        kept(&world.user_service.database),
        logged(&world.orders_service),
    );
    let (keys, copy) = (world.user_service.keys(), world.folder().join("copy.keys"));
    world.user_service.kill();
    world.user_service.delete_database().expect("deleted");
    fs::rename(&keys, &copy).expect("moved away");
    world.user_service.start().await.expect("it starts");
    let said = is_halted(&world.user_service).await;
    assert!(
        said.contains("put the old key file back") && said.contains(".keys"),
        "{said}"
    );

    world.user_service.stop().await.expect("it stops");
    fs::rename(&copy, &keys).expect("put back");
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log, TAKEN).await;
}

/// No file shows that this new database follows a lost one, so an operator must say so.
#[tokio::test]
async fn an_empty_folder_is_foreign_to_the_stream_until_an_operator_adopts_it() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (
        kept(&world.user_service.database),
        logged(&world.orders_service),
    );
    world.user_service.kill();
    world
        .user_service
        .delete_database_and_lock()
        .expect("deleted");
    world.user_service.start().await.expect("it starts");
    let said = is_halted(&world.user_service).await;
    assert!(
        said.contains(
            "this database is empty; adopt-stream lets it take over the stream's identity"
        ),
        "{said}"
    );

    world.user_service.stop().await.expect("it stops");
    let adopted = world
        .user_service
        .command(&["adopt-stream", "--json"])
        .await;
    let adopted = adopted.expect_code(0).json();
    assert_eq!(
        (&adopted["common"], &adopted["set_aside"]),
        (&0.into(), &0.into())
    );
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log, TAKEN).await;
}

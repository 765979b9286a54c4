//! user-service's database file is gone: its stream holds every event, and the events make the rows, e-mail addresses included.

use std::fs;

use freehold_tests::{Part, World, eventually, outbox, seconds};
use rusqlite::types::Value;

use crate::applied::register;
use crate::older::is_ready;

/// The rows and the log, each value as it is kept.
struct Kept {
    users: Vec<Vec<Value>>,
    log: Vec<Vec<Value>>,
}

fn kept(world: &World) -> Kept {
    let rows = |sql| outbox::rows(&world.user_service.database, sql).expect("read");
    Kept {
        users: rows("select * from users order by id"),
        log: rows("select seq, event_id, subject, envelope from relay_outbox order by seq"),
    }
}

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

/// It takes writes, an address is still taken, and orders-service has had nothing to say.
async fn all_is_as_before(world: &mut World, before: &Kept, orders_log: &str) {
    is_ready(&world.user_service).await;
    let now = kept(world);
    assert!(now.users == before.users, "other users: {:?}", now.users);
    assert!(now.log == before.log, "{} events of {}, or others", now.log.len(), before.log.len());
    let taken = world.users().register("Eve", "moved-1@example.org").await;
    taken.expect_status(409);
    register(world, 100..110).await;
    world.check().await;
    assert_eq!(said_by_orders(world), orders_log, "orders-service noticed");
}

fn said_by_orders(world: &World) -> String {
    let process = world.orders_service.process().expect("it runs");
    process.logs().stderr()
}

#[tokio::test]
async fn a_deleted_database_is_made_again_from_its_stream_after_a_stop() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (kept(&world), said_by_orders(&world));
    world.user_service.stop().await.expect("it stops");
    world.user_service.delete_database().expect("deleted");
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log).await;
}

#[tokio::test]
async fn a_deleted_database_is_made_again_from_its_stream_after_a_kill() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (kept(&world), said_by_orders(&world));
    world.user_service.kill();
    world.user_service.delete_database().expect("deleted");
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log).await;
}

#[tokio::test]
async fn without_its_key_file_it_halts_and_with_the_key_file_it_heals() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (kept(&world), said_by_orders(&world));
    let (keys, copy) = (world.user_service.keys(), world.folder().join("copy.keys"));
    world.user_service.kill();
    world.user_service.delete_database().expect("deleted");
    fs::rename(&keys, &copy).expect("moved away");
    world.user_service.start().await.expect("it starts");
    let said = halted(&world).await;
    assert!(said.contains("put the old key file back") && said.contains(".keys"), "{said}");

    world.user_service.stop().await.expect("it stops");
    fs::rename(&copy, &keys).expect("put back");
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log).await;
}

/// Nothing is left that says that this new file follows a lost one, so a person must.
#[tokio::test]
async fn an_empty_folder_is_foreign_to_the_stream_until_a_person_adopts_it() {
    let mut world = world_of_users().await;
    let (before, orders_log) = (kept(&world), said_by_orders(&world));
    world.user_service.kill();
    world.user_service.delete_database_and_lock().expect("deleted");
    world.user_service.start().await.expect("it starts");
    let said = halted(&world).await;
    assert!(said.contains("adopt-stream") && said.contains("new-epoch"), "{said}");

    world.user_service.stop().await.expect("it stops");
    let adopted = world.user_service.command(&["adopt-stream", "--json"]).await;
    let adopted = adopted.expect_code(0).json();
    assert_eq!((&adopted["common"], &adopted["set_aside"]), (&0.into(), &0.into()));
    world.user_service.start().await.expect("it starts");
    all_is_as_before(&mut world, &before, &orders_log).await;
}

/// What /readyz gives as the reason.
async fn halted(world: &World) -> String {
    eventually("it is halted", seconds(30), async || {
        match world.users().is_ready().await {
            Err(said) if said.contains("writes are halted") => Ok(said),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

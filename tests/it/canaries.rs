//! No byte of an e-mail address leaves its owner: not to the broker's disk, another service's files, logs, metrics, answers
//! to other services or backups of theirs, in none of the common encodings.
//!
//! The addresses are canaries, texts that occur nowhere by chance; the test shows that it finds them at their owner.

use std::fs;
use std::path::{Path, PathBuf};

use freehold_tests::canary::{Form, search};
use freehold_tests::http::{Api, Reply};
use freehold_tests::{Part, Service, World, chance};

use crate::older::text;

const USERS: usize = 6;

#[tokio::test]
async fn an_address_is_found_at_its_owner_and_nowhere_else() {
    let mut world = World::start().await;
    let canaries: Vec<String> = (0..2 * USERS)
        .map(|_| chance::letters_and_digits(24))
        .collect();
    live(&world, &canaries).await;
    world.check().await;
    let seen = world.folder().join("seen");
    fs::create_dir(&seen).expect("a folder");
    what_is_told(&world, &seen).await;
    what_people_do(&world, &seen).await;
    // Killed, so that nothing is tidied away.
    world.user_service.kill();
    world.orders_service.kill();
    world.broker.kill();
    copy_files(&world.orders_service, &seen);
    let own = world.folder().join("own");
    fs::create_dir(&own).expect("a folder");
    copy_files(&world.user_service, &own);

    let logs = world.logs();
    let elsewhere = [world.broker.store(), &logs, &seen];
    let mut found_with_owner = 0;
    for canary in &canaries {
        let found = search(&elsewhere, canary).expect("searched");
        assert!(found.is_empty(), "{found:?}");
        let with_owner = search(&[&own], canary).expect("searched");
        found_with_owner += usize::from(with_owner.iter().any(|find| find.form == Form::Plain));
    }
    let files = fs::read_dir(&seen).expect("read").count();
    println!(
        "{} canaries: none elsewhere, {found_with_owner} with their owner; {files} files of others",
        canaries.len()
    );
    assert!(found_with_owner >= USERS, "the search finds nothing");
    world.waive_final_check(); // it was done, and everything is dead
}

/// Everything that can happen to an address: registered, refused twice, changed, deleted, ordered for.
async fn live(world: &World, canaries: &[String]) {
    let api = world.users();
    let address = |canary: &str| format!("{canary}@example.org");
    let (first, second) = canaries.split_at(USERS);
    for (number, (canary, later)) in first.iter().zip(second).enumerate() {
        let user = api
            .register("Ada", &address(canary))
            .await
            .expect_status(201);
        api.register("Eve", &address(canary))
            .await
            .expect_status(409);
        api.register("Eve", &format!("{canary} at home"))
            .await
            .expect_status(422);
        api.register(&format!("{}\u{7}", "Eve"), &address(canary))
            .await
            .expect_status(422);
        let _no_route = api.get(&format!("/users?limit=x{number}")).await;
        world
            .orders()
            .place(user.id(), 5, "EUR")
            .await
            .expect_status(201);
        api.rename(user.id(), "Countess").await.expect_status(200);
        let changed = api
            .change_email(user.id(), &address(later))
            .await
            .expect_status(200);
        if number % 3 == 2 {
            api.delete(changed.id()).await.expect_status(204);
        }
    }
}

/// Answers of the services to other services and machines.
async fn what_is_told(world: &World, seen: &Path) {
    for (service, name) in [
        (&world.user_service, "users"),
        (&world.orders_service, "orders"),
    ] {
        let api = Api::of(service);
        let metrics = api.get("/metrics").await.expect_status(200);
        write(seen, &format!("{name}.metrics"), &metrics);
        let ready = api.get("/readyz").await.expect_status(200);
        write(seen, &format!("{name}.readyz"), &ready);
    }
    let reader = world.broker.credentials().read_token("USERS").clone();
    let users = Api::of(&world.user_service).sending(Some(reader));
    let snapshot = users.get("/snapshot").await.expect_status(200);
    assert!(
        snapshot.body.to_string().contains("Countess"),
        "an empty snapshot"
    );
    write(seen, "users.snapshot", &snapshot);
}

fn write(folder: &Path, name: &str, reply: &Reply) {
    let told = reply
        .body
        .as_str()
        .map_or_else(|| reply.body.to_string(), str::to_owned);
    assert!(!told.is_empty(), "{name} is empty");
    fs::write(folder.join(name), told).expect("written");
}

/// The commands of an operator; their output is stored with the logs.
async fn what_people_do(world: &World, seen: &Path) {
    let backup = seen.join("backup.db");
    let orders = &world.orders_service;
    for words in [
        &["backup", text(&backup)][..],
        &["rebuild", "orders-user-cache"],
        &["verify"],
        &["status", "--json"],
        &["quarantine", "--json"],
    ] {
        let _done = orders.command(words).await.expect_code(0);
    }
    for words in [&["verify"], &["status"], &["quarantine"]] {
        let _done = world.user_service.command(words).await.expect_code(0);
    }
}

/// The database and the files next to it.
fn copy_files(service: &Service, to: &Path) {
    let folder = service.database.parent().expect("a folder");
    let name = service
        .database
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let mut copied: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).expect("read") {
        let path = entry.expect("an entry").path();
        let its = path
            .file_name()
            .is_some_and(|file| file.to_string_lossy().starts_with(&name));
        if its && path.is_file() {
            let copy = to.join(path.file_name().expect("a name"));
            fs::copy(&path, &copy).expect("copied");
            copied.push(copy);
        }
    }
    assert!(
        copied.iter().any(|file| text(file).ends_with("-wal")),
        "{copied:?}"
    );
}

//! After any fault: did every event arrive, once and in order?

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use freehold_tests::users::{Users, users_in};
use freehold_tests::{Part, World, eventually, seconds};
use rusqlite::{Connection, OpenFlags};

/// Registers a user for each number. Returns their ids.
pub(crate) async fn register(world: &World, numbers: Range<u64>) -> Vec<String> {
    let mut ids = Vec::new();
    for number in numbers {
        let email = format!("user-{number}@example.org");
        let reply = world.users().register("Ada", &email).await;
        ids.push(reply.expect_status(201).id().to_owned());
    }
    ids
}

/// Each user is in the cache at its last version, each version was applied once and in order, and stream and outbox agree:
/// numbers, subjects, bytes; no dead letters. Call [`count_every_application`] before the first write.
pub(crate) async fn everything_arrived_once(world: &mut World) {
    let owned = users_in(&world.user_service.database, "users").expect("they are read");
    let cache = &world.orders_service.database;
    eventually(
        "the cache holds every user at its last version",
        seconds(120),
        async || match users_in(cache, "user_cache") {
            Ok(known) if known == owned => Ok(()),
            Ok(known) => Err(format!("it holds {} of {}", known.len(), owned.len())),
            Err(error) => Err(error.to_string()),
        },
    )
    .await;
    every_version_was_applied_once_and_in_order(cache, &owned);
    world.check().await;
}

/// The cache accepts newer versions only, so it could hide an event applied twice. A trigger records every attempt.
pub(crate) async fn count_every_application(world: &mut World) {
    world.orders_service.stop().await.expect("it stops");
    let rows = Connection::open(&world.orders_service.database).expect("the database opens");
    let noted = rows.execute_batch(
        "create table applied (id text not null, version integer not null);
         create trigger note_every_attempt before insert on user_cache
         begin insert into applied values (new.id, new.version); end;",
    );
    noted.expect("the trigger is made");
    drop(rows);
    world.orders_service.start().await.expect("it starts");
}

fn every_version_was_applied_once_and_in_order(cache: &Path, users: &Users) {
    let rows = Connection::open_with_flags(cache, OpenFlags::SQLITE_OPEN_READ_ONLY);
    let rows = rows.expect("the database opens");
    let mut applied = rows
        .prepare("select id, version from applied order by rowid")
        .expect("it is there");
    let applied = applied.query_map([], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, u64>(1)?))
    });
    let mut last = BTreeMap::<String, u64>::new();
    for attempt in applied.expect("it is read") {
        let (user, version) = attempt.expect("it is read");
        let before = last.insert(user.clone(), version).unwrap_or(0);
        assert_eq!(version, before + 1, "user {user}");
    }
    assert_eq!(last, versions(users));
}

pub(crate) fn versions(users: &Users) -> BTreeMap<String, u64> {
    let versions = users
        .iter()
        .map(|(id, (_, version))| (id.clone(), *version));
    versions.collect()
}

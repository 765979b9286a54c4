//! An outbox is restored from the stream: an empty file gets the same users, or the error says why it cannot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use event_schema::UserId;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use relay::Database;
use relay::error::LogError;
use relay::log::{AppendLog, Log, Record};
use serde_json::{Value, json};
use service_kit::Problem;
use service_kit::testing::{import_log, rows};

use user_service::domain::{Email, Name, User};
use user_service::events;

use crate::world::{World, database};

const USERS: &str = "select * from users order by id";
/// Some differ only in case, and there are few enough to collide.
const ADDRESSES: [&str; 5] = [
    "ada@example.org",
    "Ada@example.org",
    "eve@example.org",
    "δοκιμή@παράδειγμα.gr",
    "bob+orders@example.org",
];
const NAMES: [&str; 4] = ["Ada", "Ада", " two  blanks ", "👩\u{200d}🚀"];

#[tokio::test]
async fn an_imported_log_makes_the_same_users() {
    for seed in 0..4 {
        println!("seed {seed}");
        let world = World::start().await;
        live(&world, &mut SmallRng::seed_from_u64(seed)).await;
        let lived = rows(&world.db, USERS).await;
        assert!(!lived.is_empty());

        let folder = tempfile::tempdir().unwrap();
        let keys = "users.db.keys";
        fs::copy(world.folder.path().join(keys), folder.path().join(keys)).unwrap();
        let home = database(folder.path()).await;
        import_log(&world.db, &home).await.unwrap();
        assert_eq!(rows(&home, USERS).await, lived, "seed {seed}");
    }
}

/// Registers, changes and deletes users through the API; some requests are refused.
async fn live(world: &World, random: &mut SmallRng) {
    let mut paths = vec![world.registered("Ada", "first@example.org").await];
    let mut answers = Vec::new();
    for _ in 0..150 {
        let body = change(random);
        let path = paths.choose(random).unwrap();
        let answer = match random.random_range(0..4) {
            0 => world.api.post("/users", &body).await,
            1 => world.api.json("DELETE", path, "").await,
            _ => world.api.json("PATCH", path, body).await,
        };
        if answer.status == 201 {
            paths.push(answer.header("location").to_owned());
        }
        answers.push(answer.status);
    }
    world.registered("Eve", "last@example.org").await;
    for status in [200, 201, 204, 404, 409] {
        assert!(answers.contains(&status), "no {status} in {answers:?}");
    }
}

fn change(random: &mut SmallRng) -> Value {
    let (name, email) = (NAMES.choose(random), ADDRESSES.choose(random));
    match random.random_range(0..4) {
        0 => json!({"name": name}),
        1 => json!({"email": email}),
        _ => json!({"name": name, "email": email}),
    }
}

/// From before addresses had a canonical form, or from a fork.
#[tokio::test]
async fn a_log_with_two_users_of_one_mailbox_is_imported() {
    let world = World::start().await;
    for email in ["bea@münchen.example", "bea@MÜNCHEN.example"] {
        let write = world.db.write(move |tx| {
            let created = User::register(
                UserId::new(),
                Name::kept("\u{200b}".to_owned()),
                Email::kept(email.to_owned()),
            );
            events::make::<Problem>(tx, &created)
        });
        write.await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let keys = "users.db.keys";
    fs::copy(world.folder.path().join(keys), folder.path().join(keys)).unwrap();
    let home = database(folder.path()).await;
    import_log(&world.db, &home).await.unwrap();
    let lived = rows(&world.db, USERS).await;
    assert_eq!((lived.len(), rows(&home, USERS).await), (2, lived));
}

/// A sealed part is a contract, too: with its key it opens for ever.
#[tokio::test]
async fn recorded_sealed_parts_open() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("users.db.keys");
    fs::copy(of_package("tests/it/recorded.keys"), &keys).unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let db = database(folder.path()).await;
    append(&db, "users.created.v1.sealed").await.unwrap();
    append(&db, "users.email_changed.v1.sealed").await.unwrap();
    let users = rows(&db, "select name, email, version from users").await;
    let king = [
        "Ада Лавлейс 🚚".to_owned().into(),
        "king@example.org".to_owned().into(),
        2.into(),
    ];
    assert_eq!(users, [king]);
}

#[tokio::test]
async fn an_event_without_its_sealed_part_is_refused_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let db = database(folder.path()).await;
    let refused = append(&db, "users.created.v1").await.unwrap_err();
    let said = refused.to_string();
    for part in ["event 1", "no sealed part", "new-epoch"] {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(db.outbox().committed(), 0);
}

/// Stored replies do not follow from events, so an import leaves them as they are.
#[tokio::test]
async fn an_import_leaves_the_replies_alone() {
    let world = World::start().await;
    world.registered("Ada", "ada@example.org").await;
    let folder = tempfile::tempdir().unwrap();
    let keys = "users.db.keys";
    fs::copy(world.folder.path().join(keys), folder.path().join(keys)).unwrap();
    let home = database(folder.path()).await;
    let kept = "insert into kit_reply values (1, 'anonymous', 'POST /users', 'a', zeroblob(32), 201, '[]', x'', 1)";
    let write = home.write(move |tx| tx.execute(kept, []));
    write.await.unwrap();
    let replies = "select * from kit_reply";
    let before = rows(&home, replies).await;
    assert_eq!(before.len(), 1);
    import_log(&world.db, &home).await.unwrap();
    assert_eq!(rows(&home, replies).await, before);
}

#[tokio::test]
async fn with_another_key_file_nothing_is_imported() {
    let world = World::start().await;
    world.registered("Ada", "ada@example.org").await;
    let folder = tempfile::tempdir().unwrap();
    let home = database(folder.path()).await;
    let refused = import_log(&world.db, &home).await.unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("put the old key file back"), "{said}");
    assert_eq!(home.outbox().committed(), 0);
}

/// Appends the next event of the log as it was recorded.
async fn append(db: &Database, fixture: &str) -> Result<(), LogError> {
    let path = format!("../event-schema/fixtures/{fixture}.json");
    let bytes = fs::read(of_package(&path)).unwrap();
    let mut outbox = db.outbox();
    let head = outbox.head().await.unwrap().unwrap();
    let record = Record {
        seq: head.seq + 1,
        subject: fixture.split_once(".v1").unwrap().0.to_owned(),
        bytes: bytes.trim_ascii().to_vec().into(),
    };
    outbox.append_after(&head, &[record]).await.map(drop)
}

fn of_package(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

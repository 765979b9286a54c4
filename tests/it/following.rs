//! Anyone may follow a log: a reader with a broker account of its own follows USERS without its owner's help.

use std::path::Path;

use event_schema::UserEvent;
use freehold_tests::process::{Launch, Process};
use freehold_tests::{Part, World, broker, eventually, seconds};
use relay::{ApplyError, Consumer, Database, Nats, Options, Received, Rows, Stop};
use rusqlite::{Connection, OpenFlags};

const ACCOUNT: &str = include_str!("following/auditor.conf");
const PASSWORD: &str = "auditor0auditor0auditor0";
const CLIENT: &str = include_str!("../nats-py.requirements.txt");

/// Meanwhile broker, producer and follower are killed, and the broker loses its disk.
#[tokio::test]
async fn a_program_of_another_owner_follows_users_through_kills() {
    let mut world = World::builder().with_account(ACCOUNT).start().await;
    let file = world.folder().join("auditor.db");
    let mut follower = python(&world, &file).await;
    register(&world, 0..20).await;
    until_followed(&world, &file).await;

    world.broker.kill();
    register(&world, 20..30).await;
    world.broker.start().await.expect("it starts");
    register(&world, 30..40).await;
    until_followed(&world, &file).await;

    world.user_service.kill();
    follower.kill();
    world.user_service.start().await.expect("it starts");
    register(&world, 40..50).await;
    follower = python(&world, &file).await;
    until_followed(&world, &file).await;

    world.broker.kill();
    world.broker.wipe_store().expect("wiped");
    world.broker.start().await.expect("it starts");
    register(&world, 50..60).await;
    until_followed(&world, &file).await;
    assert_eq!(applied(&file).len(), 60);
    follower.kill();
}

#[tokio::test]
async fn a_second_consumer_is_added_without_touching_the_producer() {
    let world = World::builder().with_account(ACCOUNT).start().await;
    let producer = world.user_service.pid();
    register(&world, 0..300).await;
    let tables =
        &["create table applied (seq integer primary key, id text not null unique) strict"];
    let file = world.folder().join("auditor.db");
    let db = Database::open(&file, Options::new("auditor", "AUDITS", tables)).await;
    let db = db.expect("it opens");
    let consumer = Consumer::projection("auditor-users", apply);
    let nats = Nats::new(&world.broker.url(), "auditor", PASSWORD, "_INBOX_auditor");
    let stop = Stop::new();
    let following = {
        let (consumer, db, stop) = (consumer.clone(), db.clone(), stop.clone());
        let from = nats.reader("USERS");
        tokio::spawn(async move { Box::pin(consumer.run(&db, from, stop)).await })
    };
    register(&world, 300..320).await;
    until_followed(&world, &file).await;
    assert_eq!(applied(&file).len(), 320);
    assert_eq!(world.user_service.pid(), producer);
    stop.cancel();
    let ended = following.await.expect("it does not panic");
    ended.expect("nothing was fatal");
    db.close().await;
}

/// A second application of an event would violate its key.
fn apply(rows: &Rows<'_>, event: &Received<UserEvent>) -> Result<(), ApplyError> {
    let sql = "insert into applied values (?1, ?2)";
    rows.execute(sql, (event.seq, event.id))?;
    Ok(())
}

async fn register(world: &World, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let email = format!("person-{number}@example.org");
        let user = world.users().register("Ada", &email).await;
        user.expect_status(201);
    }
}

async fn python(world: &World, file: &Path) -> Process {
    let say = |line: &str| eprintln!("nats-py: {line}");
    let client = tokio::task::spawn_blocking(move || {
        broker::python_packages("nats-py-2.16.0", CLIENT, &say)
    });
    let client = client.await.expect("it does not panic");
    let client = client.expect("the NATS client for Python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("it/following/follow.py");
    let launch = Launch::of("auditor", "/usr/bin/env", world.logs())
        .arg("python3")
        .arg(script)
        .arg(world.broker.url())
        .arg("auditor")
        .arg(PASSWORD)
        .arg(file)
        .env("PYTHONPATH", &client.to_string_lossy());
    Process::spawn(launch).expect("python3 runs")
}

/// Until the file holds the ids of all events of the stream, at their numbers.
async fn until_followed(world: &World, file: &Path) {
    let head = freehold_tests::outbox::head(&world.user_service.database).expect("it is read");
    eventually("every event is followed", seconds(60), async || {
        let events = world.observer().read_all("USERS").await;
        let events = events.map_err(|error| format!("{error:#}"))?;
        let id = |bytes: &[u8]| {
            let event: serde_json::Value = serde_json::from_slice(bytes).expect("an envelope");
            event["id"].as_str().expect("its id").to_owned()
        };
        let wanted: Vec<(u64, String)> = events
            .iter()
            .map(|event| (event.seq, id(&event.bytes)))
            .collect();
        let found = applied(file);
        match found == wanted && found.len() as u64 == head {
            true => Ok(()),
            false => Err(format!(
                "{} of {head} followed, {} in the stream",
                found.len(),
                wanted.len()
            )),
        }
    })
    .await;
}

fn applied(file: &Path) -> Vec<(u64, String)> {
    let read = || {
        let rows = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut found = rows.prepare("select seq, id from applied order by seq")?;
        let found = found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.collect::<rusqlite::Result<Vec<_>>>()
    };
    read().unwrap_or_default() // it is not made yet
}

//! The state of a service, seen from outside: ready, halted and why, its log, its data, its quarantine.

use std::path::Path;

use freehold_tests::http::Api;
use freehold_tests::outbox;
use freehold_tests::users::{Users, users_in};
use freehold_tests::{Part, Service, World, eventually, seconds};
use rusqlite::types::Value;

/// It has seen its stream and accepts writes.
pub(crate) async fn is_ready(service: &Service) {
    let api = Api::of(service);
    eventually("it takes writes", seconds(60), async || {
        api.is_ready().await
    })
    .await;
}

/// Its first contact is over.
pub(crate) async fn is_publishing(service: &Service) {
    let api = Api::of(service);
    eventually("it publishes", seconds(60), async || {
        let metrics = api.metrics().await.map_err(|error| format!("{error:#}"))?;
        let publishing = metrics.get("freehold_relay_publishing");
        (publishing == Some(1.0))
            .then_some(())
            .ok_or_else(|| format!("{publishing:?}"))
    })
    .await;
}

/// Waits until a query returns a number between these two; false once it is beyond. For faults that must hit in the middle of an
/// operation.
pub(crate) async fn is_between(database: &Path, sql: &str, low: i64, high: i64) -> bool {
    eventually("it has begun", seconds(60), async || {
        let found = outbox::rows(database, sql).map_err(|error| format!("{error:#}"))?;
        match found[0][0] {
            Value::Integer(count) if count > low => Ok(count < high),
            ref other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Waits until an operator must decide; returns the reason in /readyz.
pub(crate) async fn is_halted(service: &Service) -> String {
    let api = Api::of(service);
    eventually("it is halted", seconds(60), async || {
        match api.is_ready().await {
            Err(said) if said.contains("writes are halted") => Ok(said),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// Waits until it has logged this since its start.
pub(crate) async fn says(service: &Service, words: &str) {
    eventually("it says so in its log", seconds(60), async || {
        let logged = logged(service);
        let last = || logged.lines().last().unwrap_or_default().to_owned();
        logged.contains(words).then_some(()).ok_or_else(last)
    })
    .await;
}

/// Its whole log since its start.
pub(crate) fn logged(service: &Service) -> String {
    service.process().expect("it runs").logs().stderr()
}

/// Rows and log, each value as it is stored.
#[derive(PartialEq)]
pub(crate) struct Kept {
    users: Vec<Vec<Value>>,
    log: Vec<Vec<Value>>,
}

/// The data of user-service.
pub(crate) fn kept(database: &Path) -> Kept {
    let rows = |sql| outbox::rows(database, sql).expect("read");
    Kept {
        users: rows("select * from users order by id"),
        log: rows("select seq, event_id, subject, envelope from relay_outbox order by seq"),
    }
}

/// Log, number and sequence of each quarantined event, as the command lists it, with its bytes.
pub(crate) async fn set_aside(service: &Service) -> Vec<(String, u64, String)> {
    let said = service
        .command(&["quarantine", "--json"])
        .await
        .expect_code(0)
        .json();
    let events = said["set_aside"].as_array().expect("a list").iter();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let events = events.map(|event| {
        let seq = event["seq"].as_u64().expect("a number");
        (text(&event["found_in"]), seq, text(&event["envelope"]))
    });
    events.collect()
}

/// The events of a log after this sequence, in the form of the quarantine list.
pub(crate) fn tail(found_in: &str, database: &Path, after: u64) -> Vec<(String, u64, String)> {
    let events = outbox::read_all(database).expect("read").into_iter();
    let events = events.filter(|event| event.seq > after);
    let text = |bytes| String::from_utf8(bytes).expect("JSON");
    events
        .map(|event| (found_in.to_owned(), event.seq, text(event.bytes)))
        .collect()
}

/// How often orders-service has reloaded its cache since its start.
pub(crate) async fn rebuilt(world: &World) -> u64 {
    let metrics = world.orders().metrics().await.expect("metrics");
    metrics
        .get("freehold_consumer_rebuilt_total")
        .unwrap_or(0.0) as u64
}

/// The cache equals its owner's users, row for row.
pub(crate) async fn cache_is_its_owners(world: &World) {
    let read = |database: &Path, table| -> Result<Users, String> {
        users_in(database, table).map_err(|error| format!("{error:#}"))
    };
    eventually("the cache is its owner's users", seconds(60), async || {
        let owned = read(&world.user_service.database, "users")?;
        let cached = read(&world.orders_service.database, "user_cache")?;
        let why = || {
            format!(
                "{} rows, and the owner has {}, or others",
                cached.len(),
                owned.len()
            )
        };
        (cached == owned).then_some(()).ok_or_else(why)
    })
    .await;
}

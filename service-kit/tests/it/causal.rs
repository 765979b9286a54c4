//! Causal reads: a write says where the log is, and a request waits until this service has come so far.

use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use futures::poll;
use relay::consume::ConsumerStatus;
use relay::testing::AnyEvent;
use relay::{Database, Options, rusqlite};
use service_kit::testing::{Answer, TestApi, request};
use service_kit::{Monitor, Problem, Routes};
use tokio::sync::watch;

use crate::{database, routes};

service_kit::problem_codes! { REFUSED = CONFLICT, "refused", "Not this one"; }

async fn emit(db: &Database) {
    let write = db.write(|tx| tx.emit(&AnyEvent::new("kit.said.v1", "a", &1)));
    write.await.unwrap();
}

async fn get_after(api: &TestApi, places: &[&str], max_wait_ms: &str) -> Answer {
    let mut request = request("GET", "/things/7").header("freehold-max-wait-ms", max_wait_ms);
    for place in places {
        request = request.header("freehold-wait-for", *place);
    }
    api.send(request.body(Body::empty())).await
}

fn detail(answer: &Answer) -> String {
    answer.json()["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_write_says_where_the_log_is_and_nothing_else_does() {
    let (db, _folder) = database().await;
    let emits = |times: usize| {
        let db = db.clone();
        post(async move || {
            for _ in 0..times {
                emit(&db).await;
            }
        })
    };
    let silent = post({
        let db = db.clone();
        async move || {
            let write = db.write(|_| Ok::<_, rusqlite::Error>(()));
            write.await.map_err(Problem::from)
        }
    });
    let refused = post({
        let db = db.clone();
        async move || {
            emit(&db).await;
            Problem::new(REFUSED, "not this one")
        }
    });
    let reads = get({
        let db = db.clone();
        async move || db.outbox().committed().to_string()
    });
    let handlers = Router::new()
        .route("/one", emits(1))
        .route("/two", emits(2))
        .route("/silent", silent)
        .route("/refused", refused)
        .route("/read", reads);
    let routes = Routes::new("kit-service", "For a test.")
        .problems(ALL)
        .undocumented(handlers);
    let api = TestApi::of(routes, Monitor::new(&db));
    for (path, position) in [
        ("/silent", "kit@0"),
        ("/one", "kit@1"),
        ("/two", "kit@3"),
        ("/silent", "kit@3"),
        ("/refused", ""),
    ] {
        let answer = api.send(request("POST", path).body(Body::empty())).await;
        assert_eq!(answer.header("freehold-position"), position, "{path}");
    }
    assert_eq!(api.get("/read").await.header("freehold-position"), "");
}

#[tokio::test]
async fn a_request_waits_for_an_own_write_and_holds_no_connection() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        readers: 1,
        ..Options::new("kit", "KIT", &[])
    };
    let db = Database::open(folder.path().join("kit.db"), options).await;
    let db = db.unwrap();
    let api = TestApi::of(routes(), Monitor::new(&db));
    let mut waits = pin!(get_after(&api, &["kit@2"], "8000"));
    emit(&db).await;
    assert!(poll!(&mut waits).is_pending());
    let read = db.read(|_| Ok::<_, rusqlite::Error>(()));
    read.await.unwrap();
    assert!(poll!(&mut waits).is_pending());
    emit(&db).await;
    assert_eq!(waits.await.text, "7");
    assert_eq!(
        get_after(&api, &["kit@2", "kit@1, kit@0"], "0").await.text,
        "7"
    );
    let late = get_after(&api, &["kit@5"], "1").await;
    assert_eq!(late.problem(), "504 not_caught_up");
    assert_eq!(late.header("retry-after"), "1");
    assert_eq!(
        detail(&late),
        "this service has committed kit@2 of 5: 3 behind"
    );
}

#[tokio::test]
async fn a_request_waits_for_every_consumer_of_the_stream() {
    let (db, _folder) = database().await;
    let [cache, totals, other] = [1040, 7, 0].map(|offset| {
        watch::Sender::new(ConsumerStatus {
            offset,
            ..ConsumerStatus::default()
        })
    });
    let mut monitor = Monitor::new(&db);
    monitor.watch_consumer("kit-cache", "USERS", cache.subscribe());
    monitor.watch_consumer("kit-totals", "USERS", totals.subscribe());
    monitor.watch_consumer("kit-other", "ORDERS", other.subscribe());
    let api = TestApi::of(routes(), monitor);
    let move_to = |who: &watch::Sender<ConsumerStatus>, offset: u64| {
        who.send_modify(|status| status.offset = offset);
    };

    let mut waits = pin!(get_after(&api, &["users@1042"], "8000"));
    assert!(poll!(&mut waits).is_pending());
    move_to(&cache, 1042);
    assert!(poll!(&mut waits).is_pending(), "the other one is behind");
    move_to(&totals, 2000);
    assert_eq!(waits.await.text, "7");

    move_to(&cache, 1040);
    let late = get_after(&api, &["users@1042"], "0").await;
    assert_eq!(late.problem(), "504 not_caught_up");
    assert_eq!(
        detail(&late),
        "this service has applied users@1040 of 1042: 2 behind"
    );
    cache.send_modify(|status| status.trouble = Some("no broker".to_owned()));
    let late = get_after(&api, &["users@1042,orders@1"], "0").await;
    assert_eq!(
        detail(&late),
        "this service has applied users@1040 of 1042: 2 behind (kit-cache: no broker); it has applied orders@0 of 1: 1 behind"
    );
    drop(other);
    move_to(&cache, 1042);
    let gone = get_after(&api, &["orders@1"], "0").await;
    assert_eq!(gone.problem(), "503 shutting_down");
}

#[tokio::test]
async fn a_wait_that_makes_no_sense_is_refused_at_once() {
    let (db, _folder) = database().await;
    let status = watch::Sender::new(ConsumerStatus::default());
    let mut monitor = Monitor::new(&db);
    monitor.watch_consumer("kit-cache", "USERS", status.subscribe());
    monitor.watch_consumer("kit-totals", "USERS", status.subscribe());
    let api = TestApi::of(routes(), monitor);
    for (place, ms) in [
        ("users", "1"),
        ("", "1"),
        ("users@1", "8001"),
        ("users@1", "x"),
    ] {
        let refused = get_after(&api, &[place], ms).await;
        assert_eq!(refused.problem(), "400 invalid_wait_for", "{place} {ms}");
    }
    let foreign = get_after(&api, &["payments@1"], "8000").await;
    assert_eq!(foreign.problem(), "400 invalid_wait_for");
    assert_eq!(
        detail(&foreign),
        "this service does not follow payments; it knows kit, users"
    );
}

#[tokio::test]
async fn a_request_that_does_not_say_for_how_long_waits_five_seconds() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let late = request("GET", "/things/7").header("freehold-wait-for", "kit@1");
    let late = api.send(late.body(Body::empty())).await;
    assert_eq!(late.problem(), "504 not_caught_up");
    let took = began.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(6)).contains(&took));
}

#[tokio::test]
async fn only_a_known_callers_request_is_kept_waiting() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes().open("/things/{id}"), Monitor::new(&db));
    let after = |path: &str| {
        let request = request("GET", path).header("freehold-max-wait-ms", "8000");
        let request = request.header("freehold-wait-for", "kit@1");
        request.body(Body::empty())
    };
    let stranger = api.sending(None);
    for (api, path, status) in [
        (&api, "/livez", 200),
        (&api, "/readyz", 200),
        (&api, "/metrics", 200),
        (&stranger, "/livez", 200),
        (&stranger, "/docs", 504),
        (&stranger, "/openapi.json", 504),
        (&stranger, "/problems", 504),
        (&stranger, "/things/7", 504),
        (&stranger, "/echo", 401),
        (&stranger, "/nothing", 401),
        (&stranger, "/operator/nothing", 401),
        (&api.sending("fho_unknown"), "/echo", 401),
    ] {
        let answer = tokio::time::timeout(Duration::from_secs(4), api.send(after(path)));
        let answer = answer.await.unwrap_or_else(|_| panic!("{path} waits"));
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let mut waits = pin!(api.send(after("/things/7")));
    assert!(poll!(&mut waits).is_pending());
    emit(&db).await;
    assert_eq!(waits.await.status, 200);
}

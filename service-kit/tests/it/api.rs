//! Refusals, limits and metrics, without a socket.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Request, Version};
use relay::consume::ConsumerStatus;
use relay::publish::{RelayState, RelayStatus};
use service_kit::Monitor;
use service_kit::limits::MAX_BODY_BYTES;
use service_kit::testing::{TestApi, request};
use tokio::sync::watch;

use crate::{database, older_copy, routes};

#[tokio::test]
async fn every_refusal_is_a_problem() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    assert_eq!(api.get("/things/7").await.text, "7");
    assert_eq!(api.get("/things/x").await.problem(), "400 invalid_id");
    assert_eq!(api.get("/nothing").await.problem(), "404 unknown_route");
    let refused = api.json("POST", "/things/7", "").await;
    assert_eq!(refused.problem(), "405 method_not_allowed");
    assert_eq!(refused.header("allow"), "GET,HEAD");
    assert_eq!(
        api.json("BREW", "/livez", "").await.problem(),
        "405 method_not_allowed"
    );
}

#[tokio::test]
async fn a_request_that_means_another_host_is_refused() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    let get = |version: Version, uri: &'static str, hosts: &'static [&'static str]| {
        let mut request = Request::get(uri).version(version);
        for host in hosts {
            request = request.header("host", *host);
        }
        api.send(request.body(Body::empty()))
    };
    for (version, uri, hosts) in [
        (Version::HTTP_11, "/things/7", ["127.0.0.1:7101"].as_slice()),
        (Version::HTTP_11, "/things/7", &["localhost"]),
        (Version::HTTP_10, "/things/7", &[]),
    ] {
        assert_eq!(get(version, uri, hosts).await.text, "7", "{hosts:?}");
    }
    for (version, uri, hosts) in [
        (
            Version::HTTP_11,
            "/things/7",
            ["evil.example:7101"].as_slice(),
        ),
        (Version::HTTP_10, "/things/7", &["evil.example"]),
        (
            Version::HTTP_11,
            "/things/7",
            &["localhost", "evil.example"],
        ),
        (Version::HTTP_11, "/things/7", &[]),
        (
            Version::HTTP_11,
            "http://evil.example/things/7",
            &["localhost"],
        ),
        (Version::HTTP_11, "/metrics", &["evil.example"]),
    ] {
        let refused = get(version, uri, hosts).await;
        assert_eq!(refused.problem(), "403 foreign_host", "{uri} {hosts:?}");
    }
}

#[tokio::test]
async fn a_panic_fails_its_own_request_and_says_nothing_of_itself() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    let failed = api.get("/panic").await;
    assert_eq!(failed.problem(), "500 internal");
    assert!(!failed.text.contains("planted"));
    assert_eq!(api.get("/things/7").await.status, 200);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    tokio::time::pause();
    let given_up = api.get("/forever").await;
    assert_eq!(given_up.problem(), "503 timed_out");
    assert_eq!(given_up.header("retry-after"), "1");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_given_up_as_the_senders_fault() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    tokio::time::pause();
    let never = Body::from_stream(futures::stream::pending::<Result<Bytes, Infallible>>());
    let slow = request("POST", "/echo")
        .header("content-type", "application/json")
        .body(never);
    assert_eq!(api.send(slow).await.problem(), "408 body_too_slow");
}

#[tokio::test]
async fn a_body_has_its_size_and_not_a_byte_more() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    let body = |bytes: usize| {
        format!(
            "{{\"word\":\"{}\"}}",
            "x".repeat(bytes - "{\"word\":\"\"}".len())
        )
    };
    assert_eq!(
        api.json("POST", "/echo", body(MAX_BODY_BYTES)).await.status,
        200
    );
    assert_eq!(
        api.json("POST", "/echo", body(MAX_BODY_BYTES + 1))
            .await
            .problem(),
        "413 body_too_large"
    );
}

#[tokio::test]
async fn a_closed_database_is_not_ready_but_alive() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    assert_eq!(api.get("/readyz").await.status, 200);
    db.close().await;
    let noticed = async {
        while api.get("/readyz").await.status == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await; // a look is good for a second
        }
    };
    let noticed = tokio::time::timeout(Duration::from_secs(60), noticed).await;
    noticed.expect("it notices within a minute");
    assert_eq!(api.get("/readyz").await.problem(), "503 not_ready");
    assert_eq!(api.get("/livez").await.status, 200);
}

#[tokio::test]
async fn whoever_asks_for_health_does_not_make_the_database_work() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    for path in ["/readyz", "/metrics"] {
        assert_eq!(api.get(path).await.status, 200);
    }
    let (held, busy) = mpsc::channel::<()>();
    let busy = Arc::new(Mutex::new(busy));
    let reads: Vec<_> = (0..64)
        .map(|_| {
            let (db, busy) = (db.clone(), busy.clone());
            let wait = move |_: &_| {
                let _released = busy.lock().unwrap().recv();
                Ok::<_, relay::rusqlite::Error>(())
            };
            tokio::spawn(async move { db.read(wait).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::time::pause(); // what was found is good for a second, and every reader is busy
    for _ in 0..100 {
        for path in ["/readyz", "/metrics"] {
            assert_eq!(api.get(path).await.status, 200, "{path}");
        }
    }
    tokio::time::resume();
    drop(held);
    for read in reads {
        read.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_database_that_takes_no_writes_is_not_ready_and_says_why() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    assert_writes_open(&api, 1).await;
    db.halt("a rival publishes");
    let refused = api.get("/readyz").await;
    assert_eq!(refused.problem(), "503 not_ready");
    assert!(refused.text.contains("halted: a rival"), "{refused:?}");
    assert_writes_open(&api, 0).await;

    let (db, _folder) = older_copy().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    let refused = api.get("/readyz").await;
    assert_eq!(refused.problem(), "503 not_ready");
    assert!(
        refused.text.contains("agrees with its stream: "),
        "{refused:?}"
    );
    assert_writes_open(&api, 0).await;
}

async fn assert_writes_open(api: &TestApi, open: u8) {
    let (metrics, line) = (api.get("/metrics").await.text, "freehold_writes_open");
    let found = metrics.lines().any(|of| of == format!("{line} {open}"));
    assert!(found, "{line} {open} in {metrics}");
}

#[tokio::test]
async fn the_metrics_tell_of_requests_by_route_and_of_no_path() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    api.get("/things/7").await;
    api.get("/things/8").await;
    api.get("/things/secret").await;
    api.get("/nothing/secret").await;
    api.json("SECRET", "/things/9", "").await;
    let metrics = api.get("/metrics").await;
    assert!(
        metrics
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    for line in [
        r#"freehold_http_requests_total{method="GET",route="/things/{id}",status="200"} 2"#,
        r#"freehold_http_requests_total{method="GET",route="/things/{id}",status="400"} 1"#,
        r#"freehold_http_requests_total{method="GET",route="unknown",status="404"} 1"#,
        r#"freehold_http_requests_total{method="other",route="/things/{id}",status="405"} 1"#,
    ] {
        assert!(
            metrics.text.lines().any(|found| found == line),
            "{line} in {}",
            metrics.text
        );
    }
    assert!(
        metrics
            .text
            .contains("freehold_http_request_seconds_bucket{"),
        "{}",
        metrics.text
    );
    assert!(
        !metrics.text.to_lowercase().contains("secret"),
        "{}",
        metrics.text
    );
}

#[tokio::test]
async fn the_metrics_tell_how_far_the_log_is_published_and_applied() {
    let (db, _folder) = database().await;
    let relay = watch::Sender::new(RelayStatus {
        state: RelayState::Publishing,
        stream_head: Some(0),
        case: None,
        trouble: None,
        stream_bytes: Some((80, 100)),
    });
    let consumer = watch::Sender::new(ConsumerStatus {
        offset: 40,
        stream_head: Some(42),
        skipped: 3,
        dead_letters: 1,
        ..ConsumerStatus::default()
    });
    let mut monitor = Monitor::new(&db);
    monitor.watch_relay(relay.subscribe());
    monitor.watch_consumer("kit-cache", "USERS", consumer.subscribe());
    let api = TestApi::of(routes(), monitor);

    let metrics = api.get("/metrics").await.text;
    for line in [
        "freehold_outbox_head 0",
        "freehold_writes_open 1",
        "freehold_stream_head 0",
        "freehold_stream_bytes 80",
        "freehold_stream_max_bytes 100",
        "freehold_relay_lag 0",
        "freehold_relay_publishing 1",
        "freehold_outbox_oldest_unpublished_seconds 0",
        "freehold_consumer_offset{consumer=\"kit-cache\"} 40",
        "freehold_consumer_lag{consumer=\"kit-cache\"} 2",
        "freehold_consumer_caught_up_seconds_ago{consumer=\"kit-cache\"} NaN",
        "freehold_consumer_skipped{consumer=\"kit-cache\"} 3",
        "freehold_consumer_running{consumer=\"kit-cache\"} 1",
        "freehold_dead_letters{consumer=\"kit-cache\"} 1",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in {metrics}"
        );
    }

    relay.send_modify(|status| status.state = RelayState::Connecting("no broker".to_owned()));
    consumer.send_modify(|status| {
        status.trouble = Some("no broker".to_owned());
        status.caught_up_at_ms = Some(u64::MAX); // a clock that was set back makes no lag negative
    });
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("freehold_relay_publishing 0"), "{metrics}");
    assert!(
        metrics.contains("freehold_consumer_running{consumer=\"kit-cache\"} 0"),
        "{metrics}"
    );
    assert!(
        metrics.contains("freehold_consumer_caught_up_seconds_ago{consumer=\"kit-cache\"} 0"),
        "{metrics}"
    );
}

#[tokio::test]
async fn before_the_first_contact_the_state_of_the_stream_is_unknown() {
    let (db, _folder) = database().await;
    let relay = watch::Sender::new(RelayStatus {
        state: RelayState::Connecting("no broker".to_owned()),
        stream_head: None,
        case: None,
        trouble: None,
        stream_bytes: None,
    });
    let mut monitor = Monitor::new(&db);
    monitor.watch_relay(relay.subscribe());
    let api = TestApi::of(routes(), monitor);

    let metrics = api.get("/metrics").await.text;
    for line in [
        "freehold_stream_head NaN",
        "freehold_stream_bytes NaN",
        "freehold_relay_lag NaN",
        "freehold_outbox_oldest_unpublished_seconds NaN",
        "freehold_relay_publishing 0",
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} is missing in\n{metrics}"
        );
    }
}

//! Every request has a name and a place in a trace: in its answer, in its refusal and in what it emits.

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use relay::log::Log;
use relay::testing::AnyEvent;
use serde_json::Value;
use service_kit::testing::{Answer, TestApi, request};
use service_kit::{Monitor, Problem, Routes};

use crate::{database, routes};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

async fn ask(api: &TestApi, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = request("GET", path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request.body(Body::empty())).await
}

fn trace_id(answer: &Answer) -> String {
    let parts: Vec<_> = answer.header("traceparent").split('-').collect();
    assert_eq!(parts.len(), 4, "{answer:?}");
    parts[1].to_owned()
}

#[tokio::test]
async fn every_answer_says_whose_it_is_and_a_refusal_says_so_in_its_body() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    let parent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let sent = [("traceparent", parent.as_str()), ("x-request-id", "r-1")];
    for (path, status) in [
        ("/things/7", 200),
        ("/things/x", 400),
        ("/nothing", 404),
        ("/panic", 500),
        ("/readyz", 200),
    ] {
        let answer = ask(&api, path, &sent).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("x-request-id"), "r-1", "{path}");
        assert_eq!(trace_id(&answer), TRACE, "{path}");
        assert_ne!(answer.header("traceparent"), parent, "a step of our own");
        if status >= 400 {
            assert_eq!(answer.json()["request_id"], "r-1", "{path}");
        }
    }
    let mut foreign = sent.to_vec();
    foreign.push(("host", "evil.example")); // a second one
    let foreign = ask(&api, "/things/7", &foreign).await;
    assert_eq!(foreign.problem(), "403 foreign_host");
    assert_eq!(foreign.json()["request_id"], "r-1");
    assert_eq!(foreign.header("x-request-id"), "r-1");
}

#[tokio::test]
async fn what_is_missing_or_malformed_is_begun_anew() {
    let (db, _folder) = database().await;
    let api = TestApi::of(routes(), Monitor::new(&db));
    let long = "x".repeat(129);
    let mut seen = Vec::new();
    for headers in [
        &[][..],
        &[("traceparent", "00-1-2-3"), ("x-request-id", "")],
        &[("traceparent", ""), ("x-request-id", "a b")],
        &[("traceparent", TRACE), ("x-request-id", &long)],
        &[("x-request-id", "twice"), ("x-request-id", "twice")],
    ] {
        let answer = ask(&api, "/nothing", headers).await;
        let (request_id, trace_id) = (answer.header("x-request-id"), trace_id(&answer));
        assert_eq!((request_id.len(), trace_id.len()), (32, 32), "{answer:?}");
        assert_eq!(answer.json()["request_id"], request_id);
        seen.extend([request_id.to_owned(), trace_id]);
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 10, "each is drawn");
}

#[tokio::test]
async fn an_event_says_which_request_it_came_from() {
    let (db, _folder) = database().await;
    let say = {
        let db = db.clone();
        async move || {
            let write = db.write(|tx| {
                let event = &AnyEvent::new("kit.said.v1", "a", &1);
                Ok::<_, Problem>(tx.emit(event)?)
            });
            write.await.map(drop).map_err(Problem::from)
        }
    };
    let handlers = Router::new().route("/said", post(say));
    let routes = Routes::new("kit-service", "For a test.").undocumented(handlers);
    let api = TestApi::of(routes, Monitor::new(&db));
    let said = request("POST", "/said").header("x-request-id", "r-1");
    let said = api.send(said.body(Body::empty())).await;
    assert_eq!(said.status, 200);
    let mut outbox = db.outbox();
    let records = outbox.read_after(0, 1, std::time::Duration::ZERO);
    let event: Value = serde_json::from_slice(&records.await.unwrap()[0].bytes).unwrap();
    assert_eq!(event["requestid"], "r-1");
    assert_eq!(event["traceparent"], said.header("traceparent"));
}

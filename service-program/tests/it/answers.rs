//! What a service answers to those who keep a cache of its state, over real sockets, and how they ask.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use relay::Database;
use relay::environment::System;
use relay::error::{LogError, chain};
use relay::event::EventId;
use relay::log::{Holds, Line, Position, Producer, Sink};
use relay::publish::Retention;
use relay::rusqlite::{self, Connection};
use relay::testing::AnyEvent;
use relay::testing::memory::MemoryBroker;
use serde_json::{Value, json};
use service_kit::limits::{MAX_SNAPSHOTS, MAX_STALL_TIME};
use service_kit::{Access, HttpProducer, Token};
use service_program::Parts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::serve::{Running, read_to_end, within_a_minute};
use crate::{database, kit};

const TOKEN: &str = "a-secret-of-this-test";
const TOKEN_ENV: &str = "FREEHOLD_KIT_READ_TOKEN";

#[tokio::test]
async fn only_who_knows_the_token_is_answered() {
    let world = World::start(token(), few).await;
    for header in ["", "authorization: Bearer a-secret-of-that-test\r\n"] {
        for path in ["/snapshot", "/log/1", "/log/x"] {
            let answer = world.get(path, header).await;
            assert!(answer.starts_with("HTTP/1.1 401 "), "{path} {answer}");
            assert!(answer.contains("www-authenticate: Bearer\r\n"));
            assert!(answer.contains("application/problem+json"));
        }
    }
    let answer = world.ask("/snapshot").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    world.stop().await;
}

#[tokio::test]
async fn without_a_read_token_it_answers_no_service_and_says_what_to_set() {
    let unset = Token::from_env(TOKEN_ENV);
    let world = World::start(unset, few).await;
    for header in ["", "authorization: Bearer \r\n"] {
        let answer = world.get("/snapshot", header).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert!(answer.contains("\"code\":\"no_token\""), "{answer}");
        assert!(answer.contains("FREEHOLD_KIT_READ_TOKEN is not set: set it"));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_snapshot_begins_with_its_position_and_ends_with_its_end() {
    let world = World::start(token(), few).await;
    let last = world.emit(3).await;
    let (seq, id) = (last.seq, last.id);
    let answer = world.ask(&format!("/snapshot?seq={seq}&id={id}")).await;
    assert!(answer.contains("content-type: application/x-ndjson\r\n"));
    let lines: Vec<Value> = json_lines(&answer);
    let position = json!({"stream": "KIT", "epoch": 1, "at": {"seq": 3, "id": id}, "holds": "yes"});
    assert_eq!(lines[0], json!({"position": position}));
    assert_eq!(
        lines[1..3],
        [json!({"row": {"n": 0}}), json!({"row": {"n": 1}})]
    );
    assert_eq!(lines[3], json!({"end": {"rows": 2}}));
    assert_eq!(lines.len(), 4);
    world.stop().await;
}

#[tokio::test]
async fn it_says_whether_its_log_holds_an_event() {
    let world = World::start(token(), few).await;
    let last = world.emit(2).await;
    let other = EventId::draw(&System);
    for (seq, id, holds) in [
        (2, last.id, "yes"),
        (1, last.id, "no"),
        (2, other, "no"),
        (9, other, "no"),
    ] {
        let answer = world.ask(&format!("/log/{seq}?id={id}")).await;
        assert!(
            answer.ends_with(&format!("{{\"holds\":\"{holds}\"}}")),
            "{answer}"
        );
    }
    for (path, code) in [
        ("/log/2", "invalid_query"),
        ("/log/x?id=1", "invalid_id"),
        ("/log/2?id=1", "invalid_query"),
        ("/snapshot?seq=2", "invalid_query"),
        (&format!("/snapshot?id={other}"), "invalid_query"),
        ("/snapshot?seq=2&id=x", "invalid_query"),
        ("/snapshot?from=2", "invalid_query"),
    ] {
        let answer = world.ask(path).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{path} {answer}");
        assert!(answer.contains(code), "{path} {answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn who_has_not_met_the_stream_does_not_know_what_its_log_holds() {
    let (db, folder) = database().await;
    let service = Parts::new(&db)
        .share(few)
        .access(Access::closed().read_token(token()));
    let running = Running::start(service, kit(Router::new())).await;
    let world = World {
        running,
        db,
        _folder: folder,
    };
    let answer = world.ask("/snapshot").await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: "),
        "{answer}"
    );
    assert!(answer.contains("\"not_open\"") && answer.contains("has not met its stream"));
    let lost = world.producer(TOKEN).snapshot(None).await.unwrap_err();
    assert!(
        chain(&lost).contains("503") && chain(&lost).contains("has not met its stream"),
        "{lost}"
    );
    assert!(matches!(lost, LogError::Disconnected(..)));
    world.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_in_is_cut_off_and_makes_room_for_the_next() {
    let world = World::start(token(), endless).await;
    let mut stalled = Vec::new();
    for _ in 0..MAX_SNAPSHOTS {
        let mut client = world.send("/snapshot", &authorization()).await;
        let mut first = [0; 15];
        client.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200 OK");
        stalled.push(client);
    }
    let refused = world.ask("/snapshot").await;
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("retry-after: "),
        "{refused}"
    );
    assert!(refused.contains("\"busy\""));

    until_nothing_more_is_written().await;
    tokio::time::pause();
    tokio::time::advance(MAX_STALL_TIME).await;
    tokio::time::resume();
    STOP_WRITING.store(true, Ordering::Relaxed);
    let again = async {
        while !world.ask("/snapshot").await.starts_with("HTTP/1.1 200 ") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within_a_minute(again).await;
    drop(stalled);
    world.stop().await;
}

#[tokio::test]
async fn a_producer_is_asked_over_http() {
    let world = World::start(token(), few).await;
    let last = world.emit(2).await;
    let producer = world.producer(TOKEN);
    assert_eq!(producer.holds(last).await.unwrap(), Holds::Yes);
    let lines = collect(&producer, Some(last)).await.unwrap();
    assert_eq!(lines.len(), 4);
    assert!(
        matches!(lines[0], Line::Position { at: Some(at), holds: Some(Holds::Yes), .. } if at == last)
    );
    assert!(matches!(lines[3], Line::End { rows: 2 }));

    let refused = world.producer("another-secret-altogether");
    for error in [
        refused.holds(last).await.unwrap_err(),
        refused.snapshot(None).await.unwrap_err(),
    ] {
        assert!(matches!(error, LogError::Misconfigured(_)));
        assert!(
            error
                .to_string()
                .contains("give both the same FREEHOLD_KIT_READ_TOKEN"),
            "{error}"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn a_reader_reports_how_far_it_has_come() {
    let world = World::start(token(), few).await;
    let last = world.emit(2).await;
    let producer = world.producer(TOKEN);
    let id = EventId::draw(&System);
    let (forked, beyond) = (Position { id, ..last }, Position { id, seq: 9 });
    for (reader, at, holds) in [
        ("a-cache", Some(last), Holds::Yes),
        ("new", None, Holds::Yes),
        ("forked", Some(forked), Holds::No),
        ("beyond", Some(beyond), Holds::No),
    ] {
        let answer = producer.report(reader, at).await.unwrap();
        assert_eq!(answer, holds, "{reader}");
    }
    assert_eq!(world.readers().await, ["a-cache at 2", "new at 0"]);
    let metrics = world.ask("/metrics").await;
    for line in ["freehold_readers 2\n", "freehold_slowest_reader_lag 2\n"] {
        assert!(metrics.contains(line), "{metrics}");
    }

    let unfit = producer.report("a/b", None).await.unwrap_err();
    assert!(matches!(unfit, LogError::Refused(_)), "{unfit}");
    let stranger = world.producer("another-secret-altogether");
    let refused = stranger.report("new", Some(last)).await.unwrap_err();
    assert!(matches!(refused, LogError::Misconfigured(_)), "{refused}");
    assert_eq!(world.readers().await, ["a-cache at 2", "new at 0"]);
    world.stop().await;
}

#[tokio::test]
async fn a_report_that_makes_no_sense_is_refused() {
    let world = World::start(token(), few).await;
    let long = "a".repeat(101);
    let id = EventId::draw(&System);
    let too_far = format!(r#"{{"at":{{"seq":{},"id":"{id}"}}}}"#, 1u64 << 63);
    for (reader, body, code) in [
        ("a%20b", r#"{"at":null}"#, "invalid_id"),
        (&*long, r#"{"at":null}"#, "invalid_id"),
        ("a", "", "malformed_json"),
        ("a", "{}", "invalid_body"),
        ("a", r#"{"at":2}"#, "invalid_body"),
        ("a", r#"{"at":{"seq":2}}"#, "invalid_body"),
        ("a", r#"{"at":null,"until":null}"#, "invalid_body"),
        ("a", &*too_far, "invalid_body"),
    ] {
        let answer = world.put(&format!("/log/readers/{reader}"), body).await;
        assert!(
            answer.contains(&format!("\"{code}\"")),
            "{reader} {body}: {answer}"
        );
    }
    assert!(world.readers().await.is_empty());
    world.stop().await;
}

#[tokio::test]
async fn no_more_readers_are_stored_than_a_thousand() {
    let world = World::start(token(), few).await;
    let fill = world.db.write(|tx| {
        let sql = "insert into relay_reader (reader, seq, heard_at_ms) values ('r' || ?1, 0, 9e15)";
        (0..1_000).try_for_each(|number| tx.execute(sql, [number]).map(drop))
    });
    fill.await.unwrap();
    let body = r#"{"at":null}"#;
    let refused = world.put("/log/readers/one-more", body).await;
    assert!(
        refused.starts_with("HTTP/1.1 503 ") && refused.contains("\"busy\""),
        "{refused}"
    );
    let known = world.put("/log/readers/r7", body).await;
    assert!(known.ends_with("{\"holds\":\"yes\"}"), "{known}");
    world.stop().await;
}

#[tokio::test]
async fn a_snapshot_that_is_cut_garbled_or_too_long_is_never_taken_for_whole() {
    let position = r#"{"position":{"stream":"KIT","epoch":1,"at":null,"holds":null}}"#;
    let long = format!("{{\"row\":\"{}\"}}", "x".repeat(2 << 20));
    for (body, why) in [
        (format!("{position}\n{{\"row\":{{}}}}\n"), "broke off"),
        (format!("{position}\nnonsense\n"), "cannot be read"),
        (format!("{position}\n{long}\n"), "longer than"),
        (
            format!("{position}\n{}", &long[..long.len() / 2 + 100]),
            "longer than",
        ),
    ] {
        let error = collect(&cut_after(body).await, None).await.unwrap_err();
        assert!(matches!(error, LogError::Disconnected(..)));
        assert!(error.to_string().contains(why), "{error}");
    }
    // Cut where a line ends, by a server that says that this was all.
    let whole = format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{position}\n",
        position.len() + 1
    );
    let lines = collect(&answering(whole).await, None).await.unwrap();
    assert!(!lines.iter().any(|line| matches!(line, Line::End { .. })));
}

#[tokio::test]
async fn a_producer_that_falls_silent_or_is_not_there_is_lost() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = asking(&listener, TOKEN);
    let asked = tokio::spawn(async move { silent.snapshot(None).await.map(drop) });
    let (mut socket, _) = listener.accept().await.unwrap();
    let mut request = [0; 1024];
    assert!(socket.read(&mut request).await.unwrap() > 0);
    tokio::time::pause();
    let error = asked.await.unwrap().unwrap_err();
    assert!(matches!(error, LogError::Disconnected(..)), "{error}");
    tokio::time::resume();

    let gone = asking(&listener, TOKEN);
    drop((listener, socket));
    let error = gone
        .holds(Position {
            seq: 1,
            id: EventId::draw(&System),
        })
        .await
        .unwrap_err();
    assert!(error.to_string().contains("does not answer"), "{error}");
}

#[tokio::test]
async fn only_a_producers_own_no_says_that_the_token_is_wrong() {
    let asked = async |status: u16, body: &str| {
        let head = format!("HTTP/1.1 {status} No\r\ncontent-length: {}", body.len());
        let producer = answering(format!("{head}\r\n\r\n{body}")).await;
        producer.report("reader", None).await.unwrap_err()
    };
    for status in [401, 403, 404] {
        for foreign in [
            "<html>log in",
            r#"{"code": "login_required", "detail": "of a proxy"}"#,
        ] {
            let error = asked(status, foreign).await;
            assert!(
                matches!(error, LogError::Disconnected(..)),
                "{status} {error}"
            );
        }
    }
    let own = r#"{"code": "unauthorized", "title": "no", "detail": "this token is not known"}"#;
    let error = asked(401, own).await;
    assert!(matches!(error, LogError::Misconfigured(_)), "{error}");
}

/// A service that publishes and shares.
struct World {
    running: Running,
    db: Database,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start(token: Result<Token, String>, share: relay::log::Share) -> Self {
        let (db, folder) = database().await;
        let service = Parts::new(&db)
            .publish(MemoryBroker::new(1), Retention::default())
            .share(share)
            .access(Access::closed().read_token(token));
        let running = Running::start(service, kit(Router::new())).await;
        let world = Self {
            running,
            db,
            _folder: folder,
        };
        let met = async {
            let id = EventId::draw(&System);
            while world
                .ask(&format!("/log/1?id={id}"))
                .await
                .contains("\"not_open\"")
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        within_a_minute(met).await;
        world
    }

    /// Emits so many events; answers the last.
    async fn emit(&self, count: u64) -> Position {
        let write = self.db.write(move |tx| {
            for _ in 0..count {
                tx.emit(&AnyEvent::new("kit.said.v1", "a", &json!({})))?;
            }
            Ok::<_, relay::EmitError>(())
        });
        write.await.unwrap();
        let lines = collect(&self.producer(TOKEN), None).await.unwrap();
        match lines[0] {
            Line::Position { at: Some(at), .. } => at,
            _ => panic!("{lines:?}"),
        }
    }

    fn producer(&self, token: &str) -> HttpProducer {
        let url = format!("http://{}", self.running.address).parse().unwrap();
        HttpProducer::new(url, token.parse().unwrap(), TOKEN_ENV).unwrap()
    }

    /// The readers that it has stored.
    async fn readers(&self) -> Vec<String> {
        let sql = "select reader || ' at ' || seq from relay_reader order by reader";
        let read = self.db.read(move |rows| {
            let mut readers = rows.prepare(sql)?;
            readers.query_map([], |row| row.get(0))?.collect()
        });
        read.await.unwrap()
    }

    async fn put(&self, path: &str, body: &str) -> String {
        let mut client = self.running.connect().await;
        let (length, token) = (body.len(), authorization());
        let request = format!(
            "PUT {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{token}\r\n{body}"
        );
        client.write_all(request.as_bytes()).await.unwrap();
        read_to_end(&mut client).await
    }

    async fn ask(&self, path: &str) -> String {
        self.get(path, &authorization()).await
    }

    async fn get(&self, path: &str, header: &str) -> String {
        read_to_end(&mut self.send(path, header).await).await
    }

    async fn send(&self, path: &str, header: &str) -> TcpStream {
        let mut client = self.running.connect().await;
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{header}\r\n");
        client.write_all(request.as_bytes()).await.unwrap();
        client
    }

    async fn stop(self) {
        self.running.stop.cancel();
        self.running.ended().await;
    }
}

fn token() -> Result<Token, String> {
    TOKEN.parse()
}

fn authorization() -> String {
    format!("authorization: Bearer {TOKEN}\r\n")
}

fn few(_: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    for n in 0..2 {
        to(relay::log::row(&json!({"n": n})));
    }
    Ok(())
}

static STOP_WRITING: AtomicBool = AtomicBool::new(false);

/// Until the client is gone, or until the test has seen enough.
fn endless(_: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let row = relay::log::row(&"x".repeat(10_000));
    while !STOP_WRITING.load(Ordering::Relaxed) && to(row.clone()) {
        WRITTEN.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

static WRITTEN: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// The buffers of the sockets are full.
async fn until_nothing_more_is_written() {
    let full = async {
        let mut before = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(300)).await;
            let now = WRITTEN.load(Ordering::Relaxed);
            if now == before {
                return;
            }
            before = now;
        }
    };
    within_a_minute(full).await;
}

/// The lines in a chunked body.
fn json_lines(answer: &str) -> Vec<Value> {
    let lines = answer.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn collect(producer: &HttpProducer, at: Option<Position>) -> Result<Vec<Line>, LogError> {
    let mut lines = producer.snapshot(at).await?;
    let mut all = Vec::new();
    while let Some(line) = within_a_minute(lines.recv()).await {
        all.push(line?);
    }
    Ok(all)
}

fn asking(listener: &TcpListener, token: &str) -> HttpProducer {
    let url = format!("http://{}", listener.local_addr().unwrap());
    HttpProducer::new(url.parse().unwrap(), token.parse().unwrap(), TOKEN_ENV).unwrap()
}

/// A producer that closes the connection amid the answer.
async fn cut_after(body: String) -> HttpProducer {
    let chunk = format!("{:x}\r\n{body}\r\n", body.len());
    answering(format!(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{chunk}"
    ))
    .await
}

async fn answering(answer: String) -> HttpProducer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let producer = asking(&listener, TOKEN);
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        let _asked = socket.read(&mut request).await;
        let _whole = socket.write_all(answer.as_bytes()).await;
    });
    producer
}

//! The accept loop and the stop, over real sockets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use relay::error::{Fatal, LogError};
use relay::log::Connect;
use relay::nats::NatsStream;
use relay::publish::Retention;
use relay::{Database, Stop};

use service_kit::Routes;
use service_kit::limits::{MAX_BODY_TIME, MAX_CONNECTIONS, MAX_DRAIN_TIME, MAX_HEADER_TIME};
use service_kit::testing::{self, GUEST, OPERATOR};
use service_program::Parts;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::{database, kit, routes};

#[tokio::test]
async fn a_request_under_way_is_finished_after_the_stop_and_the_port_refuses() {
    let (db, _folder) = database().await;
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let running = serve(&db, waiting(&entered, &leave)).await;
    let mut client = running.connect().await;
    client
        .write_all(b"GET /wait HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    entered.notified().await;

    running.stop.cancel();
    while TcpStream::connect(running.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    leave.notify_one();
    let answer = read_to_end(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("left"),
        "{answer}"
    );
    running.ended().await;
    let closed = db.read(|_| Ok::<_, relay::rusqlite::Error>(())).await;
    assert!(matches!(closed, Err(relay::error::ReadError::Closed)));
}

#[tokio::test]
async fn a_spawned_task_is_stopped_before_the_file_is_closed_and_must_not_end_earlier() {
    let (db, _folder) = database().await;
    let (listener, stop) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), Stop::new());
    let last_look = db.clone();
    let task = |stop: Stop| async move {
        stop.cancelled().await;
        let read = last_look.read(|_| Ok::<_, relay::rusqlite::Error>(()));
        read.await.map_err(|error| Fatal(error.to_string()))
    };
    stop.cancel();
    let service = Parts::new(&db).spawn(task);
    service.serve(routes(), listener, stop).await.unwrap();

    let (db, _folder) = database().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Parts::new(&db).spawn(|_| async { Ok(()) });
    let ended = service.serve(routes(), listener, Stop::new()).await;
    assert!(
        ended
            .unwrap_err()
            .to_string()
            .contains("before it was stopped")
    );
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_stop() {
    let (db, _folder) = database().await;
    let running = serve(&db, routes()).await;
    let mut fresh = running.connect().await;
    let mut kept = running.connect().await;
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = [0; 512];
    assert!(kept.read(&mut answer).await.unwrap() > 0);

    running.stop.cancel();
    let ended = tokio::time::timeout(MAX_DRAIN_TIME / 2, running.ended());
    ended
        .await
        .expect("idle connections do not hold up the stop");
    assert_eq!(read_to_end(&mut fresh).await, "");
    assert_eq!(read_to_end(&mut kept).await, "");
}

#[tokio::test]
async fn strangers_that_hold_every_place_keep_no_caller_out_and_cost_no_request_under_way() {
    let (db, _folder) = database().await;
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let service = Parts::new(&db).access(testing::access());
    let running = Running::start(service, waiting(&entered, &leave)).await;
    let mut known = running.connect().await;
    let asks =
        format!("GET /wait HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {GUEST}\r\n\r\n");
    known.write_all(asks.as_bytes()).await.unwrap();
    entered.notified().await;
    let mut strangers = Vec::new();
    for at in 0..MAX_CONNECTIONS + 100 {
        let mut stranger = running.connect().await;
        // Nothing, a part of a head, and a body that does not come.
        let says: &[u8] = match at % 3 {
            0 => b"",
            1 => b"GET /livez HTTP/1.1\r\nhost:",
            _ => b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{",
        };
        let _ = stranger.write_all(says).await;
        strangers.push(stranger);
    }
    let newcomer = async {
        let mut newcomer = running.connect().await;
        let asks = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        newcomer.write_all(asks).await.unwrap();
        read_to_end(&mut newcomer).await
    };
    let answer = tokio::time::timeout(MAX_HEADER_TIME / 2, newcomer).await;
    let answer = answer.expect("a place is made before the strangers' time is over");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    leave.notify_one();
    let mut first = [0; 15];
    within_a_minute(known.read_exact(&mut first)).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    running.stop.cancel();
    running.ended().await;
}

#[tokio::test]
async fn a_head_that_never_ends_does_not_delay_the_stop() {
    let (db, _folder) = database().await;
    let running = serve(&db, routes()).await;
    let mut fresh = running.connect().await;
    fresh.write_all(b"GET /livez HTTP/1.1\r\nho").await.unwrap();
    let mut kept = running.connect().await;
    kept.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    assert!(kept.read(&mut [0; 512]).await.unwrap() > 0);
    kept.write_all(b"GET /livez HTTP/1.1\r\nho").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // so that both have arrived; if not, it is easier

    running.stop.cancel();
    let ended = tokio::time::timeout(MAX_HEADER_TIME / 2, running.ended());
    ended
        .await
        .expect("it does not wait for the rest of a head");
}

#[tokio::test]
async fn a_request_that_waits_is_answered_when_the_service_stops() {
    let (db, _folder) = database().await;
    let service = Parts::new(&db).access(testing::access());
    let running = Running::start(service, routes()).await;
    let mut client = running.connect().await;
    let asks = format!(
        "GET /things/7 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OPERATOR}\r\nfreehold-wait-for: kit@9\r\nfreehold-max-wait-ms: 8000\r\n\r\n"
    );
    client.write_all(asks.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // so that it waits; if it does not, it is refused a connection
    running.stop.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(4), running.ended());
    ended
        .await
        .expect("it does not wait until the request's time is over");
    let answer = read_to_end(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting_down"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_body_that_does_not_come_does_not_delay_the_stop() {
    let (db, _folder) = database().await;
    let service = Parts::new(&db).access(testing::access());
    let running = Running::start(service, routes().open("/echo")).await;
    let mut client = running.connect().await;
    let asks = "POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{\"wo";
    client.write_all(asks.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await; // so that its body is waited for
    running.stop.cancel();
    let ended = tokio::time::timeout(MAX_BODY_TIME / 2, running.ended());
    ended.await.expect("it does not wait for the body");
    let answer = read_to_end(&mut client).await;
    assert!(
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("shutting_down"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_relay_that_cannot_go_on_ends_the_service_with_its_reason() {
    let (db, _folder) = database().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let service = Parts::new(&db).publish(Refused, Retention::default());
    let ended = service.serve(routes(), listener, Stop::new()).await;
    assert_eq!(format!("{:#}", ended.unwrap_err()), "a wrong password");
    let closed = db.read(|_| Ok::<_, relay::rusqlite::Error>(())).await;
    assert!(matches!(closed, Err(relay::error::ReadError::Closed)));
}

#[tokio::test]
async fn a_connection_whose_headers_never_come_is_closed() {
    let (db, _folder) = database().await;
    let running = serve(&db, routes()).await;
    let mut slow = running.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nhost:")
        .await
        .unwrap();
    // Only then: the clock jumps whenever nothing else is left to do.
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let answer = read_to_end(&mut slow).await;
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
        "{answer}"
    );
    assert!(began.elapsed() <= MAX_HEADER_TIME, "{:?}", began.elapsed());
    tokio::time::resume();
    running.stop.cancel();
    running.ended().await;
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (db, _folder) = database().await;
    let running = serve(&db, routes()).await;
    let mut client = running.connect().await;
    let head = format!(
        "GET /livez HTTP/1.1\r\nhost: localhost\r\nlong: {}\r\n\r\n",
        "x".repeat(200_000)
    );
    client.write_all(head.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    running.stop.cancel();
    running.ended().await;
}

/// A broker that refuses every client.
struct Refused;

impl Connect for Refused {
    type Session = <NatsStream as Connect>::Session;

    async fn connect(&self) -> Result<Self::Session, LogError> {
        Err(LogError::Misconfigured("a wrong password".to_owned()))
    }

    fn stream(&self) -> &'static str {
        "KIT"
    }
}

pub struct Running {
    pub address: SocketAddr,
    pub stop: Stop,
    service: JoinHandle<anyhow::Result<()>>,
}

async fn serve(db: &Database, routes: Routes) -> Running {
    Running::start(Parts::new(db), routes).await
}

impl Running {
    pub async fn start(service: Parts, routes: Routes) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stop = Stop::new();
        Self {
            address: listener.local_addr().unwrap(),
            service: tokio::spawn(service.serve(routes, listener, stop.clone())),
            stop,
        }
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    pub async fn ended(self) {
        within_a_minute(self.service).await.unwrap().unwrap();
    }
}

/// A route that says when it was entered and stays until it may leave.
fn waiting(entered: &Arc<Notify>, leave: &Arc<Notify>) -> Routes {
    let (entered, leave) = (entered.clone(), leave.clone());
    let wait = async move || {
        entered.notify_one();
        leave.notified().await;
        "left"
    };
    kit(Router::new().route("/wait", get(wait))).open("/wait")
}

/// What still comes until the other side closes.
pub async fn read_to_end(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset is a close too: the server does not read what it has refused.
    let _ = within_a_minute(client.read_to_end(&mut bytes)).await;
    String::from_utf8(bytes).unwrap()
}

pub async fn within_a_minute<T>(wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(60), wait).await;
    waited.expect("it comes within a minute")
}

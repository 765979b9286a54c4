//! Many callers without a token: they do not slow down others, and add little to the log.

use std::time::Duration;

use freehold_tests::http::Api;
use freehold_tests::{Part, Service, SyncApi, World, seconds};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use uuid::Uuid;

const LOOP: usize = 300;
const SILENT: usize = 1_100;
/// A program closes a silent connection after 10 s. No caller should have to wait for that.
const SOON: Duration = seconds(4);

#[tokio::test]
async fn a_loop_of_refused_requests_writes_a_few_lines() {
    let mut world = World::builder().with_drivers(1).start().await;
    for part in [
        &world.user_service,
        &world.orders_service,
        &world.drivers[0].app,
    ] {
        let api = Api::of(part).sending(None);
        for _ in 0..LOOP {
            let refused = api.get("/nothing").await;
            assert!([401, 404, 429].contains(&refused.status), "{refused:?}");
        }
        let lines = lines_of(part, r#""route":"unknown""#);
        println!("{}: {LOOP} refusals, {lines} lines", part.name());
        assert!((1..=LOOP / 3).contains(&lines), "{}: {lines}", part.name());
        let metrics = api.metrics().await.expect("it is measured");
        let counted: f64 = ["401", "404", "429"]
            .into_iter()
            .filter_map(|status| metrics.labelled("freehold_http_requests_total", "status", status))
            .sum();
        assert!(counted >= 1.0, "{metrics:?}");
    }
    world.check().await;
}

#[tokio::test]
async fn silent_connections_lock_no_caller_out() {
    let mut world = World::builder().without_user_service().start().await;
    let office = world.orders();
    let driver = office.enrol_driver("Eve").await.expect_status(201);
    let code = office.code(driver.id()).await.expect_status(201).body["code"].clone();
    let mut silent = Vec::new();
    for at in 0..SILENT {
        let connected = TcpStream::connect(world.orders_service.address()).await;
        let mut stranger = connected.expect("connected");
        if at % 2 == 0 {
            let _ = stranger.write_all(b"GET /livez HTTP/1.1\r\nho").await;
        }
        silent.push(stranger);
    }
    let health = newcomer(&world.orders_service);
    let answer = timeout(SOON, health).await.expect("in time");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let api = SyncApi::of(&world.orders_service);
    let device_id = Uuid::now_v7().to_string();
    let enrolled = api.enrol(code.as_str().expect("text"), &device_id);
    let device = timeout(SOON, enrolled).await.expect("in time");
    let feed = device.expect("enrolled");
    let page = timeout(SOON, feed.feed("")).await.expect("in time");
    page.expect_status(200);
    drop(silent);
    world.check().await;
}

/// The first words of the answer to a connection of its own.
async fn newcomer(part: &Service) -> [u8; 15] {
    let connected = TcpStream::connect(part.address()).await;
    let mut connection = connected.expect("connected");
    let asked = connection.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n");
    asked.await.expect("sent");
    let mut answer = [0; 15];
    let read = connection.read_exact(&mut answer).await;
    read.expect("answered");
    answer
}

fn lines_of(part: &Service, what: &str) -> usize {
    let process = part.process().expect("it runs");
    let log = process.logs().stderr();
    log.lines().filter(|line| line.contains(what)).count()
}

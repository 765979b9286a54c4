//! How long programs take to stop while callers wait for answers.

use std::time::{Duration, Instant};

use freehold_tests::http::Reply;
use freehold_tests::{Part, Service, SyncApi, World};
use reqwest::Method;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use uuid::Uuid;

const DEVICES: usize = 20;
/// Half of the longest poll. A stop took 7 to 8 s before waiting requests were ended by it.
const SOON: Duration = Duration::from_secs(4);

#[tokio::test]
async fn polling_devices_are_answered_when_the_owner_stops() {
    let mut world = World::builder().without_user_service().start().await;
    let mut devices = Vec::new();
    for _ in 0..DEVICES {
        devices.push(device(&world).await);
    }
    let waits = |(api, after): (SyncApi, String)| {
        tokio::spawn(async move { api.feed(&format!("after={after}&wait_ms=8000")).await })
    };
    let waiting: Vec<_> = devices.into_iter().map(waits).collect();
    until_they_wait().await;

    let began = Instant::now();
    world.orders_service.stop().await.expect("it stops");
    let took = began.elapsed();
    world.orders_service.start().await.expect("it starts");
    println!(
        "stopped under {DEVICES} waiting devices in {took:?}, back after {:?}",
        began.elapsed()
    );
    assert!(took < SOON, "{took:?}");
    for answered in waiting {
        let page = answered.await.expect("no panic").expect_status(200).body;
        assert_eq!(page["items"], serde_json::json!([]), "{page}");
    }
    world.check().await;
}

#[tokio::test]
async fn a_polling_page_and_half_sent_requests_do_not_delay_a_stop() {
    let mut world = World::builder().with_drivers(1).start().await;
    let mut strangers = Vec::new();
    for part in [
        &world.user_service,
        &world.orders_service,
        &world.drivers[0].app,
    ] {
        let mut stranger = TcpStream::connect(part.address()).await.expect("connected");
        stranger
            .write_all(b"GET /livez HTTP/1.1\r\nho")
            .await
            .expect("sent");
        strangers.push(stranger);
    }
    for (part, path) in [
        (&world.orders_service, "/devices"),
        (&world.drivers[0].app, "/api/enrol"),
    ] {
        strangers.push(half_a_body(part, path).await);
    }
    let page = world.drivers[0].api();
    let known = page.get("/api/state").await.body["revision"].clone();
    let waiting = tokio::spawn(async move {
        Reply::of(page.request(
            Method::GET,
            &format!("/api/state?after={known}&wait_ms=8000"),
        ))
        .await
    });
    until_they_wait().await;
    for part in [
        &mut world.drivers[0].app,
        &mut world.user_service,
        &mut world.orders_service,
    ] {
        let began = Instant::now();
        part.stop().await.expect("it stops");
        println!("{} stopped in {:?}", part.name(), began.elapsed());
        assert!(
            began.elapsed() < SOON,
            "{} {:?}",
            part.name(),
            began.elapsed()
        );
        part.start().await.expect("it starts");
    }
    waiting.await.expect("no panic").expect_status(200);
    drop(strangers);
    world.check().await;
}

/// A request whose body breaks off in the middle.
async fn half_a_body(part: &Service, path: &str) -> TcpStream {
    let connected = TcpStream::connect(part.address()).await;
    let mut stranger = connected.expect("connected");
    let head = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n");
    let body = "content-type: application/json\r\ncontent-length: 99\r\n\r\n{\"co";
    let sent = stranger.write_all(format!("{head}{body}").as_bytes()).await;
    sent.expect("sent");
    stranger
}

/// A device, and where it is in its feed: nothing is new.
async fn device(world: &World) -> (SyncApi, String) {
    let office = world.orders();
    let driver = office.enrol_driver("Eve").await.expect_status(201);
    let code = office.code(driver.id()).await.expect_status(201).body["code"].clone();
    let api = SyncApi::of(&world.orders_service);
    let device_id = Uuid::now_v7().to_string();
    let api = api.enrol(code.as_str().expect("text"), &device_id).await;
    let api = api.expect("enrolled");
    let page = api.feed("").await.expect_status(200).body;
    (api, page["next"].as_str().expect("a place").to_owned())
}

/// A request that has not arrived when the program stops is refused a connection, which the test would notice.
async fn until_they_wait() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

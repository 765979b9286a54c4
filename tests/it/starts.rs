//! Starts that must fail: one clear line with the remedy, and a non-zero exit code.

use std::path::PathBuf;

use freehold_tests::{Part, Service, World};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

/// A start of a service's program that is expected to end by itself.
struct Start<'a> {
    service: &'a Service,
    database: PathBuf,
    listen: String,
    broker: String,
}

impl<'a> Start<'a> {
    /// On a file of its own, on any port, without a broker.
    fn of(service: &'a Service, world: &World) -> Self {
        Self {
            service,
            database: world.folder().join("own.db"),
            listen: "127.0.0.1:0".to_owned(),
            broker: "nats://127.0.0.1:1".to_owned(),
        }
    }

    /// Returns the one line that says why.
    async fn refused(self) -> String {
        let mut command = tokio::process::Command::new(self.service.program());
        command
            .args([
                "--listen",
                &self.listen,
                "--broker",
                &self.broker,
                "--database",
            ])
            .arg(self.database)
            .env("FREEHOLD_USERS_PASSWORD", "p0123456789abcdefghijklmnop")
            .env("FREEHOLD_ORDERS_PASSWORD", "p0123456789abcdefghijklmnop")
            .kill_on_drop(true);
        let ended = tokio::time::timeout(freehold_tests::seconds(30), command.output());
        let ended = ended
            .await
            .expect("it ends by itself")
            .expect("it was started");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(!ended.status.success(), "it ended with success: {said}");
        let error = said.lines().rfind(|line| line.starts_with("error: "));
        error
            .unwrap_or_else(|| panic!("no clear line: {said}"))
            .to_owned()
    }
}

#[tokio::test]
async fn a_wrong_broker_password_is_named() {
    let world = World::builder().without_user_service().start().await;
    let start = Start {
        broker: world.broker.url(),
        ..Start::of(&world.user_service, &world)
    };
    let said = start.refused().await;
    assert!(said.contains("refuses the login of user-service"), "{said}");
    assert!(said.contains("password"), "{said}");
}

/// It accepts connections and sends nothing, like a paused broker.
#[tokio::test]
async fn a_reader_that_has_not_read_yet_is_not_said_to_be_up_to_date() {
    let mut world = World::start().await;
    world.orders_service.stop().await.expect("it stops");
    world.broker.pause();
    world.orders_service.start().await.expect("it starts");
    let status = world.orders_service.command(&["status"]).await;
    world.broker.resume();
    assert!(!status.stdout.contains("; 0 behind"), "{status:?}");
    assert_ne!(status.code, Some(0), "{status:?}");
    let reader = status
        .stdout
        .lines()
        .find(|line| line.starts_with("consumer"));
    let reader = reader.unwrap_or_else(|| panic!("{status:?}"));
    assert!(
        reader.contains("unknown") || reader.contains("stopped: "),
        "{reader}"
    );
}

#[tokio::test]
async fn an_old_broker_is_named_with_its_version() {
    let world = users_alone().await;
    let old = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = old.local_addr().expect("an address");
    let playing = tokio::spawn(play_old_broker(old));
    let start = Start {
        broker: format!("nats://{address}"),
        ..Start::of(&world.user_service, &world)
    };
    let said = start.refused().await;
    assert!(
        said.contains("nats-server 2.9.10, but 2.12.2 or newer"),
        "{said}"
    );
    playing.abort();
}

/// The part of Debian's nats-server that a client sees before it decides.
async fn play_old_broker(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let info = r#"INFO {"server_id":"OLD","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576,"jetstream":true}"#;
        let _ = stream.write_all(format!("{info}\r\n").as_bytes()).await;
        let (reading, mut writing) = stream.split();
        let mut lines = BufReader::new(reading).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if line.starts_with("PING") {
                let _ = writing.write_all(b"PONG\r\n").await;
            }
        }
    }
}

#[tokio::test]
async fn another_services_database_is_refused() {
    let mut world = World::start().await;
    world.user_service.stop().await.expect("it stops");
    let before = std::fs::read(&world.user_service.database).expect("it is read");
    let start = Start {
        database: world.user_service.database.clone(),
        ..Start::of(&world.orders_service, &world)
    };
    let said = start.refused().await;
    assert!(
        said.contains("belongs to user-service, not to orders-service"),
        "{said}"
    );
    let after = std::fs::read(&world.user_service.database).expect("it is read");
    assert_eq!(after, before);
}

#[tokio::test]
async fn a_second_process_on_one_file_is_refused_and_the_refusal_names_the_holder() {
    let world = users_alone().await;
    let start = Start {
        database: world.user_service.database.clone(),
        ..Start::of(&world.user_service, &world)
    };
    let said = start.refused().await;
    let pid = world.user_service.pid().expect("it runs");
    let holder = format!("in use by another process (process {pid})");
    assert!(said.contains(&holder), "{said}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let world = users_alone().await;
    let taken = format!("127.0.0.1:{}", world.user_service.port());
    let start = Start {
        listen: taken.clone(),
        ..Start::of(&world.user_service, &world)
    };
    let said = start.refused().await;
    assert!(said.contains(&taken) && said.contains("--listen"), "{said}");
}

#[tokio::test]
async fn an_address_the_world_can_reach_is_refused() {
    let world = users_alone().await;
    let start = Start {
        listen: "0.0.0.0:0".to_owned(),
        ..Start::of(&world.user_service, &world)
    };
    let said = start.refused().await;
    assert!(said.contains("loopback"), "{said}");
}

/// A world whose only part is user-service.
async fn users_alone() -> World {
    let builder = World::builder().without_broker().without_orders_service();
    builder.start().await
}

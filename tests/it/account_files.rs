//! An account file that lacks a line: the service that needs it names that line, at its start.

use freehold_tests::{Part, World, broker, eventually, paths, seconds, services};
use relay::error::LogError;
use relay::log::{AppendLog, Connect, Log, Origin, Stream};
use relay::nats::{Import, StreamSession};
use relay::testing::conformance::chain;
use uuid::Uuid;

use crate::applied::register;
use crate::logs::{owner, reader};

/// A running broker whose configuration has the second text instead of the first, and no service.
async fn broker_with(text: &str, instead: &str) -> World {
    let builder = World::builder().without_broker();
    let builder = builder.without_user_service().without_orders_service();
    let mut world = builder.start().await;
    lacks(&mut world, text, instead).await;
    world
}

async fn lacks(world: &mut World, text: &str, instead: &str) {
    let changed = world.broker.change(|it| it.replace(text, instead));
    changed.expect("written");
    world.broker.start().await.expect("it starts");
}

/// Both services and such a broker; orders-service is still to be started.
async fn services_with(text: &str, instead: &str) -> World {
    let mut world = World::start().await;
    world.orders_service.stop().await.expect("it stops");
    world.broker.stop().await.expect("it stops");
    lacks(&mut world, text, instead).await;
    register(&world, 0..1).await;
    world
}

async fn writer(world: &World) -> StreamSession {
    let to = owner(&world.broker).stream("USERS");
    let mut writer = to.connect().await.expect("it connects");
    let origin = Origin {
        database_id: Uuid::from_u128(7),
        epoch: 1,
    };
    writer.create(1, &origin, "0f").await.expect("it is made");
    writer
}

/// The result of the first look of orders-service at USERS.
async fn first_look(world: &World) -> LogError {
    let from = reader(&world.broker).reader("USERS");
    let mut session = from.connect().await.expect("it connects");
    let looked = tokio::time::timeout(seconds(4), session.head()).await;
    let looked = looked.expect("it does not wait for an answer that never comes");
    looked.expect_err("a line is missing")
}

#[test]
fn accounts_conf_is_what_the_manifest_asks_for() {
    let file = paths::workspace().join("accounts.conf");
    let written = std::fs::read_to_string(file).expect("it is there");
    let asked = broker::accounts_file(services::manifest().services());
    assert_eq!(written, asked, "`cargo xtask accounts` writes it");
}

#[tokio::test]
async fn a_reader_names_the_permission_that_its_account_file_lacks() {
    let [info, get, live] = Import::ALL.map(|import| format!("{:?}", import.subject("USERS")));
    let inbox = r#""_INBOX_orders.>""#.to_owned();
    for (lacking, text, instead) in [
        (&inbox, format!("{inbox}, "), ""),
        (&info, format!("{info}, {get}"), get.as_str()),
        (&get, format!("{info}, {get}"), &info),
        (&live, format!(", {live}"), ""),
    ] {
        let world = broker_with(&text, instead).await;
        let _writer = writer(&world).await;
        let error = first_look(&world).await;
        assert!(matches!(error, LogError::Misconfigured(_)), "{error:?}");
        let said = error.to_string();
        assert!(
            said.contains(&format!("add {lacking} to what it may")),
            "{said}"
        );
        assert!(
            said.contains("`orders-service broker-config` prints"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_reader_names_the_import_that_its_account_file_lacks() {
    for import in [Import::Info, Import::DirectGet] {
        let line = import.line("USERS");
        let world = broker_with(&line, "").await;
        let _writer = writer(&world).await;
        let said = first_look(&world).await.to_string();
        assert!(
            said.contains(&format!("add `{line}` to the imports")),
            "{said}"
        );
        assert!(
            said.contains("`orders-service broker-config` prints"),
            "{said}"
        );
    }
}

#[tokio::test]
async fn without_live_copies_events_are_read_all_the_same() {
    let world = broker_with(&Import::Live.line("USERS"), "").await;
    let mut writer = writer(&world).await;
    let from = reader(&world.broker).reader("USERS");
    let mut session = from.connect().await.expect("it connects");
    session.head().await.expect("it is shown");
    let mut head = writer.head().await.expect("shown").expect("there");
    for seq in 1..=4 {
        let events = chain(seq - 1, None, 1);
        head = writer.append_after(&head, &events).await.expect("taken");
        let read = session.read_after(seq - 1, 10, seconds(10)).await;
        assert_eq!(read.expect("read").len(), 1);
    }
}

#[tokio::test]
async fn an_owner_names_the_permission_that_its_account_file_lacks() {
    let lacking = r#""$JS.API.STREAM.INFO.USERS""#;
    let world = broker_with(&format!("{lacking}, "), "").await;
    let to = owner(&world.broker).stream("USERS");
    let mut session = to.connect().await.expect("it connects");
    let said = session.head().await.expect_err("refused").to_string();
    assert!(
        said.contains(&format!("add {lacking} to what it may publish")),
        "{said}"
    );
    assert!(
        said.contains("`user-service broker-config` prints"),
        "{said}"
    );
}

#[tokio::test]
async fn an_owner_names_the_inbox_that_its_account_file_lacks() {
    let lacking = r#""_INBOX_users.>""#;
    let world = broker_with(lacking, r#""_INBOX_nobodys.>""#).await;
    let to = owner(&world.broker).stream("USERS");
    let mut session = to.connect().await.expect("it connects");
    let looked = tokio::time::timeout(seconds(4), session.head()).await;
    let looked = looked.expect("it does not wait for an answer that never comes");
    let said = looked.expect_err("refused").to_string();
    assert!(
        said.contains(&format!("add {lacking} to what it may subscribe")),
        "{said}"
    );
}

#[tokio::test]
async fn a_service_does_not_start_without_a_permission_and_says_which() {
    let live = format!("{:?}", Import::Live.subject("USERS"));
    let mut world = services_with(&format!(", {live}"), "").await;
    // It answers requests before it has looked at the stream, so its start may still succeed.
    let started = world.orders_service.start().await;
    let logs = match started {
        Ok(()) => {
            let process = world.orders_service.process().expect("it was started");
            let logs = process.logs().clone();
            let service = &mut world.orders_service;
            eventually("it ends", seconds(30), async || {
                match service
                    .process_mut()
                    .and_then(|process| process.exit_status())
                {
                    Some(status) if !status.success() => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            logs.stderr()
        }
        Err(error) => error.log,
    };
    let cure = format!("add {live} to what it may subscribe");
    assert!(logs.contains(&cure), "{logs}");

    world.broker.stop().await.expect("it stops");
    world.broker.config = paths::nats_conf();
    world.broker.start().await.expect("it starts");
    world.orders_service.start().await.expect("it starts");
    world.until_applied(1).await;
}

#[tokio::test]
async fn a_service_that_gets_no_live_copies_names_the_missing_line_and_continues() {
    let line = Import::Live.line("USERS");
    let mut world = services_with(&line, "").await;
    world.orders_service.start().await.expect("it starts");
    let logs = world
        .orders_service
        .process()
        .expect("it runs")
        .logs()
        .clone();
    let mut number = 1;
    eventually("the line is named", seconds(60), async || {
        register(&world, number..number + 1).await;
        number += 1;
        world.until_applied(number).await;
        match logs.stderr().contains("no live copy of it arrives") {
            true => Ok(()),
            false => Err("not yet"),
        }
    })
    .await;
    let lines = logs.stderr().matches("no live copy").count();
    assert!(lines <= 2, "{lines}: one for each of two consumers");
}

//! The harness takes services by their programs alone, and a test may play the owner of a stream.

use std::path::PathBuf;

use event_schema::{UserCreated, UserEvent, UserId, Version};
use freehold_harness::World;
use freehold_tests::http::{Api, Reply};
use freehold_tests::{Declared, Part, eventually, seconds, services};
use reqwest::Method;
use serde_json::json;
use tokio::task::spawn_blocking;

async fn program(name: &str) -> PathBuf {
    let built = spawn_blocking(services::binaries).await;
    built.expect("no panic").expect("it is built").join(name)
}

async fn place(orders: &Api, user: &str) -> Reply {
    let order = json!({"user_id": user, "amount_minor": 1250, "currency": "EUR"});
    orders.send(Method::POST, "/orders", &order).await
}

/// The name comes from the cache, so the event has arrived.
async fn until_shown(orders: &Api, order: &str, name: &str) {
    let path = format!("/orders/{order}?include=user");
    eventually("the order shows the name", seconds(30), async || {
        let user = orders.get(&path).await.body["user"].clone();
        match user["name"] == name && user["from"] == "cache" {
            true => Ok(()),
            false => Err(format!("it shows {user}")),
        }
    })
    .await;
}

#[tokio::test]
async fn services_known_by_their_programs_alone_work_and_survive_kills() {
    let [users, orders] = [
        program("user-service").await,
        program("orders-service").await,
    ];
    let mut world = World::builder()
        .service(users)
        .service(orders)
        .start()
        .await;
    let (users, orders) = (world.api("user-service"), world.api("orders-service"));
    let ada = json!({"name": "Ada", "email": "ada@example.org"});
    let ada = users.send(Method::POST, "/users", &ada).await;
    let ada = ada.expect_status(201);

    world.broker.kill();
    let path = format!("/users/{}", ada.id());
    let name = json!({"name": "Countess"});
    let renamed = users.send(Method::PATCH, &path, &name).await;
    renamed.expect_status(200);
    for name in ["user-service", "orders-service"] {
        world.service_mut(name).kill();
        let started = world.service_mut(name).start().await;
        started.expect("it starts again");
    }
    world.broker.start().await.expect("it starts again");

    let order = place(&orders, ada.id()).await.expect_status(201);
    until_shown(&orders, order.id(), "Countess").await;
    world.service_mut("orders-service").pause();
    world.check().await;
    let events = world.observer().read_all("USERS").await;
    assert_eq!(events.expect("read").len(), 2);
}

#[tokio::test]
async fn a_test_plays_the_owner_of_a_stream_and_the_check_covers_it() {
    let orders = program("orders-service").await;
    let world = World::builder().service(orders).plays::<UserEvent>();
    let mut world = world
        .broker(|settings| settings.sync_interval("2m"))
        .start()
        .await;
    let user_id = UserId::new();
    let created = UserCreated {
        user_id,
        name: "Ada".to_owned(),
        version: Version::FIRST,
    };
    world.broker.kill();
    assert_eq!(world.emit(&UserEvent::Created(created)).await, 1);
    world.broker.start().await.expect("it starts");
    let orders = world.api("orders-service");
    let order = eventually("its user is known", seconds(30), async || {
        let reply = place(&orders, &user_id.to_string()).await;
        match reply.status {
            201 => Ok(reply),
            other => Err(format!("{other} {}", reply.body)),
        }
    })
    .await;
    until_shown(&orders, order.id(), "Ada").await;

    world.service_mut("orders-service").kill();
    world.check().await;
    let config = std::fs::read_to_string(&world.broker.config).expect("it is there");
    assert!(config.contains("sync_interval: \"2m\""), "{config}");
}

#[tokio::test]
async fn a_follower_without_its_owner_is_refused_with_the_cure() {
    let orders = program("orders-service").await;
    let started = tokio::spawn(World::builder().service(orders).start()).await;
    let panic = started.expect_err("it panics").into_panic();
    let said = panic.downcast_ref::<String>().expect("a text");
    assert!(
        said.contains("orders-service follows USERS, which no service here owns: add its owner"),
        "{said}"
    );
}

#[tokio::test]
async fn the_manifest_says_what_the_programs_say() {
    let built = spawn_blocking(|| services::manifest().programs()).await;
    for (declared, program) in built.expect("no panic").expect("they are built") {
        let said = Declared::by(&program).await.expect("it describes itself");
        assert_eq!(said, declared);
        let printed = said.account_by(&program).await.expect("it prints it");
        assert_eq!(printed, declared.account());
    }
}

#[tokio::test]
async fn a_world_has_the_services_of_its_manifest_but_for_those_the_test_plays() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("freehold.toml");
    let mut text = String::new();
    for name in ["user-service", "orders-service"] {
        let built = program(name).await;
        let said = Declared::by(&built).await.expect("it describes itself");
        let Declared {
            port,
            stream,
            follows,
            ..
        } = said;
        text += &format!(
            "[[service]]\nname = {name:?}\nprogram = {built:?}\nport = {port}\nstream = {stream:?}\nfollows = {follows:?}\n"
        );
    }
    std::fs::write(&file, text).expect("written");
    for (builder, started) in [
        (World::builder(), &["user-service", "orders-service"][..]),
        (World::builder().plays::<UserEvent>(), &["orders-service"]),
    ] {
        let mut world = builder.manifest_file(&file).start().await;
        let names: Vec<_> = world.services().iter().map(|it| it.name()).collect();
        assert_eq!(names, started);
        world.check().await;
    }
}

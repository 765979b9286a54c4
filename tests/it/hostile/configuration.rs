//! Why the passwords are checked before the broker starts: what nats-server itself does with bad ones.

use freehold_tests::process::{Launch, Process};
use freehold_tests::wire::{Login, Wire};
use freehold_tests::{Password, World, eventually, paths, seconds};

use crate::owner::User;

/// nats-server with our nats.conf and this password for user-service, without our starter and its check.
struct Raw {
    world: World,
    process: Process,
}

impl Raw {
    async fn start(users_password: Option<&str>) -> Raw {
        let world = World::builder()
            .without_broker()
            .without_user_service()
            .without_orders_service()
            .start()
            .await;
        let launch = Launch::of("raw", &world.broker.server().program, world.logs())
            .arg("-c")
            .arg(paths::nats_conf())
            .arg("-p")
            .arg(world.broker.address().port().to_string())
            .env(
                "FREEHOLD_NATS_STORE",
                &world.broker.store().to_string_lossy(),
            )
            .env(
                "FREEHOLD_ORDERS_PASSWORD",
                world.broker.credentials().password("ORDERS").reveal(),
            )
            .env(
                "FREEHOLD_OBSERVER_PASSWORD",
                world.broker.credentials().observer().reveal(),
            );
        let launch = users_password.into_iter().fold(launch, |launch, text| {
            launch.env("FREEHOLD_USERS_PASSWORD", text)
        });
        Raw {
            process: Process::spawn(launch).expect("the program is there"),
            world,
        }
    }

    async fn refuses_to_start(mut self, because: &str) {
        let process = &mut self.process;
        let status = eventually("it ends", seconds(10), async || {
            process.exit_status().ok_or("it runs")
        })
        .await;
        let said = process.logs().tail(20);
        assert!(
            !status.success() && said.contains(because),
            "{status}: {said}"
        );
    }
}

#[tokio::test]
async fn an_unset_password_stops_the_broker() {
    Raw::start(None)
        .await
        .refuses_to_start("FREEHOLD_USERS_PASSWORD")
        .await;
}

#[tokio::test]
async fn a_password_that_looks_like_a_number_stops_the_broker_with_an_obscure_error() {
    Raw::start(Some("12345678901234567"))
        .await
        .refuses_to_start("interface conversion")
        .await;
    "12345678901234567"
        .parse::<Password>()
        .expect_err("our starter says it in words");
}

#[tokio::test]
async fn an_empty_password_admits_every_client_so_our_starter_cannot_set_one() {
    let raw = Raw::start(Some("")).await;
    let login = Login {
        password: String::new(),
        ..User::Users.login(&raw.world.broker)
    };
    let address = raw.world.broker.address();
    eventually("anybody is let in", seconds(10), async || {
        Wire::connect(address, &login).await
    })
    .await;
    // `Broker` takes `Credentials`, these take `Password`s, and a `Password` has one constructor:
    "".parse::<Password>().expect_err("an empty one is refused");
}

#[tokio::test]
async fn a_wrong_password_is_refused_at_the_door() {
    let world = World::builder()
        .without_user_service()
        .without_orders_service()
        .start()
        .await;
    let wrong = Login {
        password: "p00000000000000000".to_owned(),
        ..User::Users.login(&world.broker)
    };
    let refusal = Wire::connect(world.broker.address(), &wrong)
        .await
        .expect_err("refused")
        .to_string();
    assert!(
        refusal.to_lowercase().contains("authorization violation"),
        "{refusal}"
    );
}

//! A write in one service, read in the other at once: a client that passes `Freehold-Position` on as `Freehold-Wait-For` never reads
//! an older state, and gets a timely 504 if the service lags.

use std::collections::BTreeMap;

use freehold_tests::OrderApi;
use freehold_tests::UserApi;
use freehold_tests::http::Reply;
use freehold_tests::{Part, World, eventually, seconds};
use reqwest::Method;
use serde_json::Value;

const CLIENTS: u64 = 20;
/// Each client registers and renames this many users, each time followed by a read.
const USERS_EACH: u64 = 25;

/// One client of both services.
struct Client {
    users: UserApi,
    orders: OrderApi,
    number: u64,
}

/// Reads after a write: how many from which source, and which did not match the write.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    from: BTreeMap<String, u64>,
    wrong: Vec<String>,
}

#[tokio::test]
async fn a_thousand_reads_in_the_other_service_each_include_the_write_before() {
    let world = World::start().await;
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(Client::of(&world, number).run()))
        .collect();
    let mut seen = Seen::default();
    for client in clients {
        seen.add(client.await.expect("a client"));
    }
    println!("causal reads: {seen:?}");
    let all = CLIENTS * USERS_EACH * 2;
    assert_eq!(seen.wrong, Vec::<String>::new());
    assert_eq!(seen.from, BTreeMap::from([("cache".to_owned(), all)]));
}

#[tokio::test]
async fn a_position_from_before_a_restart_is_waited_for_after_it() {
    let mut world = World::start().await;
    let client = Client::of(&world, 0);
    let early = world.users().register("Ada", "ada@example.org").await;
    let early = early.expect_status(201);
    world.orders_service.stop().await.expect("in time");
    let late = world.users().rename(early.id(), "Countess").await;
    let late = late.expect_status(200);
    let orders = &mut world.orders_service;
    orders
        .start()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    for place in [place(&early), place(&late)] {
        let shown = client.orders_of(early.id(), &place, None).await;
        let user = shown.expect_status(200).body["user"].clone();
        assert!(
            user["name"] == "Countess" || place != self::place(&late),
            "{user}"
        );
        assert_eq!(user["from"], "cache");
    }
}

#[tokio::test]
async fn without_a_broker_a_read_says_how_far_behind_it_is_and_with_one_again_it_succeeds() {
    let mut world = World::start().await;
    let client = Client::of(&world, 0);
    let known = world.users().register("Ada", "ada@example.org").await;
    let known = known.expect_status(201);
    client
        .orders_of(known.id(), &place(&known), None)
        .await
        .expect_status(200);
    world.broker.stop().await.expect("in time");
    let renamed = world
        .users()
        .rename(known.id(), "Countess")
        .await
        .expect_status(200);
    assert_eq!(place(&renamed), "users@2");

    let told = client
        .orders_of(known.id(), &place(&renamed), Some(300))
        .await
        .expect_status(504);
    assert_eq!(told.problem(), Some("not_caught_up"));
    let detail = told.body["detail"].as_str().expect("text");
    assert!(
        detail.contains("has applied users@1 of 2: 1 behind"),
        "{detail}"
    );
    assert!(told.header("retry-after").is_some());
    let old = client.orders.orders_of(known.id()).await;
    old.expect_status(200); // who does not insist is answered

    world
        .broker
        .start()
        .await
        .unwrap_or_else(|error| panic!("{error}"));
    let name = eventually("the same request succeeds", seconds(60), async || {
        let shown = client
            .orders_of(known.id(), &place(&renamed), Some(8000))
            .await;
        match shown.status {
            200 => Ok(shown.body["user"]["name"].clone()),
            504 => Err(shown.body.to_string()),
            _ => panic!("{} {}", shown.status, shown.body),
        }
    })
    .await;
    assert_eq!(name, "Countess");
}

impl Client {
    fn of(world: &World, number: u64) -> Client {
        Client {
            users: world.users(),
            orders: world.orders(),
            number,
        }
    }

    async fn run(self) -> Seen {
        let mut seen = Seen::default();
        for count in 0..USERS_EACH {
            let name = format!("Ada {}-{count}", self.number);
            let address = format!("ada{}-{count}@example.org", self.number);
            let user = self
                .users
                .register(&name, &address)
                .await
                .expect_status(201);
            let shown = self.orders_of(user.id(), &place(&user), None).await;
            seen.one(&shown.expect_status(200).body["user"], &name);

            let order = self.orders.place(user.id(), 1250, "EUR").await;
            order.expect_status(201);
            let name = format!("Countess {}-{count}", self.number);
            let renamed = self.users.rename(user.id(), &name).await.expect_status(200);
            let path = format!("/orders?user_id={}&include=user", user.id());
            let shown = self.waiting(&path, &place(&renamed), None).await;
            seen.one(&shown.expect_status(200).body["items"][0]["user"], &name);
        }
        seen
    }

    async fn orders_of(&self, user: &str, place: &str, max_wait_ms: Option<u64>) -> Reply {
        let path = format!("/users/{user}/orders");
        self.waiting(&path, place, max_wait_ms).await
    }

    async fn waiting(&self, path: &str, place: &str, max_wait_ms: Option<u64>) -> Reply {
        let request = self.orders.request(Method::GET, path);
        let request = request.header("Freehold-Wait-For", place);
        Reply::of(match max_wait_ms {
            Some(ms) => request.header("Freehold-Max-Wait-Ms", ms),
            None => request,
        })
        .await
    }
}

impl Seen {
    fn one(&mut self, user: &Value, name: &str) {
        let from = user["from"].as_str().unwrap_or("nowhere").to_owned();
        *self.from.entry(from).or_default() += 1;
        if user["name"] != name {
            self.wrong.push(format!("{user} after {name}"));
        }
    }

    fn add(&mut self, other: Seen) {
        for (from, count) in other.from {
            *self.from.entry(from).or_default() += count;
        }
        self.wrong.extend(other.wrong);
    }
}

/// The position after a write.
fn place(write: &Reply) -> String {
    let place = write
        .header("freehold-position")
        .expect("a write has a place");
    place.to_owned()
}

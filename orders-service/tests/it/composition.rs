//! Orders shown with their users: who is asked and how often, what is said of those who cannot be known, and how old it is.

use std::time::Duration;

use axum::body::Body;
use event_schema::{Event, UserCreated, UserEvent, UserId, Version};
use orders_service::user_api::Limits;
use relay::consume::Progress;
use relay::testing::memory::MemoryBroker;
use relay::{Database, EmitError, Options, Relay, Tx};
use serde_json::{Value, json};
use service_kit::testing::request;

use crate::world::{FakeUsers, PATIENT, World};

const NOW: &str = "2026-01-01T00:00:00Z";

#[tokio::test]
async fn a_page_of_a_hundred_orders_asks_once_for_all_whom_the_cache_does_not_know() {
    let world = World::start(FakeUsers::Know).await;
    let mut users = Vec::new();
    for _ in 0..30 {
        users.push(world.cached_user("Ada").await);
    }
    users.extend((0..40).map(|_| world.owner.knows("Eve")));
    let all: Vec<UserId> = users.iter().cycle().take(100).copied().collect();
    world.place_unchecked(&all).await;

    let page = world.api.get("/orders?include=user&limit=100").await.json();
    assert_eq!(world.owner.batches(), [40]);
    assert_eq!(world.asked(), 1);
    let items = page["items"].as_array().unwrap();
    assert_eq!(items.len(), 100);
    for order in items {
        let cached = users[..30].iter().any(|id| order["user_id"] == json!(id));
        let (name, from) = if cached {
            ("Ada", "cache")
        } else {
            ("Eve", "owner")
        };
        let user = json!({"id": order["user_id"], "name": name, "version": 1, "from": from});
        assert_eq!(order["user"], user);
    }
    assert_eq!(world.cached_users().await, 30, "only events fill the cache");
}

#[tokio::test]
async fn only_the_users_of_the_page_are_asked_for_a_hundred_at_a_time() {
    let world = World::start(FakeUsers::Know).await;
    let users: Vec<UserId> = (0..151).map(|_| world.owner.knows("Eve")).collect();
    world.place_unchecked(&users).await;
    let page = world.api.get("/orders?include=user&limit=150").await.json();
    assert_eq!(world.owner.batches(), [100, 50]);
    let last = world
        .api
        .get(&format!(
            "/orders?include=user&cursor={}",
            page["next_cursor"].as_str().unwrap()
        ))
        .await;
    assert_eq!(last.json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(world.owner.batches(), [100, 50, 1]);
}

#[tokio::test]
async fn user_service_is_never_asked_about_a_user_in_the_cache() {
    let world = World::start(FakeUsers::Answer(500)).await;
    let ada = world.cached_user("Ada").await;
    let placed = world.place(ada, 1, "EUR").await;
    let order = world.api.get(&with_user(placed.header("location"))).await;
    assert_eq!(order.status, 200);
    let user = json!({"id": ada, "name": "Ada", "version": 1, "from": "cache"});
    assert_eq!(order.json()["user"], user);
    assert_eq!(order.json()["amount_minor"], 1);
    let plain = world.api.get(placed.header("location")).await.json();
    assert_eq!((plain.get("user"), plain.get("freshness")), (None, None));
    assert_eq!(world.asked(), 0);
}

#[tokio::test]
async fn an_order_beside_its_user_has_no_tag_since_the_user_changes_by_itself() {
    let world = World::start(FakeUsers::Answer(500)).await;
    let ada = world.cached_user("Ada").await;
    let placed = world.place(ada, 1, "EUR").await;
    let alone = placed.header("location");
    let get = |path: &str| {
        let request = request("GET", path).header("if-none-match", "W/\"1\", \"7\"");
        world.api.send(request.body(Body::empty()))
    };
    let same = get(alone).await;
    let seen = (same.status, same.header("etag"), same.text.as_str());
    assert_eq!(seen, (304, "\"1\"", ""));
    let beside = get(&with_user(alone)).await;
    assert_eq!((beside.status, beside.header("etag")), (200, ""));
    assert_eq!(beside.json()["version"], 1);
}

#[tokio::test]
async fn an_answer_names_the_missing_users_and_shows_the_others() {
    let world = World::start(FakeUsers::Know).await;
    let (ada, eve) = (world.cached_user("Ada").await, world.owner.knows("Eve"));
    let stranger = UserId::new();
    world.place_unchecked(&[ada, eve, stranger]).await;
    let ada = json!({"id": ada, "name": "Ada", "version": 1, "from": "cache"});
    let eves = json!({"id": eve, "name": "Eve", "version": 1, "from": "owner"});
    let gone = json!({"id": stranger, "missing": "deleted_or_never_known"});
    assert_eq!(
        world.users_of("/orders?include=user").await,
        [ada.clone(), eves, gone]
    );

    world.owner.usually(FakeUsers::Answer(500));
    let missing = |id| json!({"id": id, "missing": "owner_unavailable", "since": NOW});
    let partial = [ada, missing(eve), missing(stranger)];
    assert_eq!(world.users_of("/orders?include=user").await, partial);
    world.clock.tick(3);
    let why = "since the first failure, not since the last";
    assert_eq!(
        world.users_of("/orders?include=user").await,
        partial,
        "{why}"
    );
}

#[tokio::test]
async fn users_answered_before_user_service_failed_are_shown() {
    let world = World::start(FakeUsers::Answer(500)).await;
    let users: Vec<UserId> = (0..150).map(|_| world.owner.knows("Eve")).collect();
    world.place_unchecked(&users).await;
    world.owner.first([FakeUsers::Know]);
    let shown = world.users_of("/orders?include=user&limit=150").await;
    let count = |key: &str, is: &str| shown.iter().filter(|user| user[key] == is).count();
    assert_eq!(
        (
            count("from", "owner"),
            count("missing", "owner_unavailable")
        ),
        (100, 50)
    );
}

#[tokio::test]
async fn an_answer_that_forgets_some_of_the_users_is_no_answer() {
    for unclear in [
        FakeUsers::Show(r#"{"items": [], "missing": []}"#),
        FakeUsers::Show(r#"{"items": []}"#),
        FakeUsers::Answer(200),
        FakeUsers::Answer(404),
    ] {
        let world = World::start(unclear).await;
        world.place_unchecked(&[UserId::new()]).await;
        let shown = world.users_of("/orders?include=user").await;
        assert_eq!(shown[0]["missing"], "owner_unavailable", "{unclear:?}");
    }
}

#[tokio::test]
async fn an_owner_that_is_left_alone_costs_an_answer_no_time_and_is_tried_again_later() {
    let strict = Limits {
        failures: 2,
        ..PATIENT
    };
    let world = World::with(FakeUsers::NotNow(503, "0"), strict).await;
    let eve = world.owner.knows("Eve");
    world.place_unchecked(&[eve]).await;
    let missing = json!({"id": eve, "missing": "owner_unavailable", "since": NOW});
    for _ in 0..3 {
        assert_eq!(
            world.users_of("/orders?include=user").await,
            std::slice::from_ref(&missing)
        );
        assert_eq!(world.asked(), 2);
        world.clock.tick(1);
    }
    world.owner.usually(FakeUsers::Know);
    world.clock.tick(5);
    let shown = world.users_of("/orders?include=user").await;
    assert_eq!(
        (shown[0]["from"].as_str(), world.asked()),
        (Some("owner"), 3)
    );
}

#[tokio::test]
async fn a_hanging_owner_delays_a_page_and_does_not_fail_it() {
    let short = Limits {
        call: Duration::from_millis(50),
        overall: Duration::from_millis(120),
        ..PATIENT
    };
    let world = World::with(FakeUsers::Hang, short).await;
    world.place_unchecked(&[UserId::new()]).await;
    let shown = world.users_of("/orders?include=user").await;
    assert_eq!(shown[0]["missing"], "owner_unavailable");
}

#[tokio::test]
async fn a_user_is_shown_with_their_orders() {
    let world = World::start(FakeUsers::Know).await;
    let (ada, eve) = (world.cached_user("Ada").await, world.owner.knows("Eve"));
    world.place_unchecked(&[ada, eve, ada, ada]).await;
    let page = world
        .api
        .get(&format!("/users/{ada}/orders?limit=2"))
        .await
        .json();
    let user = json!({"id": ada, "name": "Ada", "version": 1, "from": "cache"});
    assert_eq!(page["user"], user);
    assert_eq!(page["orders"]["items"].as_array().unwrap().len(), 2);
    assert_eq!(page["orders"]["items"][0].get("user"), None);
    assert_eq!(page["freshness"]["users"]["position"], "users@0");
    let cursor = page["orders"]["next_cursor"].as_str().unwrap();
    let rest = format!("/users/{ada}/orders?limit=2&cursor={cursor}");
    let rest = world.api.get(&rest).await.json();
    assert_eq!(rest["orders"]["items"].as_array().unwrap().len(), 1);
    assert_eq!(rest["orders"]["next_cursor"], Value::Null);
    assert_eq!(world.asked(), 0);

    let eves = world.api.get(&format!("/users/{eve}/orders")).await.json();
    assert_eq!(
        (eves["user"]["from"].as_str(), world.asked()),
        (Some("owner"), 1)
    );
}

#[tokio::test]
async fn a_user_without_orders_is_unknown_only_if_user_service_says_so() {
    let world = World::start(FakeUsers::Know).await;
    let (gone, stranger, eve) = (UserId::new(), UserId::new(), world.owner.knows("Eve"));
    world.place_unchecked(&[gone]).await;
    let orders = |id| format!("/users/{id}/orders");
    assert_eq!(
        world.api.get(&orders(stranger)).await.problem(),
        "404 user_not_found"
    );
    let without = world.api.get(&orders(eve)).await;
    assert_eq!(
        (without.status, &without.json()["orders"]["items"]),
        (200, &json!([]))
    );
    let page = world.api.get(&orders(gone)).await.json();
    let missing = json!({"id": gone, "missing": "deleted_or_never_known"});
    assert_eq!(page["user"], missing);
    assert_eq!(page["orders"]["items"].as_array().unwrap().len(), 1);
    // Past the last page there are none, and the user still is one who has ordered.
    let past = world
        .api
        .get(&format!("{}?cursor=c1.{}", orders(gone), world.head()))
        .await;
    assert_eq!(past.status, 200);

    world.owner.usually(FakeUsers::Answer(500));
    let unknown = world.api.get(&orders(stranger)).await;
    let missing = json!({"id": stranger, "missing": "owner_unavailable", "since": NOW});
    assert_eq!((unknown.status, &unknown.json()["user"]), (200, &missing));
}

#[tokio::test]
async fn the_answer_says_how_fresh_its_users_are() {
    let world = World::start(FakeUsers::Know).await;
    let (users, broker) = (Users::open(&world).await, MemoryBroker::new(1));
    let ada = users.register("Ada").await;
    users.publish(&broker).await;
    world.place_unchecked(&[ada]).await;

    let before = world.freshness().await;
    assert_eq!(
        (&before["stale"], &before["as_of"]),
        (&json!(true), &Value::Null)
    );

    let mut follower = world.consumer.follow(&world.db, broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    let behind = world.freshness().await;
    assert_eq!(
        (&behind["behind"], &behind["stale"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(follower.step().await.unwrap(), Progress::Applied(1));
    let fresh = json!({"position": "users@1", "as_of": NOW, "behind": 0, "stale": false});
    assert_eq!(world.freshness().await, fresh);

    drop(follower); // it stops, and what is registered now does not arrive
    users.register("Eve").await;
    users.publish(&broker).await;
    world.clock.tick(11);
    let stale = world.freshness().await;
    let why = stale["why"].clone();
    let expected = json!({
        "position": "users@1", "as_of": NOW, "behind": 0, "stale": true, "stale_since": NOW, "why": why
    });
    assert_eq!(stale, expected);
    assert!(why.as_str().unwrap().contains("not looked at"), "{why}");
    let shown = world.users_of("/orders?include=user").await;
    assert_eq!(shown[0]["from"], "cache", "old news is news");

    let mut follower = world.consumer.follow(&world.db, broker.reader());
    assert_eq!(follower.step().await.unwrap(), Progress::Connected);
    assert_eq!(follower.step().await.unwrap(), Progress::Applied(1));
    let fresh = json!({"position": "users@2", "as_of": "2026-01-01T00:00:11Z", "behind": 0, "stale": false});
    assert_eq!(world.freshness().await, fresh);
}

#[tokio::test]
async fn the_refusal_of_an_unknown_include_names_the_valid_one() {
    let world = World::start(FakeUsers::Gone).await;
    let refused = world.api.get("/orders?include=driver").await;
    assert_eq!(refused.problem(), "400 invalid_query");
    let errors = refused.json()["errors"][0].clone();
    assert_eq!(errors["field"], "include");
    let detail = errors["detail"].as_str().unwrap();
    assert!(
        detail.contains("`driver`") && detail.contains("`user`"),
        "{detail}"
    );
}

/// user-service's log, without the service.
struct Users(Database);

impl Users {
    async fn open(world: &World) -> Self {
        let path = world.db.path().with_file_name("users.db");
        let options = Options::new("user-service", UserEvent::STREAM, &[]);
        Self(Database::open(path, options).await.unwrap())
    }

    async fn register(&self, name: &str) -> UserId {
        let (user_id, name, version) = (UserId::new(), name.to_owned(), Version::FIRST);
        let created = UserEvent::Created(UserCreated {
            user_id,
            name,
            version,
        });
        let emit = move |tx: &Tx<'_>| {
            tx.emit(&created)?;
            Ok::<_, EmitError>(())
        };
        self.0.write(emit).await.unwrap();
        user_id
    }

    async fn publish(&self, broker: &MemoryBroker) {
        let mut relay = Relay::new(&self.0, broker.clone());
        while broker.records().len() as u64 != self.0.outbox().committed() {
            relay.step().await.unwrap();
        }
    }
}

impl World {
    /// The users beside the orders of a list.
    async fn users_of(&self, list: &str) -> Vec<Value> {
        let page = self.api.get(list).await.json();
        let orders = page["items"].as_array().unwrap();
        orders.iter().map(|order| order["user"].clone()).collect()
    }

    async fn freshness(&self) -> Value {
        let page = self.api.get("/orders?include=user").await.json();
        page["freshness"]["users"].clone()
    }
}

fn with_user(order: &str) -> String {
    format!("{order}?include=user")
}

//! `Idempotency-Key`, around a route made up for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::mpsc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::post;
use jiff::Timestamp;
use relay::environment::{Environment, System};
use relay::testing::AnyEvent;
use relay::{Database, Options, Tx, rusqlite};
use serde_json::{Value, json};
use service_kit::limits::MAX_KEY_CHARACTERS;
use service_kit::testing::{Answer, TestApi, request, rows};
use service_kit::{
    ETag, IDEMPOTENCY_MIGRATION, Idempotent, Monitor, OPERATOR, Principal, Problem, Reply, Routes,
};
use tokio::sync::Notify;

use crate::Word;

const MIGRATIONS: &[&str] = &[
    IDEMPOTENCY_MIGRATION,
    "create table said (id integer primary key, word text not null) strict",
];
service_kit::problem_codes! { UNLUCKY = CONFLICT, "unlucky", "Not now"; }

struct World {
    api: Arc<TestApi>,
    db: Database,
    /// A handler is there, and goes on when it is let.
    entered: Arc<Notify>,
    leave: Arc<Notify>,
    unlucky: Arc<AtomicBool>,
    handlers: Router,
    _folder: tempfile::TempDir,
}

impl World {
    async fn start() -> Self {
        Self::start_with(System).await
    }

    async fn start_with(clock: impl Environment) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options {
            environment: Arc::new(clock),
            ..Options::new("kit", "KIT", MIGRATIONS)
        };
        let db = Database::open(folder.path().join("kit.db"), options).await;
        let db = db.unwrap();
        let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let unlucky = Arc::new(AtomicBool::new(false));
        let say = post({
            let (entered, leave, unlucky) = (entered.clone(), leave.clone(), unlucky.clone());
            async move |Idempotent(Word { word }, once): Idempotent<Word>| {
                entered.notify_one();
                match word.as_str() {
                    "slow" => leave.notified().await,
                    "panic" => panic!("a planted panic"),
                    _ => {}
                }
                once.write(move |tx| say(tx, &word, &unlucky)).await
            }
        });
        let handlers = Router::new()
            .route("/said", say.clone())
            .route("/to/{whom}", say)
            .layer(from_fn(name_caller));
        Self {
            api: Arc::new(api(&handlers, &db)),
            handlers,
            db,
            entered,
            leave,
            unlucky,
            _folder: folder,
        }
    }

    async fn say(&self, key: &str, word: &str) -> Answer {
        let body = json!({"word": word}).to_string();
        send(&self.api, "/said", &[("idempotency-key", key)], body).await
    }

    /// Words, and events.
    async fn effects(&self) -> (usize, u64) {
        let words = rows(&self.db, "select * from said").await;
        (words.len(), self.db.outbox().committed())
    }
}

/// As a process that was just started.
fn api(handlers: &Router, db: &Database) -> TestApi {
    let routes = Routes::new("kit-service", "Says words.").problems(ALL);
    TestApi::of(routes.undocumented(handlers.clone()), Monitor::new(db))
}

async fn send(api: &TestApi, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
    let mut request = request("POST", path).header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    api.send(request.body(Body::from(body))).await
}

fn say(tx: &Tx<'_>, word: &str, unlucky: &AtomicBool) -> Result<Reply, Problem> {
    tx.execute("insert into said (word) values (?1)", [word])?;
    let id = tx.last_insert_rowid();
    tx.emit(&AnyEvent::new("kit.said.v1", &id.to_string(), &word))?;
    match unlucky.load(Ordering::Relaxed) {
        true => Err(Problem::new(UNLUCKY, "try again")),
        false => Ok(Reply::created(
            &format!("/said/{id}"),
            ETag(1),
            &json!({"id": id, "word": word}),
        )),
    }
}

/// As whatever lets callers in does.
async fn name_caller(mut request: Request, next: Next) -> Response {
    let caller = request.headers().get("x-caller").cloned();
    if let Some(caller) = caller.and_then(|name| name.to_str().ok().map(str::to_owned)) {
        request
            .extensions_mut()
            .insert(Principal::new(OPERATOR, caller));
    }
    if let Some(token) = request.headers().get("x-token").cloned() {
        request.headers_mut().insert("authorization", token);
    }
    next.run(request).await
}

/// What a reply is to a client.
fn told(answer: &Answer) -> [String; 6] {
    let names = ["location", "etag", "content-type", "freehold-position"];
    let [location, etag, content_type, position] = names.map(|name| answer.header(name).to_owned());
    let (status, text) = (answer.status.to_string(), answer.text.clone());
    [status, location, etag, content_type, position, text]
}

#[tokio::test]
async fn a_request_that_is_sent_again_gets_its_first_reply_and_has_no_second_effect() {
    let world = World::start().await;
    let first = world.say("a", "hällo").await;
    assert_eq!(
        told(&first),
        [
            "201",
            "/said/1",
            "\"1\"",
            "application/json",
            "kit@1",
            r#"{"id":1,"word":"hällo"}"#
        ]
    );
    assert_eq!(first.header("idempotency-replayed"), "");
    world.say("b", "between").await;
    for _ in 0..2 {
        let again = world.say("a", "hällo").await;
        assert_eq!(told(&again), told(&first));
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    assert_eq!(world.effects().await, (2, 2));
}

#[tokio::test]
async fn without_a_key_every_request_is_a_new_one() {
    let world = World::start().await;
    for id in 1..=2 {
        let said = send(&world.api, "/said", &[], json!({"word": "a"}).to_string()).await;
        assert_eq!((said.status, &said.json()["id"]), (201, &json!(id)));
        assert_eq!(said.header("freehold-position"), format!("kit@{id}"));
    }
    assert_eq!(rows(&world.db, "select 1 from kit_reply").await.len(), 0);
}

#[tokio::test]
async fn a_key_belongs_to_one_request() {
    let world = World::start().await;
    assert_eq!(world.say("a", "x").await.status, 201);
    let reused = world.say("a", "y").await;
    assert_eq!(reused.problem(), "422 idempotency_key_reused");
    let spaced = r#"{"word": "x"}"#.to_owned(); // the same to JSON, and other bytes
    let reused = send(
        &world.api,
        "/said",
        &[("idempotency-key", "a")],
        spaced.clone(),
    )
    .await;
    assert_eq!(reused.problem(), "422 idempotency_key_reused");
    let reused = send(&world.api, "/said?a", &[("idempotency-key", "a")], spaced).await;
    assert_eq!(reused.problem(), "422 idempotency_key_reused");
    assert_eq!(world.effects().await, (1, 1));
}

#[tokio::test]
async fn another_caller_and_another_path_have_keys_of_their_own() {
    let world = World::start().await;
    let body = || json!({"word": "x"}).to_string();
    for (path, caller, id) in [
        ("/said", None, 1),
        ("/said", Some("eve"), 2),
        ("/to/ada", None, 3),
        ("/to/bob", None, 4),
        ("/to/bob", Some("eve"), 5),
    ] {
        let mut headers = vec![("idempotency-key", "a")];
        headers.extend(caller.map(|caller| ("x-caller", caller)));
        for replayed in ["", "true"] {
            let answer = send(&world.api, path, &headers, body()).await;
            assert_eq!(answer.json()["id"], id, "{path} {caller:?}");
            assert_eq!(answer.header("idempotency-replayed"), replayed);
        }
    }
}

#[tokio::test]
async fn a_new_owner_of_an_old_name_does_not_get_the_old_ones_replies() {
    let world = World::start().await;
    let body = || json!({"word": "secret"}).to_string();
    let say = async |token: &str| {
        let headers = [
            ("idempotency-key", "a"),
            ("x-caller", "ada"),
            ("x-token", token),
        ];
        send(&world.api, "/said", &headers, body()).await
    };
    let first = say("Bearer fho_first").await;
    let again = say("Bearer fho_first").await;
    assert_eq!(
        (again.header("idempotency-replayed"), told(&again)),
        ("true", told(&first))
    );
    let other = say("Bearer fho_second").await;
    assert_eq!(other.header("idempotency-replayed"), "");
    assert_eq!(world.effects().await, (2, 2));
}

/// A clock that a test sets.
#[derive(Clone, Debug)]
struct Clock(Arc<AtomicI64>);

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(self.0.load(Ordering::Relaxed)).unwrap()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        System.fill_random(bytes);
    }
}

#[tokio::test]
async fn a_clock_that_leaps_makes_no_key_new_also_over_a_restart() {
    const DAY: i64 = 86_400;
    const TODAY: i64 = 20_000 * DAY;
    let clock = Clock(Arc::new(AtomicI64::new(TODAY)));
    let world = World::start_with(clock.clone()).await;
    let first = world.say("a", "once").await;
    for leap in [100 * DAY, -100 * DAY, 2 * DAY, 0] {
        clock.0.store(TODAY + leap, Ordering::Relaxed);
        assert_eq!(told(&world.say("a", "once").await), told(&first), "{leap}");
        world.say(&format!("meanwhile{leap}"), "other").await;
        let restarted = api(&world.handlers, &world.db);
        let headers = [("idempotency-key", "a")];
        let body = json!({"word": "once"}).to_string();
        let again = send(&restarted, "/said", &headers, body).await;
        assert_eq!(told(&again), told(&first), "{leap}, restarted");
    }
    assert_eq!(world.effects().await.0, 5);
}

#[tokio::test]
async fn a_refusal_is_not_kept_and_the_next_attempt_is_judged_anew() {
    let world = World::start().await;
    world.unlucky.store(true, Ordering::Relaxed);
    assert_eq!(world.say("a", "x").await.problem(), "409 unlucky");
    let malformed = send(
        &world.api,
        "/said",
        &[("idempotency-key", "a")],
        "{".to_owned(),
    )
    .await;
    assert_eq!(malformed.problem(), "400 malformed_json");
    assert_eq!(world.say("a", "panic").await.problem(), "500 internal");
    assert_eq!(world.effects().await, (0, 0));
    world.unlucky.store(false, Ordering::Relaxed);
    assert_eq!(world.say("a", "y").await.status, 201);
    assert_eq!(world.effects().await, (1, 1));
}

#[tokio::test]
async fn a_second_one_is_turned_away_while_the_first_is_under_way() {
    let world = World::start().await;
    let turned_away = async {
        world.entered.notified().await;
        let refused = world.say("a", "slow").await;
        let other = world.say("b", "quick").await;
        world.leave.notify_one();
        (refused, other)
    };
    let (first, (refused, other)) = tokio::join!(world.say("a", "slow"), turned_away);
    assert_eq!(refused.problem(), "409 idempotency_in_flight");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!((first.status, other.status), (201, 201));
    assert_eq!(told(&world.say("a", "slow").await), told(&first));
    assert_eq!(world.effects().await, (2, 2));
}

#[tokio::test]
async fn a_client_that_goes_away_gives_its_key_back_when_nothing_has_happened() {
    let world = World::start().await;
    let first = tokio::spawn(waiting(&world, "slow"));
    world.entered.notified().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    world.leave.notify_one();
    assert_eq!(world.say("a", "slow").await.status, 201);
    assert_eq!(world.effects().await, (1, 1));
}

#[tokio::test]
async fn a_write_that_commits_after_its_client_has_gone_is_found_by_the_next_attempt() {
    let world = World::start().await;
    let (release, blocked) = mpsc::channel::<()>();
    let block = tokio::spawn({
        let db = world.db.clone();
        async move {
            let wait = db.write(move |_| Ok::<_, rusqlite::Error>(blocked.recv().is_ok()));
            wait.await.unwrap();
        }
    });
    tokio::task::yield_now().await; // it is in the queue: on this one thread, that took no waiting
    let first = tokio::spawn(waiting(&world, "x"));
    world.entered.notified().await;
    first.abort();
    assert!(first.await.unwrap_err().is_cancelled());
    assert_eq!(world.db.outbox().committed(), 0);
    let again = async {
        world.entered.notified().await; // no reply is there yet, so the handler is asked
        release.send(()).unwrap();
    };
    let (again, ()) = tokio::join!(world.say("a", "x"), again);
    block.await.unwrap();
    assert_eq!(again.status, 201);
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.header("freehold-position"), "kit@1");
    assert_eq!(world.effects().await, (1, 1));
}

fn waiting(world: &World, word: &'static str) -> impl Future<Output = Answer> + use<> {
    let api = world.api.clone();
    let body = json!({"word": word}).to_string();
    async move { send(&api, "/said", &[("idempotency-key", "a")], body).await }
}

#[tokio::test]
async fn a_key_that_is_none_is_refused_before_anything_happens() {
    let world = World::start().await;
    let long = "x".repeat(MAX_KEY_CHARACTERS + 1);
    for keys in [&[""][..], &["a b"], &[&long], &["a", "a"]] {
        let headers: Vec<_> = keys.iter().map(|key| ("idempotency-key", *key)).collect();
        let body = json!({"word": "x"}).to_string();
        let refused = send(&world.api, "/said", &headers, body).await;
        assert_eq!(refused.problem(), "400 invalid_idempotency_key", "{keys:?}");
    }
    assert_eq!(world.effects().await, (0, 0));
    assert_eq!(world.say("x", &Value::Null.to_string()).await.status, 201);
}

#[tokio::test]
async fn a_keyed_route_without_its_table_is_refused_with_the_cure() {
    /// Says a word
    #[utoipa::path(post, path = "/said", params(service_kit::IdempotencyKey), responses((status = 201)))]
    async fn said() {}

    let routes = || Routes::default().routes(service_kit::routes!(said));
    for (migrations, refused) in [(&[][..], true), (&[IDEMPOTENCY_MIGRATION], false)] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options::new("kit", "KIT", migrations);
        let db = Database::open(folder.path().join("kit.db"), options).await;
        let checked = routes().check(&db.unwrap()).await;
        let said = checked.map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(
            said.contains("/said takes an Idempotency-Key")
                && said.contains("IDEMPOTENCY_MIGRATION"),
            refused,
            "{said}"
        );
    }
}

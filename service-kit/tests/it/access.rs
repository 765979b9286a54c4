//! Which callers are admitted, how often, and what the documentation says of it.

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures::poll;
use serde_json::json;
use service_kit::testing::{self, GUEST, GUEST_KIND, SERVICE, TestApi, assert_documented, request};
use service_kit::{Json, Limits, Monitor, Path, Principal, Problem, Routes, Token, codes, routes};

use crate::{database, kit};

/// A route that admits operators and takes a body, one for readers, one whose handler does not look at the caller, and one
/// for all callers.
fn guarded() -> Routes {
    Routes::new("kit", "Does what a test needs.")
        .routes(routes!(show, store))
        .routes(routes!(careless))
        .routes(routes!(greet))
        .open("/greet")
        .routes(routes!(enter))
        .entrance("/enter")
}

/// Show a thing
#[utoipa::path(
    get, path = "/things/{id}", tag = "things", security(("operator" = []), ("service" = [])),
    params(("id" = u8, Path, description = "Which one")),
    responses((status = 200, description = "The thing", body = u8))
)]
async fn show(Path(id): Path<u8>) -> Json<u8> {
    Json(id)
}

/// Store a thing
#[utoipa::path(
    put, path = "/things/{id}", tag = "things", security(("operator" = [])), request_body = Object,
    params(("id" = u8, Path, description = "Which one")),
    responses((status = 200, description = "Who did it", body = String))
)]
async fn store(caller: Principal, Path(_): Path<u8>, Json(_): Json<serde_json::Value>) -> String {
    caller.id
}

/// Say a secret
#[utoipa::path(
    get, path = "/careless", tag = "things", security(("operator" = [])),
    responses((status = 200, description = "The secret", body = String))
)]
async fn careless() -> &'static str {
    "a secret"
}

/// Greet the caller
#[utoipa::path(
    get, path = "/greet", tag = "things",
    responses((status = 200, description = "Who came", body = String))
)]
async fn greet(caller: Principal) -> String {
    caller.to_string()
}

/// Become known
#[utoipa::path(
    post, path = "/enter", tag = "things",
    responses((status = 200, description = "Come in", body = String))
)]
async fn enter(body: String) -> Result<&'static str, Problem> {
    match body.contains("wrong") {
        true => Err(Problem::new(codes::INVALID_BODY, "a wrong code")),
        false => Ok("come in"),
    }
}

async fn api(limits: Limits) -> (TestApi, tempfile::TempDir) {
    let (db, folder) = database().await;
    let access = testing::access().limits(limits);
    let api = service_kit::api(guarded(), Monitor::new(&db), access);
    (TestApi::new(api), folder)
}

#[tokio::test]
async fn a_caller_that_is_not_named_is_refused_before_the_body_is_read() {
    let (api, _folder) = api(Limits::default()).await;
    let (anyone, service, guest) = (api.sending(None), api.sending(SERVICE), api.sending(GUEST));
    assert_eq!(api.json("PUT", "/things/7", "{}").await.text, "tester");
    assert_eq!(service.get("/things/7").await.text, "7");
    let stranger = anyone.json("PUT", "/things/x", "no JSON").await;
    assert_eq!(stranger.problem(), "401 unauthorized");
    assert_eq!(stranger.header("www-authenticate"), "Bearer");
    for other in [&service, &guest] {
        let refused = other.json("PUT", "/things/x", "no JSON").await;
        assert_eq!(refused.problem(), "403 forbidden");
    }
    assert_eq!(guest.get("/things/x").await.problem(), "403 forbidden");
}

#[tokio::test]
async fn a_handler_that_does_not_look_at_its_caller_answers_only_those_its_documentation_names() {
    let (api, _folder) = api(Limits::default()).await;
    assert_eq!(api.get("/careless").await.text, "a secret");
    let stranger = api.sending(None).get("/careless").await;
    assert_eq!(stranger.problem(), "401 unauthorized");
    for other in [SERVICE, GUEST] {
        let refused = api.sending(other).get("/careless").await;
        assert_eq!(refused.problem(), "403 forbidden");
    }
    // HEAD is a GET without its body.
    let head = |token| {
        let api = api.sending(token);
        async move {
            let request = request("HEAD", "/careless").body(Body::empty());
            api.send(request).await.status
        }
    };
    assert_eq!(head(Some(GUEST)).await, 403);
    assert_eq!(head(None).await, 401);
}

#[tokio::test]
async fn a_route_without_documentation_needs_a_token() {
    let (db, _folder) = database().await;
    let hidden = Router::new().route("/hidden", get(async || "hidden"));
    let api = TestApi::of(kit(hidden), Monitor::new(&db));
    assert_eq!(api.get("/hidden").await.text, "hidden");
    for path in ["/hidden", "/nothing", "/operator/nothing"] {
        let stranger = api.sending(None).get(path).await;
        assert_eq!(stranger.problem(), "401 unauthorized", "{path}");
    }
}

#[tokio::test]
async fn an_unknown_token_is_refused_except_on_open_routes() {
    let (api, _folder) = api(Limits::default()).await;
    let unknown = api.sending("fho_an-unknown-token");
    assert_eq!(unknown.get("/things/7").await.problem(), "401 unauthorized");
    assert_eq!(unknown.get("/greet").await.text, "anonymous");
    assert_eq!(api.get("/greet").await.text, "operator tester");
    for path in [
        "/livez",
        "/readyz",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/problems",
    ] {
        for api in [&unknown, &api.sending(None), &api.sending(GUEST)] {
            assert_eq!(api.get(path).await.status, 200, "{path}");
        }
    }
    let twice = request("GET", "/things/7")
        .header("authorization", format!("Bearer {}", testing::OPERATOR))
        .header("authorization", format!("Bearer {}", testing::OPERATOR));
    let twice = api.send(twice.body(Body::empty())).await;
    assert_eq!(twice.problem(), "401 unauthorized");
    let basic = request("GET", "/things/7").header("authorization", "Basic dGVzdGVyOng=");
    let basic = api.send(basic.body(Body::empty())).await;
    assert_eq!(basic.problem(), "401 unauthorized");
}

#[tokio::test]
async fn a_caller_that_sends_the_read_token_is_a_service() {
    let (db, _folder) = database().await;
    let token = Token::draw("fhs_");
    let access = testing::access().read_token(Ok(token.clone()));
    let api = TestApi::new(service_kit::api(guarded(), Monitor::new(&db), access));
    let greet = request("GET", "/greet").header("authorization", bearer(&token));
    let said = api.send(greet.body(Body::empty())).await.text;
    assert_eq!(said, "service reader");
}

fn bearer(token: &Token) -> String {
    format!("Bearer {}", token.reveal())
}

#[tokio::test]
async fn a_caller_with_too_many_requests_waits_and_the_others_do_not_notice() {
    let (api, _folder) = api(Limits::two()).await;
    let (stranger, service) = (api.sending(None), api.sending(SERVICE));
    for _ in 0..2 {
        assert_eq!(api.get("/greet").await.status, 200);
        assert_eq!(stranger.get("/careless").await.status, 401);
    }
    let refused = api.get("/greet").await;
    assert_eq!(refused.problem(), "429 rate_limited");
    let wait: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=3601).contains(&wait), "{wait} s");
    assert_eq!(stranger.get("/greet").await.problem(), "429 rate_limited");
    let guessed = api.sending("fho_a-guess").get("/careless").await;
    assert_eq!(guessed.problem(), "429 rate_limited", "guesses count");
    assert_eq!(service.get("/greet").await.status, 200);
    assert_eq!(api.get("/livez").await.status, 200, "health is free");
    let metrics = api.get("/metrics").await.text;
    assert!(metrics.contains("status=\"429\"") && !metrics.contains("tester"));
}

#[tokio::test]
async fn strangers_keep_no_newcomer_out() {
    let (api, _folder) = api(Limits::two()).await;
    let stranger = api.sending(None);
    for _ in 0..10 {
        stranger.get("/careless").await;
        api.sending("fho_a-guess").get("/greet").await;
    }
    assert_eq!(stranger.get("/greet").await.problem(), "429 rate_limited");
    let wrong = json!({"code": "wrong"});
    for _ in 0..2 {
        let refused = stranger.post("/enter", &wrong).await;
        assert_eq!(refused.problem(), "422 invalid_body");
    }
    for api in [&stranger, &api.sending("fho_a-guess"), &api] {
        let too_many = api.post("/enter", &wrong).await;
        assert_eq!(too_many.problem(), "429 rate_limited");
        assert_eq!(api.post("/enter", &json!({})).await.text, "come in");
    }
}

#[tokio::test]
async fn other_callers_of_an_open_program_do_not_stop_its_page() {
    let (db, _folder) = database().await;
    let routes = Routes::new("kit", "Has a page.").routes(routes!(enter));
    let access = testing::access().limits(Limits::two());
    let api = service_kit::api(routes.open_to_all(), Monitor::new(&db), access);
    let api = TestApi::new(api).sending(None);
    for _ in 0..10 {
        api.post("/enter", &json!({})).await;
    }
    let limited = api.post("/enter", &json!({})).await;
    assert_eq!(limited.problem(), "429 rate_limited");
    let page = request("POST", "/enter").header("sec-fetch-site", "same-origin");
    assert_eq!(api.send(page.body(Body::empty())).await.text, "come in");
}

#[tokio::test]
async fn a_caller_holds_no_more_than_its_share_of_places() {
    let (db, _folder) = database().await;
    let api = TestApi::of(crate::routes().open("/forever"), Monitor::new(&db));
    let guest = api.sending(GUEST);
    let mut waiting = Vec::new();
    for _ in 0..GUEST_KIND.max_under_way.unwrap() {
        let guest = guest.clone();
        let mut waits = Box::pin(async move { guest.get("/forever").await });
        assert!(poll!(&mut waits).is_pending());
        waiting.push(waits);
    }
    let one_more = guest.get("/forever").await;
    assert_eq!(one_more.problem(), "429 rate_limited");
    assert_eq!(one_more.header("retry-after"), "1");
    assert_eq!(api.get("/things/7").await.text, "7", "others do not notice");
    drop(waiting);
    assert!(poll!(std::pin::pin!(guest.get("/forever"))).is_pending());
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_use_up_no_limit() {
    let (api, _folder) = api(Limits::two()).await;
    let stranger = api.sending(None);
    let foreign = [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ];
    let paths = [
        "/things/7",
        "/greet",
        "/livez",
        "/metrics",
        "/docs",
        "/nothing",
    ];
    for ((name, value), path) in foreign.iter().flat_map(|of| paths.map(|path| (*of, path))) {
        for (api, method) in [(&api, "GET"), (&stranger, "GET"), (&stranger, "OPTIONS")] {
            let asked = request(method, path)
                .header(name, value)
                .header("access-control-request-method", "PUT");
            let answer = api.send(asked.body(Body::empty())).await;
            assert_eq!(
                answer.problem(),
                "403 foreign_origin",
                "{name}: {value} {path}"
            );
            let mut names = answer.headers.keys().map(|name| name.as_str());
            assert!(!names.any(|name| name.starts_with("access-control-")));
        }
    }
    for api in [&api, &stranger] {
        let own = request("GET", "/greet")
            .header("origin", "http://localhost")
            .header("sec-fetch-site", "same-origin");
        assert_eq!(api.send(own.body(Body::empty())).await.status, 200);
    }
}

#[tokio::test]
async fn the_document_is_whole_and_true() {
    let (api, _folder) = api(Limits::default()).await;
    assert_documented(&api, &[]).await;
    let document = api.get("/openapi.json").await.json();
    let store = &document["paths"]["/things/{id}"]["put"];
    let listed = store["x-problems"].to_string();
    for code in [
        "unauthorized",
        "forbidden",
        "rate_limited",
        "invalid_id",
        "malformed_json",
        "disk_full",
    ] {
        assert!(
            listed.contains(&format!("\"{code}\"")),
            "{code} in {listed}"
        );
    }
    let schemes = document["components"]["securitySchemes"]
        .as_object()
        .unwrap();
    for who in ["operator", "service", "guest"] {
        assert_eq!(schemes[who]["scheme"], "bearer");
    }
    assert_eq!(document["info"]["title"], "kit");
    let groups = json!([{"name": "things"}, {"name": "health"}, {"name": "about"}]);
    assert_eq!(document["tags"], groups, "its own first");
}

#[tokio::test]
async fn every_problem_can_be_looked_up_and_no_other_is_answered() {
    service_kit::problem_codes! {
        FORGOTTEN = CONFLICT, "forgotten", "Its registry was never handed in";
    }
    let (db, _folder) = database().await;
    let refuse = async || Problem::new(FORGOTTEN, "no registry was handed in");
    let router = Router::new().route("/forgotten", get(refuse));
    let api = TestApi::of(kit(router.clone()), Monitor::new(&db));
    assert_eq!(api.get("/forgotten").await.problem(), "500 internal");

    let listed = TestApi::of(kit(router).problems(ALL), Monitor::new(&db));
    assert_eq!(listed.get("/forgotten").await.problem(), "409 forgotten");
    let problems = listed.get("/problems").await.json();
    let problems = problems["problems"].as_array().unwrap();
    let names: Vec<_> = problems
        .iter()
        .map(|of| of["code"].as_str().unwrap())
        .collect();
    for name in ["forgotten", "unauthorized", "rate_limited", "unknown_route"] {
        assert!(names.contains(&name), "{name} in {names:?}");
    }
}

#[tokio::test]
async fn the_page_loads_from_its_own_service_alone() {
    let (api, _folder) = api(Limits::default()).await;
    let page = api.sending(None).get("/docs").await;
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(
        !policy.contains("unsafe") && !policy.contains("http"),
        "{policy}"
    );
}

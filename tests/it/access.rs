//! The whole access matrix: every route and method of every program's own documentation, called by every kind of caller, on
//! their own resources, on another's, and on missing ones; compared with the tables in `access/tables.rs`.
//!
//! A route without a line in a table fails, and so does a line without its route.

mod stage;
mod tables;

use std::collections::BTreeSet;

use freehold_tests::http::{Api, Reply};
use freehold_tests::{outbox, seconds};
use reqwest::Method;
use serde_json::Value;

use stage::{Stage, Who};
use tables::{ADMIN, DEVICE, ORDERS, Row, Target, USERS};

/// The answer in a cell.
struct Answer {
    status: u16,
    code: String,
    /// Without ids, request ids and positions.
    body: Value,
}

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];

#[tokio::test]
async fn every_route_of_user_service_admits_exactly_the_callers_of_its_table() {
    every_route_admits_exactly_the_callers_of_its_table("user-service", USERS).await;
}

#[tokio::test]
async fn every_route_of_orders_service_admits_exactly_the_callers_of_its_table() {
    every_route_admits_exactly_the_callers_of_its_table("orders-service", ORDERS).await;
}

async fn every_route_admits_exactly_the_callers_of_its_table(service: &'static str, table: &[Row]) {
    let stage = Stage::set().await;
    compare_with_documentation(stage.api(service), service, table).await;
    let mut cells = 0;
    for row in table {
        cells += refusals(&stage, service, row).await;
        cells += admissions(&stage, service, row).await;
    }
    cells += other_methods(&stage, service, table).await;
    cells += admin(&stage, service).await;
    println!("access matrix of {service}: {cells} cells");
}

#[tokio::test]
async fn a_device_answers_its_own_machine_and_no_page_of_another_site() {
    let stage = Stage::set().await;
    let api = stage.api("driver-app");
    compare_with_documentation(api, "driver-app", DEVICE).await;
    let mut cells = 0;
    for row in DEVICE {
        cells += admissions(&stage, "driver-app", row).await;
        cells += foreign_pages(&stage, row).await;
    }
    cells += other_methods(&stage, "driver-app", DEVICE).await;
    println!("access matrix of the device: {cells} cells");
}

/// Both ways: every served route is in a table, every route of a table is served.
async fn compare_with_documentation(api: &Api, service: &str, table: &[Row]) {
    let document = api.get("/openapi.json").await.expect_status(200).body;
    every_reference_leads_somewhere(&document, &document);
    let paths = document["paths"].as_object().expect("paths");
    let documented = paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("an item").keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    let documented: BTreeSet<String> = documented.collect();
    let listed: BTreeSet<String> = table.iter().map(|row| row.route.to_owned()).collect();
    assert_eq!(listed.len(), table.len(), "a line is there twice");
    assert_eq!(documented, listed, "{service}: documentation and table");
}

fn every_reference_leads_somewhere(document: &Value, part: &Value) {
    if let Some(reference) = part["$ref"].as_str() {
        let place = reference.strip_prefix('#').expect("within the document");
        assert!(document.pointer(place).is_some(), "{reference}");
    }
    let fields = part
        .as_object()
        .into_iter()
        .flat_map(|fields| fields.values());
    for inner in fields.chain(part.as_array().into_iter().flatten()) {
        every_reference_leads_somewhere(document, inner);
    }
}

/// A caller without access gets the same answer to every request, and leaves no trace.
async fn refusals(stage: &Stage, service: &'static str, row: &Row) -> usize {
    let shared = stage.shared(service, row).await;
    let before = heads(stage);
    let mut cells = 0;
    for &who in Who::at(service) {
        let Some((status, code)) = refusal(service, who, row) else {
            continue;
        };
        let mut bodies = BTreeSet::new();
        for target in row.targets() {
            let (path, body) = &shared[target as usize];
            for sent in [body.as_deref(), Some("{"), None] {
                let answer = ask(stage, service, who, row.method(), path, sent).await;
                let cell = format!("{service}: {who:?} {} {target:?} {sent:?}", row.route);
                assert_eq!((answer.status, &*answer.code), (status, code), "{cell}");
                bodies.insert(answer.body.to_string());
                cells += 1;
            }
        }
        assert_eq!(bodies.len(), 1, "{who:?} {}: {bodies:#?}", row.route);
    }
    assert_eq!(before, heads(stage), "{}: a refusal wrote", row.route);
    cells
}

/// A caller with access gets the answer of the table; where another's resource answers like a missing one, both answers are equal.
async fn admissions(stage: &Stage, service: &'static str, row: &Row) -> usize {
    let mut cells = 0;
    for &who in Who::at(service) {
        if refusal(service, who, row).is_some() {
            continue;
        }
        let mut answers = Vec::new();
        for target in row.targets() {
            let (path, body) = stage.made(service, row, target).await;
            let answer = ask(stage, service, who, row.method(), &path, body.as_deref()).await;
            let cell = format!("{service}: {who:?} {} {target:?}", row.route);
            let expected = row.answers[target as usize];
            assert_eq!(answer.status, expected, "{cell}: {}", answer.body);
            answers.push(answer);
            cells += 1;
        }
        if let [_, other, missing] = &answers[..]
            && (row.hides_others || other.status == 404)
        {
            assert_eq!(other.status, missing.status, "{who:?} {}", row.route);
            assert_eq!(other.body, missing.body, "{who:?} {}", row.route);
        }
    }
    cells
}

/// Undocumented methods of a path: an unauthenticated caller learns nothing, others get the usual refusal.
async fn other_methods(stage: &Stage, service: &'static str, table: &[Row]) -> usize {
    let mut cells = 0;
    let paths: BTreeSet<&str> = table.iter().map(Row::path).collect();
    for path in paths {
        let of_path: Vec<&Row> = table.iter().filter(|row| row.path() == path).collect();
        let missing = METHODS
            .into_iter()
            .filter(|method| of_path.iter().all(|row| row.method() != *method));
        let (path, _) = stage.made(service, of_path[0], Target::Own).await;
        for method in missing {
            for &who in Who::at(service) {
                let answer = ask(stage, service, who, method, &path, None).await;
                let open = of_path[0].open() || service == "driver-app";
                let expected = match stranger(service, who) {
                    Some((status, _)) if !open => status,
                    _ => 405,
                };
                assert_eq!(answer.status, expected, "{who:?} {method} {path}");
                cells += 1;
            }
        }
    }
    cells + nowhere(stage, service).await
}

async fn nowhere(stage: &Stage, service: &'static str) -> usize {
    let callers = Who::at(service);
    for &who in callers {
        let answer = ask(stage, service, who, "GET", "/nowhere", None).await;
        let expected = match stranger(service, who) {
            Some((status, _)) if service != "driver-app" => status,
            _ => 404,
        };
        assert_eq!(answer.status, expected, "{service}: {who:?} GET /nowhere");
    }
    callers.len()
}

/// The admin API answers the service's own user on its socket; on the port it does not exist, whatever token is sent.
async fn admin(stage: &Stage, service: &'static str) -> usize {
    let mut cells = 0;
    let socket = stage
        .service(service)
        .database
        .with_added_extension("admin");
    let client = reqwest::Client::builder().unix_socket(socket);
    let client = client.build().expect("a client");
    for (route, answer) in ADMIN {
        let (method, path) = route.split_once(' ').expect("a method and a path");
        for &who in Who::at(service) {
            let refused = ask(stage, service, who, method, path, Some("{}")).await;
            let expected = stranger(service, who).map_or(404, |(status, _)| status);
            assert_eq!(refused.status, expected, "{service}: {who:?} {route}");
            cells += 1;
        }
        let request = client.request(parsed(method), format!("http://admin{path}"));
        let request = request.header("Content-Type", "application/json");
        let reply = Reply::of(request.body("{}")).await;
        assert_eq!(reply.status, *answer, "{service} {route}: {}", reply.body);
        cells += 1;
    }
    cells
}

/// Requests that a page of another site can send: another name in `Host`, or a POST that is no JSON.
async fn foreign_pages(stage: &Stage, row: &Row) -> usize {
    let (path, body) = stage.made("driver-app", row, Target::Missing).await;
    let request = |api: &Api| api.request(parsed(row.method()), &path);
    let renamed = request(stage.api("driver-app")).header("Host", "page.example");
    let refused = Reply::of(renamed).await;
    let got = (refused.status, refused.problem());
    assert_eq!(got, (403, Some("foreign_host")), "{}", row.route);
    let framed = request(stage.api("driver-app")).header("Origin", "http://page.example");
    let refused = Reply::of(framed).await;
    assert_eq!(refused.problem(), Some("foreign_origin"), "{}", row.route);
    let Some(body) = body else { return 2 };
    let form = request(stage.api("driver-app")).header("Content-Type", "text/plain");
    let refused = Reply::of(form.body(body)).await;
    assert_eq!(refused.status, 415, "{}: {}", row.route, refused.body);
    3
}

/// The refusal that this caller gets at this route, if any.
fn refusal(service: &str, who: Who, row: &Row) -> Option<(u16, &'static str)> {
    if row.open() || service == "driver-app" {
        return None;
    }
    stranger(service, who).or_else(|| {
        let may = who.kind().is_some_and(|kind| row.may.contains(&kind));
        (!may).then_some((403, "forbidden"))
    })
}

/// Callers that a service does not know: user-service has no devices.
fn stranger(service: &str, who: Who) -> Option<(u16, &'static str)> {
    match who {
        Who::RevokedDevice | Who::DeviceOfRevokedDriver if service == "orders-service" => {
            Some((401, "revoked"))
        }
        Who::Device if service == "orders-service" => None,
        Who::Operator | Who::Service | Who::Reader => None,
        _ => Some((401, "unauthorized")),
    }
}

async fn ask(
    stage: &Stage,
    service: &'static str,
    who: Who,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Answer {
    let mut reply = send(stage, service, who, method, path, body).await;
    // A device has a limit like every other caller; beyond it the answer says when to retry.
    while reply.status == 429 && service == "driver-app" {
        tokio::time::sleep(seconds(1)).await;
        reply = send(stage, service, who, method, path, body).await;
    }
    assert_ne!(reply.status, Reply::NONE, "{path}: {}", reply.body);
    Answer {
        status: reply.status,
        code: reply.problem().unwrap_or_default().to_owned(),
        body: anonymous(&reply.body),
    }
}

async fn send(
    stage: &Stage,
    service: &'static str,
    who: Who,
    method: &str,
    path: &str,
    body: Option<&str>,
) -> Reply {
    let mut request = stage.api(service).request(parsed(method), path);
    request = request.header("If-Match", "*");
    if let Some(token) = stage.token(service, who) {
        request = request.bearer_auth(token);
    }
    if let Some(body) = body {
        request = request.header("Content-Type", "application/json");
        request = request.body(body.to_owned());
    }
    Reply::of(request).await
}

/// The same answer about another thing is equal to it.
fn anonymous(body: &Value) -> Value {
    match body {
        Value::Object(fields) => {
            let kept = fields.iter().filter(|(name, _)| *name != "request_id");
            let kept = kept.map(|(name, value)| match &**name {
                "at" => (name.clone(), Value::Null),
                _ => (name.clone(), anonymous(value)),
            });
            kept.collect()
        }
        Value::Array(items) => items.iter().map(anonymous).collect(),
        Value::String(text) => Value::String(without_ids(text)),
        other => other.clone(),
    }
}

fn without_ids(text: &str) -> String {
    let words = text.split_inclusive(|sign: char| !(sign.is_ascii_alphanumeric() || sign == '-'));
    let words = words.map(|word| {
        let (id, rest) = word.split_at(word.len().min(36));
        match id.parse::<uuid::Uuid>() {
            Ok(_) => format!("ID{rest}"),
            Err(_) => word.to_owned(),
        }
    });
    words.collect()
}

fn heads(stage: &Stage) -> [u64; 2] {
    let world = &stage.world;
    [&world.user_service, &world.orders_service]
        .map(|service| outbox::head(&service.database).expect("it is there"))
}

fn parsed(method: &str) -> Method {
    method.parse().expect("a method")
}

#[test]
fn ids_are_no_difference_and_words_are() {
    let of = |id: &str, word: &str| {
        let text = format!("there is {word} {id}, here");
        anonymous(&serde_json::json!({"detail": text, "request_id": id, "at": 3}))
    };
    let (one, two) = (
        uuid::Uuid::from_u128(1).to_string(),
        uuid::Uuid::from_u128(2).to_string(),
    );
    assert_eq!(of(&one, "no order"), of(&two, "no order"));
    assert_ne!(of(&one, "no order"), of(&one, "another's order"));
}

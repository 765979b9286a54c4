//! `/openapi.json`: what the handlers declare, completed with what holds for every operation of its shape: which callers it
//! admits, which headers it takes and gives, and with which codes it refuses.

use std::collections::{BTreeMap, HashMap};

use axum::http::Method;
use serde_json::{Map, Value, json};
use utoipa::PartialSchema;
use utoipa::openapi::OpenApi;

use crate::auth::{Guards, Kind, SERVICE};
use crate::http::routes::Declared;
use crate::http::{Code, ProblemDocument, codes};

type Operation = Map<String, Value>;

/// Where an operation names its own codes, and where the document lists all of them.
const PROBLEMS: &str = "x-problems";

/// The groups that every service has, in this order.
const COMMON_GROUPS: [&str; 3] = ["other services", "health", "about"];

/// Its operations wait for no position: they describe the service as it is now.
const HEALTH: &str = "health";

/// Requests with other characters in a header are refused before any route, with an empty 400.
const HEADER_TEXT: &str = "^[\\x20-\\x7E]*$";

/// What a reader of the document must know before the first call.
const RULES: &str = "Send `Authorization: Bearer TOKEN`; `token new operator NAME` of the service's program makes a token. \
Refusals are `application/problem+json`; programs compare `code`. Versions travel as `ETag`, `If-Match` and `If-None-Match`. Lists come in \
pages: send `next_cursor` back as `cursor`.";

/// Headers that requests may carry.
const WAIT_FOR: [(&str, &str); 2] = [
    (
        "Freehold-Wait-For",
        "Answer once this service has committed or applied these positions, such as `users@1042`, comma separated",
    ),
    (
        "Freehold-Max-Wait-Ms",
        "How long to wait for them, from 0 to 8000 ms [default: 5000]",
    ),
];

/// Headers of answers. [`answered`] says which answers carry them.
const ANSWERED: [(&str, &str); 7] = [
    (
        "X-Request-Id",
        "Names the request, here and in the service's log",
    ),
    (
        "traceparent",
        "This service's step in the trace (W3C Trace Context)",
    ),
    (
        "Freehold-Position",
        "The position after the write, such as `users@1042`, for `Freehold-Wait-For`. Absent when nothing was written",
    ),
    (
        "Idempotency-Replayed",
        "`true`: the stored reply to an earlier request with this key",
    ),
    ("WWW-Authenticate", "Which credentials are expected"),
    ("ETag", "The present version, in quotes"),
    (
        "Retry-After",
        "After how many seconds a retry makes sense, if it does",
    ),
];

/// The finished document, and who may call what, as it says. Panics when the handlers contradict themselves, which a
/// service's first test shows.
pub(crate) fn complete(
    declared: Declared,
    openapi: &OpenApi,
    kinds: impl Iterator<Item = &'static Kind>,
) -> (Value, Guards) {
    let mut json = serde_json::to_value(openapi).expect("the document is plain data");
    json["info"] = json!({
        "title": declared.name,
        "version": env!("CARGO_PKG_VERSION"),
        "description": format!("{}\n\n{RULES}", declared.purpose),
        "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
    });
    let mut admitted = HashMap::new();
    let paths = json["paths"].as_object_mut();
    for (path, item) in paths.into_iter().flatten() {
        let methods: &mut HashMap<_, _> = admitted.entry(path.clone()).or_default();
        for (method, operation) in operations(item) {
            let schemes = schemes(operation);
            let open = declared.all_open || declared.open.contains(&path.as_str());
            assert!(
                open == schemes.is_empty(),
                "{method} {path}: `security` or `open`, one of them"
            );
            complete_operation(operation, &method, &schemes, &declared);
            methods.insert(method, schemes);
        }
    }
    json["tags"] = groups(&json["paths"]);
    add_components(&mut json["components"], kinds);
    let guards = Guards {
        declared,
        kinds: admitted,
    };
    (json, guards)
}

fn add_components(components: &mut Value, kinds: impl Iterator<Item = &'static Kind>) {
    let kinds = kinds.map(|kind| (kind.name, kind.description));
    let bearer = json!({"type": "http", "scheme": "bearer"});
    components["securitySchemes"] = named(kinds, |_| bearer.clone());
    components["parameters"] = named(WAIT_FOR, |name| header_parameter(name, ""));
    components["headers"] = named(ANSWERED, |_| json!({"schema": {"type": "string"}}));
    let problem = serde_json::to_value(ProblemDocument::schema());
    components["schemas"]["Problem"] = problem.expect("a schema is plain data");
}

/// Components by name, each with its description.
fn named<'a>(
    of: impl IntoIterator<Item = (&'a str, &'a str)>,
    make: impl Fn(&str) -> Value,
) -> Value {
    let component = |(name, description): (&str, &str)| {
        let mut component = make(name);
        component["description"] = description.into();
        (name.to_owned(), component)
    };
    of.into_iter().map(component).collect()
}

/// The groups of operations in the order of reading: a service's own first.
fn groups(paths: &Value) -> Value {
    let items = paths.as_object().into_iter().flatten();
    let operations = items.flat_map(|(_, item)| item.as_object().into_iter().flatten());
    let names = operations.filter_map(|(_, operation)| operation["tags"][0].as_str());
    let mut names: Vec<&str> = names.collect();
    names.sort_by_key(|name| (COMMON_GROUPS.iter().position(|of| of == name), *name));
    names.dedup();
    let names = names.into_iter();
    names.map(|name| json!({"name": name})).collect()
}

fn operations(item: &mut Value) -> impl Iterator<Item = (Method, &mut Operation)> {
    let item = item.as_object_mut().into_iter().flatten();
    item.filter(|(_, of)| of["responses"].is_object())
        .filter_map(|(name, operation)| {
            let method = Method::from_bytes(name.to_uppercase().as_bytes()).ok()?;
            Some((method, operation.as_object_mut()?))
        })
}

/// The kinds of callers an operation is for.
fn schemes(operation: &Operation) -> Vec<String> {
    let named = operation.get("security").and_then(Value::as_array);
    let named = named.into_iter().flatten().filter_map(Value::as_object);
    named.flat_map(|named| named.keys().cloned()).collect()
}

fn complete_operation(
    operation: &mut Operation,
    method: &Method,
    schemes: &[String],
    declared: &Declared,
) {
    let keeps_replies = !declared.all_open && takes(operation, "header", Some("Idempotency-Key"));
    add_conditions(operation, method);
    add_problems(operation, method, schemes, declared);
    if waits(operation) {
        let to = |(name, _)| json!({"$ref": format!("#/components/parameters/{name}")});
        parameters(operation).extend(WAIT_FOR.map(to));
    }
    let responses = operation["responses"].as_object_mut();
    for (status, response) in responses.into_iter().flatten() {
        let status = status.parse().unwrap_or_default();
        for name in answered(status, *method != Method::GET, keeps_replies) {
            let declared = &mut response["headers"][name];
            if declared.is_null() {
                *declared = json!({"$ref": format!("#/components/headers/{name}")});
            }
        }
    }
}

/// The headers of an answer with this status.
fn answered(status: u16, writes: bool, keeps_replies: bool) -> impl Iterator<Item = &'static str> {
    let success = status < 300;
    let carries = [
        true,
        true,
        success && writes,
        success && keeps_replies,
        status == 401,
        status == 412,
        matches!(status, 409 | 429 | 503 | 504),
    ];
    let carried = ANSWERED.iter().zip(carries).filter(|(_, carried)| *carried);
    carried.map(|((name, _), _)| *name)
}

fn parameters(operation: &mut Operation) -> &mut Vec<Value> {
    let parameters = operation.entry("parameters");
    let parameters = parameters.or_insert_with(|| json!([]));
    parameters.as_array_mut().expect("parameters are a list")
}

/// Whether it takes a parameter in this place, of this name if one is given.
fn takes(operation: &Operation, place: &str, name: Option<&str>) -> bool {
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let mut parameters = parameters.into_iter().flatten();
    parameters.any(|of| of["in"] == place && name.is_none_or(|name| of["name"] == name))
}

fn waits(operation: &Operation) -> bool {
    operation["tags"][0] != HEALTH
}

/// A GET that answers a tag takes both conditions, a change that takes `If-Match` also takes `If-None-Match`.
fn add_conditions(operation: &mut Operation, method: &Method) {
    let tag = operation["responses"]["200"]["headers"]["ETag"].clone();
    let shown = *method == Method::GET && tag.is_object();
    let changed = takes(operation, "header", Some("If-Match"));
    if shown {
        operation["responses"]["304"] = json!({
            "description": "It is still at a version that `If-None-Match` names",
            "headers": {"ETag": tag},
        });
        let description = "Show it only at one of these versions";
        parameters(operation).push(header_parameter("If-Match", description));
    }
    if shown || changed {
        let description = "Only at a version that is none of these; `*` is every version";
        parameters(operation).push(header_parameter("If-None-Match", description));
    }
    let headers = parameters(operation).iter_mut();
    for header in headers.filter(|of| of["in"] == "header") {
        header["schema"]["pattern"] = json!(HEADER_TEXT);
    }
}

fn header_parameter(name: &str, description: &str) -> Value {
    let mut parameter = json!({
        "name": name, "in": "header", "required": false, "description": description,
        "schema": {"type": "string", "pattern": HEADER_TEXT},
    });
    if name.starts_with("If-") {
        parameter["example"] = json!("\"1\"");
    }
    parameter
}

fn add_problems(
    operation: &mut Operation,
    method: &Method,
    schemes: &[String],
    declared: &Declared,
) {
    let own = operation.remove(PROBLEMS).unwrap_or_default();
    let own = own.as_array().into_iter().flatten().map(|name| {
        let known = declared.codes.iter().find(|code| name == code.name());
        *known.unwrap_or_else(|| panic!("no registry lists the problem {name}"))
    });
    let mut all: Vec<Code> = own.collect();
    all.extend(of_its_shape(operation, method, schemes, declared.all_open));
    all.sort_by_key(|code| (code.status(), code.name()));
    all.dedup();
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in &all {
        let of_status = by_status.entry(code.status().as_u16()).or_default();
        of_status.push(*code);
    }
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = refusal(&codes);
    }
    let names = all.iter().map(|code| code.name());
    operation.insert(PROBLEMS.to_owned(), names.collect());
}

/// What every operation of this shape can answer, since the gate, the extractors and the writer do.
fn of_its_shape(
    operation: &Operation,
    method: &Method,
    schemes: &[String],
    all_open: bool,
) -> impl Iterator<Item = Code> {
    let header = |name| takes(operation, "header", Some(name));
    let writes = *method != Method::GET;
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let mut parameters = parameters.into_iter().flatten();
    let must_match = parameters.any(|of| of["name"] == "If-Match" && of["required"] == true);
    let when: [(bool, &[Code]); 13] = [
        (true, &codes::OF_ALL),
        (!schemes.is_empty(), &codes::OF_CALLERS),
        (schemes == [SERVICE.name], &[codes::NO_TOKEN]),
        (waits(operation), &codes::OF_WAITS),
        (takes(operation, "path", None), &[codes::INVALID_ID]),
        (takes(operation, "query", None), &[codes::INVALID_QUERY]),
        (
            header("If-Match"),
            &[codes::INVALID_IF_MATCH, codes::VERSION_MISMATCH],
        ),
        (header("If-None-Match"), &[codes::INVALID_IF_NONE_MATCH]),
        (header("If-None-Match") && writes, &[codes::VERSION_MATCHES]),
        (must_match, &[codes::PRECONDITION_REQUIRED]),
        (operation.contains_key("requestBody"), &codes::OF_BODIES),
        (
            header("Idempotency-Key") && !all_open,
            &codes::OF_IDEMPOTENCY,
        ),
        (writes, &codes::OF_WRITES),
    ];
    let when = when.into_iter().filter(|(so, _)| *so);
    when.flat_map(|(_, codes)| codes.to_vec())
}

/// All codes of one status, an example of each.
fn refusal(codes: &[Code]) -> Value {
    let titles: Vec<&str> = codes.iter().map(|code| code.title()).collect();
    let example = |code: &Code| {
        let value = code.document("what is wrong with this very request, and the cure");
        let example = json!({"summary": code.title(), "value": value});
        (code.name().to_owned(), example)
    };
    let examples: Map<String, Value> = codes.iter().map(example).collect();
    json!({
        "description": titles.join("; "),
        "content": {"application/problem+json": {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": examples,
        }},
    })
}

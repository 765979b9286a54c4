//! `/openapi.json`: what the handlers say of themselves, and what is true of all of them: who the callers are, and how a
//! service refuses.

use std::collections::BTreeMap;

use axum::http::Method;
use serde_json::{Map, Value, json};
use utoipa::openapi::OpenApi;

use crate::auth::Guards;
use crate::http::{Code, Routes, codes};

/// The finished document, and who may call what, as it says.
pub(crate) struct Document {
    pub(crate) json: Value,
    pub(crate) guards: Guards,
}

/// Where an operation names its own codes, and where the document lists all of them.
const PROBLEMS: &str = "x-problems";
const METHODS: [(&str, Method); 5] = [
    ("get", Method::GET),
    ("post", Method::POST),
    ("put", Method::PUT),
    ("patch", Method::PATCH),
    ("delete", Method::DELETE),
];

/// What every service has, in this order.
const COMMON_GROUPS: [&str; 3] = ["other services", "health", "about"];

/// What a reader of the document must know before the first call.
const RULES: &str = "Send `Authorization: Bearer TOKEN`; `token new operator NAME` of the service's program makes a token. \
Refusals are `application/problem+json`; programs compare `code`. Versions travel as `ETag`, `If-Match` and `If-None-Match`. Lists come in \
pages: send `next_cursor` back as `cursor`.";

impl Document {
    /// Panics when the handlers contradict themselves, which a service's first test shows.
    pub(crate) fn of<S>(routes: &Routes<S>, openapi: &OpenApi) -> Self {
        let mut json = serde_json::to_value(openapi).expect("the document is plain data");
        json["info"] = json!({
            "title": routes.name,
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{}\n\n{RULES}", routes.purpose),
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        });
        let mut guards = Guards {
            open: routes.open.iter().map(|path| (*path).to_owned()).collect(),
            entrances: routes.entrances.clone(),
            everybody: routes.everybody,
            ..Guards::default()
        };
        let paths = json["paths"].as_object_mut();
        for (path, item) in paths.into_iter().flatten() {
            let methods = operations(item).map(|(method, operation)| {
                let schemes = schemes(operation);
                let open = routes.everybody || routes.open.contains(&path.as_str());
                assert!(
                    open == schemes.is_empty(),
                    "{method} {path}: `security` or `open`, one of them"
                );
                add_conditions(operation, &method);
                add_problems(operation, &method, &schemes, &routes.codes);
                (method, schemes)
            });
            let methods = methods.collect();
            guards.routes.insert(path.clone(), methods);
        }
        json["tags"] = groups(&json["paths"]);
        json["components"]["securitySchemes"] = security_schemes();
        json["components"]["schemas"]["Problem"] = problem_schema();
        Self { json, guards }
    }
}

/// The groups of operations in the order of reading: a service's own first.
fn groups(paths: &Value) -> Value {
    let items = paths.as_object().into_iter().flatten();
    let operations = items.flat_map(|(_, item)| item.as_object().into_iter().flatten());
    let names = operations.filter_map(|(_, operation)| operation["tags"][0].as_str());
    let mut names: Vec<&str> = names.collect();
    names.sort_by_key(|name| (COMMON_GROUPS.iter().position(|of| of == name), *name));
    names.dedup();
    names
        .into_iter()
        .map(|name| json!({"name": name}))
        .collect()
}

fn operations(item: &mut Value) -> impl Iterator<Item = (Method, &mut Map<String, Value>)> {
    let item = item.as_object_mut().into_iter().flatten();
    item.filter_map(|(name, operation)| {
        let (_, method) = METHODS.iter().find(|(known, _)| known == name)?;
        Some((method.clone(), operation.as_object_mut()?))
    })
}

/// The callers an operation is for.
fn schemes(operation: &Map<String, Value>) -> Vec<String> {
    let named = operation.get("security").and_then(Value::as_array);
    let named = named.into_iter().flatten().filter_map(Value::as_object);
    named.flat_map(|named| named.keys().cloned()).collect()
}

/// What has a tag is shown, and what names `If-Match` is changed, on the conditions that `version` reads.
fn add_conditions(operation: &mut Map<String, Value>, method: &Method) {
    let tag = operation["responses"]["200"]["headers"]["ETag"].clone();
    let shown = *method == Method::GET && tag.is_object();
    if shown {
        operation["responses"]["304"] = json!({
            "description": "It is still at a version that `If-None-Match` names",
            "headers": {"ETag": tag},
        });
    }
    let parameters = operation.get_mut("parameters");
    if let Some(parameters) = parameters.and_then(Value::as_array_mut) {
        let changed = parameters.iter().any(|of| of["name"] == "If-Match");
        if shown {
            parameters.push(condition(
                "If-Match",
                "Show it only at one of these versions",
            ));
        }
        if shown || changed {
            let description = "Only at a version that is none of these; `*` is every version";
            parameters.push(condition("If-None-Match", description));
        }
        let headers = parameters.iter_mut().filter(|of| of["in"] == "header");
        headers.for_each(|of| of["schema"]["pattern"] = json!(HEADER_TEXT));
    }
}

/// Other characters are refused before any route, with an empty 400.
const HEADER_TEXT: &str = "^[\\x20-\\x7E]*$";

fn condition(name: &str, description: &str) -> Value {
    let schema = json!({"type": "string"});
    json!({
        "name": name, "in": "header", "required": false, "description": description, "schema": schema,
        "example": "\"1\"",
    })
}

fn add_problems(
    operation: &mut Map<String, Value>,
    method: &Method,
    schemes: &[String],
    registry: &[Code],
) {
    let own = operation.remove(PROBLEMS).unwrap_or_default();
    let own = own.as_array().into_iter().flatten().map(|name| {
        let known = registry.iter().find(|code| name == code.name());
        *known.unwrap_or_else(|| panic!("no registry lists the problem {name}"))
    });
    let mut all: Vec<Code> = own.collect();
    all.extend(of_its_shape(operation, method, schemes));
    all.sort_by_key(|code| (code.status(), code.name()));
    all.dedup();
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in &all {
        by_status
            .entry(code.status().as_u16())
            .or_default()
            .push(*code);
    }
    for (status, codes) in by_status {
        operation["responses"][status.to_string()] = refusal(&codes);
    }
    let names = all.iter().map(|code| code.name());
    operation.insert(PROBLEMS.to_owned(), names.collect());
}

/// What every handler of this kind can answer, since the extractors and the writer do.
fn of_its_shape(operation: &Map<String, Value>, method: &Method, schemes: &[String]) -> Vec<Code> {
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let has = |place: &str, name: Option<&str>| {
        let mut parameters = parameters.into_iter().flatten();
        parameters.any(|of| of["in"] == place && name.is_none_or(|name| of["name"] == name))
    };
    let must_match = parameters
        .into_iter()
        .flatten()
        .any(|of| of["name"] == "If-Match" && of["required"] == true);
    let mut all = vec![
        codes::FOREIGN_HOST,
        codes::FOREIGN_ORIGIN,
        codes::RATE_LIMITED,
        codes::TIMED_OUT,
        codes::SHUTTING_DOWN,
        codes::INTERNAL,
    ];
    let when = [
        (
            !schemes.is_empty(),
            [codes::UNAUTHORIZED, codes::FORBIDDEN].as_slice(),
        ),
        (schemes == ["service"], &[codes::NO_TOKEN]),
        (has("path", None), &[codes::INVALID_ID]),
        (has("query", None), &[codes::INVALID_QUERY]),
        (
            has("header", Some("If-Match")),
            &[codes::INVALID_IF_MATCH, codes::VERSION_MISMATCH],
        ),
        (
            has("header", Some("If-None-Match")),
            &[codes::INVALID_IF_NONE_MATCH],
        ),
        (
            has("header", Some("If-None-Match")) && *method != Method::GET,
            &[codes::VERSION_MATCHES],
        ),
        (must_match, &[codes::PRECONDITION_REQUIRED]),
        (operation.contains_key("requestBody"), &codes::OF_BODIES),
        (*method != Method::GET, &codes::OF_WRITES),
    ];
    all.extend(
        when.iter()
            .filter(|(so, _)| *so)
            .flat_map(|(_, codes)| *codes),
    );
    all
}

/// All codes of one status, an example of each.
fn refusal(codes: &[Code]) -> Value {
    let titles: Vec<&str> = codes.iter().map(|code| code.title()).collect();
    let example = |code: &Code| {
        let value = json!({
            "type": code.urn(),
            "title": code.title(),
            "status": code.status().as_u16(),
            "code": code.name(),
            "detail": "what is wrong with this very request, and the cure",
        });
        (
            code.name().to_owned(),
            json!({"summary": code.title(), "value": value}),
        )
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

fn security_schemes() -> Value {
    let scheme = |who: &str| json!({"type": "http", "scheme": "bearer", "description": who});
    json!({
        "operator": scheme("A person who looks after the system: `token new operator NAME`."),
        "service": scheme("Another service: its read token, or `token new service NAME`."),
        "device": scheme("A driver's device, with the token it got when it was enrolled."),
    })
}

fn problem_schema() -> Value {
    let text = |what: &str| json!({"type": "string", "description": what});
    json!({
        "type": "object",
        "description": "A refusal (RFC 9457).",
        "required": ["type", "title", "status", "code", "detail"],
        "properties": {
            "type": text("The code as a URN."),
            "title": text("The code in words."),
            "status": {"type": "integer", "description": "The HTTP status."},
            "code": text("For programs: never renamed, never given another meaning."),
            "detail": text("What is wrong with this very request and, where there is one, the cure."),
            "errors": {
                "type": "array",
                "description": "The fields that are to blame, where some are.",
                "items": {
                    "type": "object",
                    "required": ["field", "detail"],
                    "properties": {"field": text("Its path."), "detail": text("What is wrong with it.")},
                },
            },
        },
    })
}

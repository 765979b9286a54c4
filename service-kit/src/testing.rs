//! What the tests of services share: an API without a socket, an imported log, and a program that is started and stopped or
//! killed.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use axum::http::{HeaderMap, HeaderValue, Request};
use futures::FutureExt;
use futures::future::BoxFuture;
use relay::Database;
use relay::error::LogError;
use relay::log::{AppendLog, Log};
use relay::rusqlite::{self, types};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tower::ServiceExt;

use crate::auth::{
    Access, Kind, OPERATOR as OPERATOR_KIND, Principal, SERVICE as SERVICE_KIND, TokenHash,
    TokenStore,
};
use crate::http::{Problem, Routes};
use crate::observe::Monitor;

/// An API in this process, called by an operator unless a test sends another token.
#[derive(Clone)]
pub struct TestApi {
    api: Router,
    token: Option<String>,
}

/// Operator `tester`.
pub const OPERATOR: &str = "fho_an-operator-of-the-tests";
/// Service `tester`.
pub const SERVICE: &str = "fhs_a-service-of-the-tests";
/// Guest `tester`: a caller of a kind that no route admits.
pub const GUEST: &str = "fhg_a-guest-of-the-tests";
/// The kind of [`GUEST`].
pub const GUEST_KIND: &Kind = &Kind {
    name: "guest",
    description: "A caller of the tests.",
    token_prefix: "fhg_",
    rate_divisor: 100,
    burst_s: 4,
    max_under_way: Some(16),
};

/// The tokens above, those that a test adds, and those of the service itself.
struct Testers {
    added: Vec<(&'static str, Principal)>,
    own: Option<Arc<dyn TokenStore>>,
}

/// The response.
#[derive(Debug)]
pub struct Answer {
    /// `201`.
    pub status: u16,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub text: String,
}

/// A test that waits longer fails.
const DEADLINE: Duration = Duration::from_secs(60);

impl TokenStore for Testers {
    fn kind(&self) -> &'static Kind {
        let own = self.own.as_ref().map(|own| own.kind());
        own.unwrap_or(GUEST_KIND)
    }

    fn find(&self, token: TokenHash) -> BoxFuture<'static, Result<Option<Principal>, Problem>> {
        let mut added = self.added.iter();
        let found = added.find(|(of, _)| TokenHash::of(of) == token);
        match (found, &self.own) {
            (None, Some(own)) => own.find(token),
            (found, _) => {
                let found = found.map(|(_, caller)| caller.clone());
                async { Ok(found) }.boxed()
            }
        }
    }
}

/// Admits callers that send one of the tokens above.
pub fn access() -> Access {
    access_with([], None)
}

/// And those that send one of `added`, or a token of the service's own.
pub fn access_with(
    added: impl IntoIterator<Item = (&'static str, Principal)>,
    own: Option<Arc<dyn TokenStore>>,
) -> Access {
    let tester = |kind| Principal::new(kind, "tester");
    let testers = [
        (OPERATOR, tester(OPERATOR_KIND)),
        (SERVICE, tester(SERVICE_KIND)),
        (GUEST, tester(GUEST_KIND)),
    ];
    let added = added.into_iter().chain(testers).collect();
    Access::closed().store(Arc::new(Testers { added, own }))
}

impl TestApi {
    /// A service's own routes and every layer around them.
    pub fn of(routes: Routes, monitor: Monitor) -> Self {
        Self::new(crate::api(routes, monitor, access()))
    }

    /// Calls any router, as operator `tester`.
    pub fn new(api: Router) -> Self {
        let token = Some(OPERATOR.to_owned());
        Self { api, token }
    }

    /// The same API, called with this token, or with none.
    #[must_use]
    pub fn sending<'a>(&self, token: impl Into<Option<&'a str>>) -> Self {
        let token = token.into().map(str::to_owned);
        Self {
            token,
            ..self.clone()
        }
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(request("GET", path).body(Body::empty())).await
    }

    /// Sends a POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body).await
    }

    /// A request whose body is labelled as JSON, whatever it is.
    pub async fn json(&self, method: &str, path: &str, body: impl ToString) -> Answer {
        let request = request(method, path).header(CONTENT_TYPE, "application/json");
        self.send(request.body(body.to_string().into())).await
    }

    /// Sends a request, with the token unless it has one of its own.
    pub async fn send(&self, request: axum::http::Result<Request<Body>>) -> Answer {
        let mut request = request.expect("a test makes valid requests");
        if let (Some(token), None) = (&self.token, request.headers().get(AUTHORIZATION)) {
            let header = HeaderValue::try_from(format!("Bearer {token}"));
            let header = header.expect("a token fits into a header");
            request.headers_mut().insert(AUTHORIZATION, header);
        }
        let answer = tokio::time::timeout(DEADLINE, self.api.clone().oneshot(request)).await;
        let response = answer.expect("an answer comes within a minute");
        let response = response.expect("a router always answers");
        let (head, body) = response.into_parts();
        let body = to_bytes(body, 16 << 20)
            .await
            .expect("answers are small and whole");
        Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            text: String::from_utf8(body.into()).expect("answers are text"),
        }
    }
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The header's text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Status and code of the problem this must be, for one comparison: `404 unknown_route`.
    pub fn problem(&self) -> String {
        let body = self.json();
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(body["status"], self.status, "{self:?}");
        assert!(
            body["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty()),
            "{self:?}"
        );
        format!(
            "{} {}",
            self.status,
            body["code"].as_str().unwrap_or_default()
        )
    }
}

/// Panics unless `/openapi.json` is whole: every reference leads somewhere; each operation says what it is for, which headers
/// it takes and gives, what it answers and with which codes it refuses; it admits the callers it names and no others; and each
/// answer says that no cache may keep it and no browser may take it for another kind of file. `added` are tokens for kinds
/// of callers that the service declares.
pub async fn assert_documented(api: &TestApi, added: &[(&str, &str)]) {
    let document = api.sending(None).get("/openapi.json").await.json();
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1.")),
        "{document}"
    );
    assert_resolved(&document, &document);
    let problem = &document["components"]["schemas"]["Problem"];
    assert!(problem["properties"]["request_id"].is_object(), "{problem}");
    let tokens = [
        ("operator", OPERATOR),
        ("service", SERVICE),
        ("guest", GUEST),
    ];
    let tokens: Vec<_> = tokens.iter().chain(added).copied().collect();
    let paths = document["paths"].as_object().expect("paths");
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("operations") {
            let what = format!("{method} {path}");
            let method = method.to_uppercase();
            assert_told(&what, operation);
            assert_headers(&what, &method, operation);
            assert_guarded(api, &method, path, operation, &tokens).await;
            assert_key_is_told(api, &method, path, operation, &tokens).await;
        }
    }
}

/// Panics unless the operation names the headers that hold for every operation of its kind.
fn assert_headers(what: &str, method: &str, operation: &Value) {
    let parameters = operation["parameters"].to_string();
    let waits = operation["tags"][0] != "health";
    for name in ["Freehold-Wait-For", "Freehold-Max-Wait-Ms"] {
        assert_eq!(parameters.contains(name), waits, "{what} and {name}");
    }
    for (status, response) in operation["responses"].as_object().expect("responses") {
        let headers = response["headers"].as_object().expect("headers");
        let writes = method != "GET" && status.starts_with('2');
        for (name, must) in [
            ("X-Request-Id", true),
            ("traceparent", true),
            ("Freehold-Position", writes),
            ("Retry-After", ["429", "503"].contains(&status.as_str())),
            ("WWW-Authenticate", status == "401"),
            ("ETag", status == "412"),
        ] {
            let has = headers.contains_key(name);
            assert!(has || !must, "{what}: {status} lacks {name}");
        }
    }
}

/// Panics unless an operation takes `Idempotency-Key` if and only if it says so. The key is none, so nothing is done.
async fn assert_key_is_told(
    api: &TestApi,
    method: &str,
    path: &str,
    operation: &Value,
    tokens: &[(&str, &str)],
) {
    let parts = path.split(['{', '}']).enumerate();
    let place = parts.map(|(at, part)| match at % 2 {
        0 => part,
        _ => "01985b3e-7c00-7a10-9d52-3f0c5a1bed09",
    });
    let place: String = place.collect();
    let named = operation["security"].to_string();
    let mut tokens = tokens.iter();
    let token = tokens.find(|(who, _)| named.contains(&format!("\"{who}\"")));
    let sent = request(method, &place)
        .header(CONTENT_TYPE, "application/json")
        .header("if-match", "*")
        .header("idempotency-key", "two words");
    let api = api.sending(token.map(|(_, token)| *token));
    let answer = api.send(sent.body("{".into())).await;
    let takes = answer.json()["code"] == "invalid_idempotency_key";
    let parameters = operation["parameters"].to_string();
    let says = parameters.contains("Idempotency-Key");
    assert_eq!(takes, says, "{method} {path}: {answer:?}");
}

fn assert_resolved(document: &Value, part: &Value) {
    match part {
        Value::Object(fields) => {
            if let Some(to) = fields.get("$ref") {
                let to = to.as_str().expect("a reference is a text");
                let inside = to.strip_prefix('#').expect("nothing outside");
                assert!(document.pointer(inside).is_some(), "{to} leads nowhere");
            }
            fields.values().for_each(|of| assert_resolved(document, of));
        }
        Value::Array(items) => items.iter().for_each(|of| assert_resolved(document, of)),
        _ => {}
    }
}

fn assert_told(what: &str, operation: &Value) {
    let is_text = |of: &Value| of.as_str().is_some_and(|text| !text.is_empty());
    assert!(is_text(&operation["summary"]), "{what} has no summary");
    assert!(is_text(&operation["tags"][0]), "{what} belongs to no group");
    let responses = operation["responses"].as_object().expect("responses");
    assert!(
        responses.keys().any(|status| status.starts_with('2')),
        "{what} only refuses"
    );
    for code in operation["x-problems"].as_array().expect("codes") {
        let shown = responses.values().any(|response| {
            let examples = &response["content"]["application/problem+json"]["examples"];
            examples[code.as_str().expect("a text")].is_object()
        });
        assert!(shown, "{what} shows no example of {code}");
    }
}

async fn assert_guarded(
    api: &TestApi,
    method: &str,
    path: &str,
    operation: &Value,
    tokens: &[(&str, &str)],
) {
    // An id that is none, so that an admitted request does no harm.
    let place = path.replace(['{', '}'], "~");
    let named = operation["security"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let known = tokens.iter().map(|(who, token)| (*who, Some(*token)));
    for (who, token) in known.chain([("anonymous", None)]) {
        let may = named.is_empty() || named.iter().any(|of| of.get(who).is_some());
        let answer = api
            .sending(token)
            .send(request(method, &place).body(Body::empty()))
            .await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        for name in ["x-request-id", "traceparent"] {
            assert!(!answer.header(name).is_empty(), "{answer:?}");
        }
        let kept = answer.header("cache-control");
        assert!(["no-store", "no-cache"].contains(&kept), "{answer:?}");
        let let_in = ![401, 403].contains(&answer.status);
        assert_eq!(let_in, may, "{method} {path} for {who}: {answer:?}");
    }
}

/// As a client on this machine makes it.
pub fn request(method: &str, path: &str) -> axum::http::request::Builder {
    let request = Request::builder().method(method).uri(path);
    request.header(HOST, "localhost")
}

/// Appends the events of `from` that `to` lacks, as an import from the stream does.
///
/// # Errors
///
/// [`LogError`] when `from` cannot be read, or `to` cannot import: it has no fold, or another log.
pub async fn import_log(from: &Database, to: &Database) -> Result<(), LogError> {
    let (mut from, mut to) = (from.outbox(), to.outbox());
    let head = to.head().await?;
    let mut head = head.expect("an open database has a log");
    while head.seq < from.committed() {
        let records = from.read_after(head.seq, 100, Duration::ZERO).await?;
        head = to.append_after(&head, &records).await?;
    }
    Ok(())
}

/// The rows of a query, each value as SQLite stores it.
pub async fn rows(db: &Database, sql: &'static str) -> Vec<Vec<types::Value>> {
    let read = db.read(move |rows| {
        let mut statement = rows.prepare(sql)?;
        let columns = 0..statement.column_count();
        let found =
            statement.query_map([], |row| columns.clone().map(|at| row.get(at)).collect())?;
        found.collect::<rusqlite::Result<_>>()
    });
    read.await.expect("a test asks what can be answered")
}

/// A running service program. It is killed when it is dropped.
pub struct Started {
    service: Child,
    /// Its first line on stdout.
    pub ready: String,
}

/// The output of a program that was killed.
pub struct Killed {
    /// Its first line on stdout.
    pub ready: String,
    /// Everything it wrote to stderr.
    pub log: String,
}

/// The output and the exit code of a program that ended by itself.
#[derive(Debug)]
pub struct Ended {
    /// `None`: a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to stdout.
    pub out: String,
    /// What it wrote to stderr.
    pub err: String,
}

/// Starts a service's program and waits for its first line.
pub fn start(program: &mut Command) -> Started {
    let started = program
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut service = started.expect("it starts");
    let mut ready = String::new();
    let stdout = service.stdout.as_mut().expect("piped");
    let read = BufReader::new(stdout).read_line(&mut ready);
    read.expect("it says when it is ready");
    Started { service, ready }
}

/// Starts a service's program, waits for its first line and kills it: all its files stay.
pub fn start_and_kill(program: &mut Command) -> Killed {
    start(program).kill()
}

/// Runs a program to its end.
pub fn run(program: &mut Command) -> Ended {
    let output = program.output().expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("it speaks in text");
    Ended {
        code: output.status.code(),
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

impl Started {
    /// Kills it: all its files stay.
    pub fn kill(mut self) -> Killed {
        let (ready, mut log) = (std::mem::take(&mut self.ready), String::new());
        self.service.kill().expect("it is ours");
        let mut stderr = self.service.stderr.take().expect("piped");
        stderr.read_to_string(&mut log).expect("its log is text");
        Killed { ready, log }
    }

    /// Stops it with SIGTERM, as a supervisor does.
    pub fn stop(mut self) -> Ended {
        let pid = Pid::from_child(&self.service);
        kill_process(pid, Signal::TERM).expect("it is ours");
        let (out, mut err) = (std::mem::take(&mut self.ready), String::new());
        let mut stderr = self.service.stderr.take().expect("piped");
        stderr.read_to_string(&mut err).expect("its log is text");
        let code = self.service.wait().expect("it is ours").code();
        Ended { code, out, err }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ended = self.service.kill();
        let _reaped = self.service.wait();
    }
}

impl Ended {
    /// Its answer to `--json`.
    pub fn json(&self) -> Value {
        let parsed = serde_json::from_str(&self.out);
        parsed.unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Panics unless only their own user can read the files of the folder.
pub fn assert_private(folder: &Path) {
    for entry in folder.read_dir().expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{entry:?} is {mode:o}");
    }
}

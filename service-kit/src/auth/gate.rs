//! The gate before every route: it identifies the caller, counts the request, and admits the kinds of callers that the
//! route's own documentation names. So the documentation is what holds, and a route without any admits no caller.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::OwnedSemaphorePermit;

use super::limits::Key;
use super::principal::{ANONYMOUS, Principal};
use super::token::TokenHash;
use super::{Access, unauthorized};
use crate::http::connections::Connection;
use crate::http::routes::Declared;
use crate::http::{Problem, codes, host};

/// The credentials and the declarations that the gate checks. Clones share them.
#[derive(Clone)]
pub(crate) struct Gate {
    access: Access,
    guards: Arc<Guards>,
}

/// Who may call what, as the service declares it.
#[derive(Default)]
pub(crate) struct Guards {
    pub(crate) declared: Declared,
    /// For each method of each route the kinds of callers.
    pub(crate) kinds: HashMap<String, HashMap<Method, Vec<String>>>,
}

/// Machines ask these every few seconds, however many requests there are.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];

pub(crate) async fn check(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    if HEALTH.contains(&route) {
        return Ok(next.run(request).await);
    }
    // A method that the route does not take has no caller: the router refuses it, and it waits for nothing before.
    let taken = gate.guards.takes(route, request.method());
    let connection = Connection::of(&request);
    let peer = connection.as_ref().and_then(|connection| connection.peer);
    if gate.guards.declared.entrances.contains(&route) {
        if taken {
            request
                .extensions_mut()
                .insert(Principal::new(ANONYMOUS, ""));
        }
        return gate.let_enter(request, next, peer).await;
    }
    let caller = gate.caller(route, request.headers(), peer).await?;
    gate.admit(&caller, route, request.method())?;
    if let (Some(connection), false) = (connection, caller.is(ANONYMOUS)) {
        connection.is_of_known_caller();
    }
    let _under_way = gate.begin(&caller)?;
    if taken {
        request.extensions_mut().insert(caller);
    }
    Ok(next.run(request).await)
}

impl Gate {
    pub(crate) fn new(access: Access, guards: Guards) -> Self {
        let guards = Arc::new(guards);
        Self { access, guards }
    }

    /// Only refused requests count here, so no number of strangers keeps a newcomer out.
    async fn let_enter(
        &self,
        request: Request,
        next: Next,
        peer: Option<IpAddr>,
    ) -> Result<Response, Problem> {
        let response = next.run(request).await;
        if !response.status().is_success() {
            self.count(Key::Newcomer(peer), None)?;
        }
        Ok(response)
    }

    /// A request with a wrong token counts as one without: by address. On an open route it is answered like one, too.
    async fn caller(
        &self,
        route: &str,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Principal, Problem> {
        let token = TokenHash::sent(headers);
        let early = token.and_then(|token| self.access.limits.too_early(token, Instant::now()));
        early.map_or(Ok(()), |wait| Err(too_often(wait)))?;
        let caller = self.access.caller(headers).await;
        let known = caller.as_ref().ok().filter(|caller| !caller.is(ANONYMOUS));
        let key = match known {
            Some(known) => Key::Known(known.clone()),
            None => self.strangers_key(headers, peer),
        };
        self.count(key, token)?;
        match caller {
            Err(_) if self.is_open(route) => Ok(Principal::new(ANONYMOUS, "")),
            Err(problem) if problem.code() == codes::UNAUTHORIZED => {
                Err(self.refuse_stranger(route, problem))
            }
            known => known,
        }
    }

    fn strangers_key(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Key {
        match self.guards.declared.all_open {
            true if host::is_of_page(headers) => Key::Page(peer),
            _ => Key::Address(peer),
        }
    }

    fn count(&self, key: Key, token: Option<TokenHash>) -> Result<(), Problem> {
        let (limits, now) = (&self.access.limits, Instant::now());
        limits.take(key, now).map_err(|wait| {
            if let Some(token) = token {
                limits.keep_waiting(token, wait, now);
            }
            too_often(wait)
        })
    }

    fn begin(&self, caller: &Principal) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let Some(most) = caller.kind.max_under_way else {
            return Ok(None);
        };
        let begun = self.access.limits.begin(caller, most);
        let why = || {
            format!(
                "too many requests of this {} are under way",
                caller.kind.name
            )
        };
        begun.map(Some).ok_or_else(|| too_many(&why(), 1))
    }

    fn admit(&self, caller: &Principal, route: &str, method: &Method) -> Result<(), Problem> {
        if self.is_open(route) {
            return Ok(());
        }
        if caller.is(ANONYMOUS) {
            let problem = unauthorized("send `Authorization: Bearer` and a token");
            return Err(self.refuse_stranger(route, problem));
        }
        match self.guards.of(route, method) {
            Some(kinds) if !kinds.iter().any(|may| may == caller.kind.name) => {
                let detail = format!("this is for {}s", kinds.join("s and "));
                Err(Problem::new(codes::FORBIDDEN, detail))
            }
            // There is no such route, which a known caller may learn.
            Some(_) | None => Ok(()),
        }
    }

    fn is_open(&self, route: &str) -> bool {
        self.guards.declared.all_open || self.guards.declared.open.contains(&route)
    }

    /// Where only services may come in and none has a token, no token helps: the refusal says what to set.
    fn refuse_stranger(&self, route: &str, problem: Problem) -> Problem {
        let for_services = self.guards.of(route, &Method::GET) == Some(&["service".to_owned()]);
        match self.access.shut_to_services() {
            Some(cure) if for_services => Problem::new(codes::NO_TOKEN, cure),
            _ => problem,
        }
    }
}

/// The header has whole seconds; a retry that is too early is refused again.
fn too_often(wait: Duration) -> Problem {
    too_many("too many requests from this caller", wait.as_secs() + 1)
}

fn too_many(why: &str, wait: u64) -> Problem {
    let detail = format!("{why}; come back in {wait} s");
    let problem = Problem::new(codes::RATE_LIMITED, detail);
    problem.with_header(RETRY_AFTER, HeaderValue::from(wait))
}

impl Guards {
    fn of(&self, route: &str, method: &Method) -> Option<&[String]> {
        let kinds = self.kinds.get(route)?.get(of_route(method))?;
        Some(kinds)
    }

    fn takes(&self, route: &str, method: &Method) -> bool {
        let methods = self.kinds.get(route);
        methods.is_none_or(|methods| methods.contains_key(of_route(method)))
    }
}

/// A route that takes GET takes HEAD.
fn of_route(method: &Method) -> &Method {
    match *method {
        Method::HEAD => &Method::GET,
        _ => method,
    }
}

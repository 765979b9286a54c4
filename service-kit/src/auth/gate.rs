//! The gate before every route: it finds out who calls, counts, and lets in whom the route's own documentation names. What
//! is documented is therefore what holds, and a route that says nothing is nobody's.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::Response;

use super::{Access, Caller, TokenHash, forbidden, unauthorized};
use crate::auth::limits::{Key, UnderWay};
use crate::http::connections::Connection;
use crate::http::{Problem, codes, host};

/// What the gate goes by. Clones share it.
#[derive(Clone)]
pub(crate) struct Gate {
    access: Access,
    guards: Arc<Guards>,
}

/// Who may call what: for each route its methods, for each of these the schemes that open it.
#[derive(Debug, Default)]
pub(crate) struct Guards {
    pub(crate) routes: HashMap<String, Vec<(Method, Vec<String>)>>,
    /// For everybody, with or without a token.
    pub(crate) open: Vec<String>,
    /// Those of the open ones where strangers become known.
    pub(crate) entrances: Vec<&'static str>,
    /// Every route is, and a path that leads nowhere is no secret.
    pub(crate) everybody: bool,
}

/// Machines ask these every few seconds, whoever else is in a hurry.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];
/// Behind the door's own token.
const DOOR: &str = "/operator/";

pub(crate) async fn check(
    State(gate): State<Gate>,
    mut request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    if HEALTH.contains(&route) || route.starts_with(DOOR) {
        return Ok(next.run(request).await);
    }
    let connection = Connection::of(&request);
    let peer = connection.as_ref().and_then(|connection| connection.peer);
    if gate.guards.entrances.contains(&route) {
        return gate.let_enter(request, next, peer).await;
    }
    let caller = gate.caller(route, request.headers(), peer).await?;
    gate.admit(&caller, route, request.method())?;
    if let (Some(connection), Some(_)) = (connection, caller.scheme()) {
        connection.is_of_known_caller();
    }
    let _under_way = match caller {
        Caller::Device { .. } => Some(gate.begin(&caller)?),
        _ => None,
    };
    request.extensions_mut().insert(caller);
    Ok(next.run(request).await)
}

impl Gate {
    pub(crate) fn new(access: Access, guards: Guards) -> Self {
        let guards = Arc::new(guards);
        Self { access, guards }
    }

    /// Who becomes known here is never counted, only who fails to: no number of strangers keeps a newcomer out.
    async fn let_enter(
        &self,
        mut request: Request,
        next: Next,
        peer: Option<IpAddr>,
    ) -> Result<Response, Problem> {
        request.extensions_mut().insert(Caller::Anonymous);
        let response = next.run(request).await;
        if !response.status().is_success() {
            self.count(Key::Newcomer(peer), None)?;
        }
        Ok(response)
    }

    /// A wrong token counts as none: by address, and on an open route not at all.
    async fn caller(
        &self,
        route: &str,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
    ) -> Result<Caller, Problem> {
        let token = TokenHash::sent(headers);
        let early = token.and_then(|token| self.access.limits.too_early(token, Instant::now()));
        early.map_or(Ok(()), |wait| Err(too_often(wait)))?;
        let caller = self.access.caller(headers).await;
        let known = caller.as_ref().ok();
        let known = known.filter(|caller| **caller != Caller::Anonymous);
        let key = match known {
            Some(known) => Key::Known(known.clone()),
            None => self.strangers_key(headers, peer),
        };
        self.count(key, token)?;
        match caller {
            Err(_) if self.is_open(route) => Ok(Caller::Anonymous),
            Err(problem) if problem.code() == codes::UNAUTHORIZED => {
                Err(self.refuse_stranger(route, problem))
            }
            known => known,
        }
    }

    fn strangers_key(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Key {
        match self.guards.everybody {
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

    fn begin(&self, caller: &Caller) -> Result<UnderWay, Problem> {
        let begun = self.access.limits.begin(caller);
        begun.ok_or_else(|| too_many("too many requests of this device are under way", 1))
    }

    fn admit(&self, caller: &Caller, route: &str, method: &Method) -> Result<(), Problem> {
        if self.is_open(route) {
            return Ok(());
        }
        let Some(scheme) = caller.scheme() else {
            let problem = unauthorized("send `Authorization: Bearer` and a token");
            return Err(self.refuse_stranger(route, problem));
        };
        match self.guards.of(route, method) {
            Some(schemes) if !schemes.iter().any(|may| may == scheme) => {
                Err(forbidden(&format!("{}s", schemes.join("s and "))))
            }
            // Nothing is there: whoever is known may be told so.
            Some(_) | None => Ok(()),
        }
    }

    fn is_open(&self, route: &str) -> bool {
        self.guards.everybody || self.guards.open.iter().any(|open| open == route)
    }

    /// Where only services may come in and none has a token, no token helps: the one who asks is told who must act.
    fn refuse_stranger(&self, route: &str, problem: Problem) -> Problem {
        let for_services = self.guards.of(route, &Method::GET) == Some(&["service".to_owned()]);
        match self.access.shut_to_services() {
            Some(cure) if for_services => Problem::new(codes::NO_TOKEN, cure),
            _ => problem,
        }
    }
}

/// The header has whole seconds, and too early is refused again.
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
        let method = match *method {
            Method::HEAD => &Method::GET,
            _ => method,
        };
        let known = self.routes.get(route)?.iter();
        let mut known = known.filter(|(of, _)| of == method);
        known.next().map(|(_, schemes)| schemes.as_slice())
    }
}

impl Caller {
    /// Its name among the security schemes of the documentation.
    fn scheme(&self) -> Option<&'static str> {
        match self {
            Self::Anonymous => None,
            Self::Operator(_) => Some("operator"),
            Self::Service(_) => Some("service"),
            Self::Device { .. } => Some("device"),
        }
    }
}

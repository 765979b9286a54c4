//! A service's routes and the layers around them: limits, contained panics, one shape of refusals, a log line per request.

mod docs;
mod health;
mod openapi;
mod texts;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, Method};
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Router};
use futures::FutureExt;

use crate::auth::{Access, Gate, check};
use crate::causal;
use crate::http::extract::MAX_BODY_BYTES;
use crate::http::{Code, Problem, Routes, codes, host, version};
use crate::idempotency::Replies;
use crate::observe::monitor::{Monitor, Seen};
use crate::observe::trace;

/// How long one request may take, from its last header to its answer.
pub const MAX_REQUEST_TIME: Duration = Duration::from_secs(10);

/// The whole API of a service: its own routes, `/livez`, `/readyz`, `/metrics`, `/docs`, and the layers around them.
pub fn api(routes: Routes, monitor: Monitor, access: Access) -> Router {
    let routes = routes
        .problems(codes::ALL)
        .merge(health::routes(monitor.clone()));
    let listed: Arc<[Code]> = routes.declared.codes.clone().into();
    let (routes, guards) = docs::documented(routes, access.kinds());
    routes
        .fallback(unknown_route)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(Extension(Replies::new(monitor.db())))
        .layer(from_fn(version::show_if_changed))
        .layer(from_fn_with_state(listed, only_listed))
        .layer(from_fn_with_state(monitor.clone(), causal::keep_order))
        .layer(from_fn_with_state(Gate::new(access, guards), check))
        .layer(from_fn(contain_panic))
        .layer(from_fn(limit_time))
        .layer(from_fn(host::refuse_foreign))
        .layer(map_response(keep_private))
        .layer(from_fn_with_state(monitor, observe))
        .layer(from_fn(trace::accompany))
}

async fn unknown_route() -> Problem {
    Problem::new(codes::UNKNOWN_ROUTE, "no route matches this path")
}

async fn method_not_allowed(method: Method) -> Problem {
    let detail =
        format!("this path does not take {method}; the Allow header names the methods it takes");
    Problem::new(codes::METHOD_NOT_ALLOWED, detail)
}

/// A code that `/problems` does not show is a mistake that tests must find. In a release it is answered all the same.
async fn only_listed(State(listed): State<Arc<[Code]>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(code) = response.extensions().get::<Code>() {
        debug_assert!(listed.contains(code), "{code:?} is in no registry");
    }
    response
}

/// A handler that panics fails its own request. The panic itself is logged where it happens.
async fn contain_panic(request: Request, next: Next) -> Response {
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind().await;
    handled.unwrap_or_else(|_| {
        let detail = "this service failed; its log has the reason";
        Problem::new(codes::INTERNAL, detail).into_response()
    })
}

/// Answers hold personal data and secrets, so no cache keeps one unless its handler says so; and no browser takes one for
/// another kind of file than its label says.
async fn keep_private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    let kept = headers.entry(CACHE_CONTROL);
    kept.or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn limit_time(request: Request, next: Next) -> Response {
    let handled = tokio::time::timeout(MAX_REQUEST_TIME, next.run(request)).await;
    handled.unwrap_or_else(|_| {
        // A write that is already in the queue is still done.
        let detail = "the request timed out and may have been applied; check before you retry";
        Problem::new(codes::TIMED_OUT, detail)
            .retry_later()
            .into_response()
    })
}

/// One count per request, and a log line unless there are too many. The route is logged, never the path: paths hold ids, queries more.
async fn observe(State(monitor): State<Monitor>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = known(request.method());
    let began = Instant::now();
    let response = next.run(request).await;
    let seen = Seen {
        method,
        route: route.as_ref().map_or("unknown", MatchedPath::as_str),
        status: response.status(),
        took: began.elapsed(),
    };
    monitor.saw(&seen);
    response
}

/// A client may invent methods, and each would be a new label in the metrics.
fn known(method: &Method) -> &'static str {
    let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    let mut known = known.into_iter();
    known.find(|known| *method == **known).unwrap_or("other")
}

//! The routes for machines: liveness, readiness, metrics.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use relay::database::Gate;
use serde_json::{Value, json};
use utoipa_axum::routes;

use crate::http::{Json, Problem, Routes, codes};
use crate::observe::Monitor;

pub(crate) fn routes(monitor: Monitor) -> Routes {
    Routes::default()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
        .open("/livez")
        .open("/readyz")
        .open("/metrics")
        .with_state(monitor)
}

/// Is it alive?
///
/// The process answers. For the supervisor that restarts it.
#[utoipa::path(
    get, path = "/livez", tag = "health",
    responses((status = 200, description = "It is", body = Object, example = json!({"status": "alive"})))
)]
async fn livez() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// May it get traffic?
///
/// The database can be read and takes writes. The broker does not matter: without it writes still succeed and wait in
/// the outbox. Only a database that may be restored from a backup waits for the broker.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, description = "It may", body = Object, example = json!({"status": "ready"}))),
    extensions(("x-problems" = json!([codes::NOT_READY.name()])))
)]
async fn readyz(State(monitor): State<Monitor>) -> Result<Json<Value>, Problem> {
    match monitor.db().gate() {
        Gate::Open | Gate::Held { .. } => {}
        Gate::MustImport(reason) => {
            let waits = "writes wait until this database agrees with its stream";
            return Err(not_ready(format!("{waits}: {reason}")).retry_later());
        }
        Gate::Halted(reason) => return Err(not_ready(format!("writes are halted: {reason}"))),
    }
    if let Some(why) = monitor.db().disk().refuses_writes() {
        return Err(not_ready(why).retry_later());
    }
    let readable = monitor.readable().await;
    readable.map_err(not_ready)?;
    let mut ready = json!({"status": "ready"});
    if monitor.is_stuck() {
        ready["trouble"] = "the broker cannot write this service's stream: events wait in the outbox until its disk has room and nats-server is restarted".into();
    }
    Ok(Json(ready))
}

fn not_ready(reason: String) -> Problem {
    Problem::new(codes::NOT_READY, reason)
}

/// How does it fare?
///
/// Prometheus text. No figure names a caller.
#[utoipa::path(
    get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Every figure as it is now", body = String, content_type = "text/plain"))
)]
async fn metrics(State(monitor): State<Monitor>) -> impl IntoResponse {
    let text = monitor.scrape().await;
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}

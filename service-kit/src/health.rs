//! The routes machines ask: is it alive, may it get traffic, how does it fare.

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use relay::{Gate, Log};
use serde_json::{Value, json};

use crate::{Json, Monitor, Problem, codes};

/// A read that takes longer than this is no sign of health.
const MAX_READ_TIME: Duration = Duration::from_secs(2);

pub(crate) fn routes(monitor: Monitor) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(monitor)
}

/// The process answers. Whoever restarts it asks this.
async fn livez() -> Json<Value> {
    Json(json!({"status": "alive"}))
}

/// The database can be read and takes writes. The broker does not matter: without it writes still succeed and wait in
/// the outbox. Only a file that may be an older copy of itself waits for the broker.
async fn readyz(State(monitor): State<Monitor>) -> Result<Json<Value>, Problem> {
    match monitor.db().gate() {
        Gate::Open => {}
        Gate::MustImport(reason) => {
            let waits = "writes wait until this database has met its stream";
            return Err(not_ready(format!("{waits}: {reason}")).retry_later());
        }
        Gate::Halted(reason) => return Err(not_ready(format!("writes are halted: {reason}"))),
    }
    let mut outbox = monitor.db().outbox();
    match tokio::time::timeout(MAX_READ_TIME, outbox.head()).await {
        Ok(Ok(_)) => Ok(Json(json!({"status": "ready"}))),
        Ok(Err(error)) => Err(not_ready(relay::chain(&error))),
        Err(_) => Err(not_ready(format!(
            "the database did not answer in {MAX_READ_TIME:?}"
        ))),
    }
}

fn not_ready(reason: String) -> Problem {
    Problem::new(codes::NOT_READY, reason)
}

async fn metrics(State(monitor): State<Monitor>) -> impl IntoResponse {
    let text = monitor.scrape().await;
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
}

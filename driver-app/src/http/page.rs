//! The page: four files inside the program, so that it is there without any network.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

const HTML: &str = include_str!("../../page/index.html");
const SCRIPT: &str = include_str!("../../page/app.js");
const STYLE: &str = include_str!("../../page/app.css");
const ICON: &str = include_str!("../../page/icon.svg");

/// Nothing but what this program serves; no other page may show this one in a frame.
const ONLY_OURS: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

pub(super) fn routes() -> Router {
    Router::new()
        .route("/", get(async || file("text/html; charset=utf-8", HTML)))
        .route(
            "/app.js",
            get(async || file("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route(
            "/app.css",
            get(async || file("text/css; charset=utf-8", STYLE)),
        )
        .route("/icon.svg", get(async || file("image/svg+xml", ICON)))
}

/// Asked for anew each time: after an update the page must fit its program.
fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, ONLY_OURS),
    ];
    (headers, text)
}

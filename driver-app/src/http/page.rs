//! The page: four files inside the program, so that it works offline.

use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::IntoResponse;

const HTML: &str = include_str!("../../page/index.html");
const SCRIPT: &str = include_str!("../../page/app.js");
const STYLE: &str = include_str!("../../page/app.css");
const ICON: &str = include_str!("../../page/icon.svg");

/// Loads only from this program; no other page may show this one in a frame.
const ONLY_OURS: &str = "default-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

/// The page
#[utoipa::path(
    get, path = "/", tag = "page",
    responses((status = 200, description = "A file of the page", content_type = "text/html", body = String))
)]
pub(super) async fn index() -> impl IntoResponse {
    file("text/html; charset=utf-8", HTML)
}

/// The page's script
#[utoipa::path(
    get, path = "/app.js", tag = "page",
    responses((status = 200, description = "A file of the page", content_type = "text/javascript", body = String))
)]
pub(super) async fn script() -> impl IntoResponse {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// The page's style
#[utoipa::path(
    get, path = "/app.css", tag = "page",
    responses((status = 200, description = "A file of the page", content_type = "text/css", body = String))
)]
pub(super) async fn style() -> impl IntoResponse {
    file("text/css; charset=utf-8", STYLE)
}

/// The page's icon
#[utoipa::path(
    get, path = "/icon.svg", tag = "page",
    responses((status = 200, description = "A file of the page", content_type = "image/svg+xml", body = String))
)]
pub(super) async fn icon() -> impl IntoResponse {
    file("image/svg+xml", ICON)
}

/// Never cached, because after an update the page must fit its program.
fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, ONLY_OURS),
    ];
    (headers, text)
}

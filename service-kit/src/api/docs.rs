//! What a service says about itself to whoever wants to call it: `/openapi.json`, `/docs` for people, `/problems`. All of it
//! comes from the service itself, so it can be read without a network.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::response::IntoResponse;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::openapi::Document;
use crate::auth::Guards;
use crate::http::{Code, Json, Routes};

/// What is answered, made once.
#[derive(Clone)]
struct Pages {
    openapi: Bytes,
    problems: Arc<[Code]>,
    policy: Arc<str>,
}

/// Every way in which this service refuses.
#[derive(Serialize, ToSchema)]
struct Problems {
    problems: Vec<ProblemCode>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
struct ProblemCode {
    /// For programs.
    #[schema(example = "unknown_route")]
    code: &'static str,
    #[schema(example = 404)]
    status: u16,
    /// The same for people.
    #[schema(example = "There is nothing at this path")]
    title: &'static str,
    /// What a problem has as its `type`.
    #[schema(example = "urn:freehold:problem:unknown_route")]
    r#type: String,
}

/// One file, its style and its script in it.
const PAGE: &str = include_str!("docs.html");

/// The routes and these three among them, and who may call what.
pub(crate) fn documented(mut routes: Routes) -> (Router, Guards) {
    let own = Routes::<Pages>::part()
        .routes(routes!(openapi))
        .routes(routes!(page))
        .routes(routes!(problems));
    routes.open.extend(["/openapi.json", "/docs", "/problems"]);
    let mut whole = routes.router.to_openapi();
    whole.merge(own.router.get_openapi().clone());
    let Document { json, guards } = Document::of(&routes, &whole);
    routes
        .codes
        .sort_by_key(|code| (code.status(), code.name()));
    let pages = Pages {
        openapi: json.to_string().into(),
        problems: routes.codes.into(),
        policy: policy().into(),
    };
    let own = own.with_state(pages);
    let (own, _) = own.router.split_for_parts();
    let (router, _) = routes.router.split_for_parts();
    (router.merge(own), guards)
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", tag = "about",
    responses((status = 200, description = "OpenAPI 3.1", body = Object, content_type = "application/json"))
)]
async fn openapi(State(pages): State<Pages>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], pages.openapi)
}

/// This document, to be read in a browser
#[utoipa::path(
    get, path = "/docs", tag = "about",
    responses((status = 200, description = "One page that asks nobody but this service", body = String, content_type = "text/html"))
)]
async fn page(State(pages): State<Pages>) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (CONTENT_SECURITY_POLICY, (*pages.policy).to_owned()),
        (REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, PAGE)
}

/// Every code with which this service refuses
#[utoipa::path(
    get, path = "/problems", tag = "about",
    responses((status = 200, description = "By status, then by code", body = Problems))
)]
async fn problems(State(pages): State<Pages>) -> Json<Problems> {
    let problems = pages.problems.iter().map(|code| ProblemCode {
        code: code.name(),
        status: code.status().as_u16(),
        title: code.title(),
        r#type: code.urn(),
    });
    let problems = problems.collect();
    Json(Problems { problems })
}

/// The page's own style and script and nothing else, known by their hashes; and it may ask its own service only.
fn policy() -> String {
    let hash = |tag| BASE64_STANDARD.encode(Sha256::digest(between(tag)));
    format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash("style"),
        hash("script")
    )
}

/// What stands in the page's only element of this name.
fn between(tag: &str) -> &'static str {
    let parts = PAGE.split_once(&format!("<{tag}>"));
    let inner = parts.and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
    inner.map_or("", |(inner, _)| inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_refers_to_nothing_outside_and_writes_no_markup_from_data() {
        for outside in [
            "http:",
            "https:",
            "//cdn",
            "src=",
            "@import",
            "<link rel=\"stylesheet",
        ] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        assert!(!between("style").contains("url("));
        for dangerous in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "eval(",
            " style=",
            "onclick=",
        ] {
            assert!(!PAGE.contains(dangerous), "{dangerous}");
        }
    }

    #[test]
    fn the_policy_knows_the_one_style_and_the_one_script() {
        for tag in ["style", "script"] {
            assert!(between(tag).len() > 100, "{tag}");
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
        }
        let policy = policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!policy.contains("unsafe"), "{policy}");
    }
}

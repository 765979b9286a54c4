//! The service's documentation: `/openapi.json` for programs, `/docs` for people, `/problems`. All of it comes from the
//! service itself, so it can be read without a network.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::routes;

use crate::api::openapi::complete;
use crate::api::texts;
use crate::auth::{Guards, Kind};
use crate::http::{Code, Json, Routes};

/// The answers, made once.
#[derive(Clone)]
struct Pages {
    openapi: Bytes,
    page: Bytes,
    problems: Arc<[Code]>,
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

/// One file with its style and its script.
const PAGE: &str = include_str!("docs.html");
/// Where the page keeps the texts that are Markdown, rendered.
const TEXTS: &str = "<template id=\"texts\">";

/// `default-src 'none'`; the page's only style and its only script, known by their hashes; and it may ask its own service only.
const POLICY: &str = "default-src 'none'; style-src 'sha256-RtD411FTWHylS77wNwbgPhBLFMNlqisbWjEPEPkhfNg='; script-src 'sha256-tKk8zQFV13/PZ9caY5a5lcsIEW570hjssenh369fbWA='; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The routes and these three among them, and who may call what.
pub(crate) fn documented(
    routes: Routes,
    kinds: impl Iterator<Item = &'static Kind>,
) -> (Router, Guards) {
    let own = Routes::<Pages>::default()
        .routes(routes!(openapi))
        .routes(routes!(page))
        .routes(routes!(problems));
    let Routes {
        mut router,
        mut declared,
    } = routes;
    declared
        .open
        .extend(["/openapi.json", "/docs", "/problems"]);
    let mut whole = router.to_openapi();
    whole.merge(own.router.get_openapi().clone());
    declared
        .codes
        .sort_by_key(|code| (code.status(), code.name()));
    let problems: Arc<[Code]> = declared.codes.clone().into();
    let (json, guards) = complete(declared, &whole, kinds);
    let texts = texts::rendered(&json, problems.iter().map(|code| code.title()));
    let pages = Pages {
        openapi: json.to_string().into(),
        page: PAGE.replace(TEXTS, &format!("{TEXTS}\n{texts}")).into(),
        problems,
    };
    let router = router.merge(own.with_state(pages).router);
    (router.split_for_parts().0, guards)
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
    responses((status = 200, description = "One page that loads from this service alone", body = String, content_type = "text/html"))
)]
async fn page(State(pages): State<Pages>) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
    ];
    (headers, pages.page)
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

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use sha2::{Digest, Sha256};

    use super::*;

    /// What stands in the page's only element of this name.
    fn between(tag: &str) -> &'static str {
        let parts = PAGE.split_once(&format!("<{tag}>"));
        let inner = parts.and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        inner.map_or("", |(inner, _)| inner)
    }

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
        assert_eq!(PAGE.matches(TEXTS).count(), 1);
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
            let hash = BASE64.encode(&Sha256::digest(between(tag)));
            let allowed = format!("{tag}-src 'sha256-{hash}'");
            assert!(POLICY.contains(&allowed), "the policy must have {allowed}");
        }
        assert!(POLICY.starts_with("default-src 'none'; style-src 'sha256-"));
        assert!(!POLICY.contains("unsafe"));
    }
}

//! The guard before the routes that only this service's own commands call.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::HeaderValue;
use axum::http::header::WWW_AUTHENTICATE;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;

pub(crate) use crate::auth::token::Token;
use crate::auth::token::TokenHash;
use crate::http::connections::Connection;
use crate::http::{Problem, codes};

/// Lets in the caller that sends the token.
#[derive(Clone)]
pub(crate) struct Guard(pub(crate) Token);

impl Guard {
    /// Stands before every one of the routes.
    pub(crate) fn before(self, routes: Router) -> Router {
        routes.route_layer(from_fn_with_state(self, check))
    }
}

async fn check(
    State(Guard(token)): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if TokenHash::sent(request.headers()) == Some(token.hash()) {
        Connection::of(&request).inspect(|connection| connection.is_of_known_caller());
        return Ok(next.run(request).await);
    }
    let detail = "send `Authorization: Bearer` with the token of this service's door";
    let problem = Problem::new(codes::UNAUTHORIZED, detail);
    Err(problem.with_header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
}

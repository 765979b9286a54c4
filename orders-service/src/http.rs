//! The routes of this service, and how its own refusals are told to clients.

mod codes;
mod orders;

use axum::Router;
use axum::routing::{get, post};
use relay::{Database, chain};
use service_kit::Problem;

use crate::domain::{InvalidAmount, InvalidCurrency};
use crate::events::MakeError;
use crate::user_api::{Unavailable, UserApi};

/// What the handlers work with.
#[derive(Clone)]
struct App {
    db: Database,
    user_api: UserApi,
}

pub fn routes(db: Database, user_api: UserApi) -> Router {
    Router::new()
        .route("/orders", post(orders::place).get(orders::list))
        .route("/orders/{id}", get(orders::read))
        .with_state(App { db, user_api })
}

impl From<InvalidAmount> for Problem {
    fn from(error: InvalidAmount) -> Self {
        Self::field(codes::INVALID_AMOUNT, "amount_minor", error.to_string())
    }
}

impl From<MakeError> for Problem {
    fn from(error: MakeError) -> Self {
        Self::internal(&error)
    }
}

impl From<InvalidCurrency> for Problem {
    fn from(error: InvalidCurrency) -> Self {
        Self::field(codes::INVALID_CURRENCY, "currency", error.to_string())
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        tracing::warn!(error = %chain(&error), "an order had to be turned away");
        let detail = "this user is not known here yet, and user-service cannot be asked; try again";
        Self::new(codes::USERS_UNAVAILABLE, detail).retry_later()
    }
}

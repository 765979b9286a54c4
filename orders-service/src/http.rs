//! The routes of this service, and how its own refusals are told to clients.

mod codes;
mod composed;
mod orders;

use axum::Router;
use axum::routing::{get, post};
use relay::{Consumer, Database, chain};
use service_kit::Problem;

use crate::composition::Composer;
use crate::domain::{InvalidAmount, InvalidCurrency, UnknownStatus};
use crate::events::MakeError;
use crate::user_api::{Unavailable, UserApi};

/// What the handlers work with.
#[derive(Clone)]
struct App {
    db: Database,
    user_api: UserApi,
    composer: Composer,
}

/// `cache` is the consumer that keeps the cache of users: it knows how new that is.
pub fn routes(db: Database, user_api: UserApi, cache: Consumer) -> Router {
    let composer = Composer::new(cache, user_api.clone());
    Router::new()
        .route("/orders", post(orders::place).get(composed::list))
        .route("/orders/{id}", get(composed::read))
        .route("/users/{id}/orders", get(composed::of_user))
        .with_state(App {
            db,
            user_api,
            composer,
        })
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

impl From<UnknownStatus> for Problem {
    fn from(error: UnknownStatus) -> Self {
        Self::field(
            service_kit::codes::INVALID_QUERY,
            "status",
            error.to_string(),
        )
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

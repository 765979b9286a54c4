//! The routes of this service, and how its own refusals are told to clients.

mod batch;
mod codes;
mod users;

use axum::Router;
use axum::routing::{get, post};
use relay::Database;
use service_kit::Problem;

use crate::domain::{InvalidEmail, InvalidName};
use crate::store::StoreError;

pub fn routes(db: Database) -> Router {
    Router::new()
        .route("/users", post(users::register).get(users::list))
        .route(
            "/users/{id}",
            get(users::read).patch(users::change).delete(users::delete),
        )
        .with_state(db)
}

impl From<InvalidName> for Problem {
    fn from(error: InvalidName) -> Self {
        Self::field(codes::INVALID_NAME, "name", error.to_string())
    }
}

impl From<InvalidEmail> for Problem {
    fn from(error: InvalidEmail) -> Self {
        Self::field(codes::INVALID_EMAIL, "email", error.to_string())
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::EmailTaken => Self::field(codes::EMAIL_TAKEN, "email", error.to_string()),
            StoreError::NoEmail | StoreError::OutOfOrder | StoreError::Database(_) => {
                Self::internal(&error)
            }
        }
    }
}

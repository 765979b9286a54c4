//! The routes of this service, and how its own errors become problems.

mod batch;
mod codes;
mod users;
mod view;

use relay::Database;
use service_kit::{Problem, Routes, routes};

use crate::domain::{InvalidEmail, InvalidName};
use crate::store::StoreError;

pub fn routes(db: Database) -> Routes {
    Routes::default()
        .problems(codes::ALL)
        .routes(routes!(users::register, users::list))
        .routes(routes!(users::read, users::change, users::delete))
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
            other => Self::internal(&other),
        }
    }
}

//! The routes of this service, and how its own refusals are told to clients.

mod codes;
mod orders;

use relay::{Database, chain};
use service_kit::{Problem, Routes, routes};

use crate::config::ABOUT;
use crate::domain::{InvalidAmount, InvalidCurrency};
use crate::user_api::{Unavailable, UserApi};

/// What the handlers work with.
#[derive(Clone)]
struct App {
    db: Database,
    user_api: UserApi,
}

/// What this service is for, to a reader of its documentation.
const PURPOSE: &str = "Owns orders: places and shows them, and tells the other services through stream ORDERS. Operators may do everything; other services may read.";

pub fn routes(db: Database, user_api: UserApi) -> Routes {
    Routes::new(ABOUT.name, PURPOSE)
        .problems(codes::ALL)
        .routes(routes!(orders::place, orders::list))
        .routes(routes!(orders::read))
        .with_state(App { db, user_api })
}

impl From<InvalidAmount> for Problem {
    fn from(error: InvalidAmount) -> Self {
        Self::field(codes::INVALID_AMOUNT, "amount_minor", error.to_string())
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

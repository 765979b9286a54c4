//! The routes of this service, and how its own refusals are told to clients.

mod codes;
mod composed;
mod drivers;
mod history;
mod intents;
mod orders;
mod sync;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use relay::{Consumer, Database, chain};
use serde::Deserialize;
use service_kit::{Problem, Routes, routes};
use tokio::sync::Semaphore;
use utoipa::ToSchema;

use crate::composition::Composer;
use crate::config::ABOUT;
use crate::domain::{
    Gone, InvalidAmount, InvalidCurrency, InvalidDriverName, InvalidNote, Refusal, UnknownStatus,
};
use crate::events::MakeError;
use crate::hashes::Hashes;
use crate::sync::Turns;
use crate::user_api::{Unavailable, UserApi};

/// What the handlers work with.
#[derive(Clone)]
struct App {
    db: Database,
    user_api: UserApi,
    composer: Composer,
    feed_tail: u64,
    /// Of drivers who send at the moment.
    turns: Turns,
    /// Places for devices that wait for news.
    waiting: Arc<Semaphore>,
    /// Codes that are good for a device.
    codes: Hashes,
}

/// A body without a word: `{}`. Every POST has one, so that no page of a foreign site can send it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

/// A number that counts from 1 and fits into a row, as a cursor names one.
#[derive(Clone, Copy, Debug)]
struct Place(u64);

impl FromStr for Place {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let place: i64 = text.parse().map_err(|_| ())?;
        u64::try_from(place).map(Self).map_err(|_| ())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What this service is for, to a reader of its documentation.
const PURPOSE: &str = "Owns orders, their delivery and the drivers: places, assigns, cancels and shows orders, judges what drivers' devices want, and tells the other services through stream ORDERS. Operators may do everything but what is a device's, other services may read orders, a device reaches its own driver's deliveries.";

/// `cache` is the consumer that keeps the cache of users: it knows how new that is. `feed_tail` is how many events a device
/// may be behind before it gets a snapshot.
pub fn routes(db: Database, user_api: UserApi, cache: Consumer, feed_tail: u64) -> Routes {
    let composer = Composer::new(cache, user_api.clone());
    Routes::new(ABOUT.name, PURPOSE)
        .problems(codes::ALL)
        .routes(routes!(orders::place, composed::list))
        .routes(routes!(composed::read))
        .routes(routes!(history::read))
        .routes(routes!(orders::assign))
        .routes(routes!(orders::unassign))
        .routes(routes!(orders::cancel))
        .routes(routes!(composed::of_user))
        .routes(routes!(drivers::enrol, drivers::list))
        .routes(routes!(drivers::read))
        .routes(routes!(drivers::revoke))
        .routes(routes!(drivers::draw_code))
        .routes(routes!(drivers::revoke_device))
        .routes(routes!(intents::list))
        .routes(routes!(intents::read))
        .routes(routes!(intents::decide))
        .routes(routes!(drivers::enrol_device))
        .entrance("/devices")
        .routes(routes!(sync::intents))
        .routes(routes!(sync::feed))
        .with_state(App {
            codes: Hashes::of(&db, drivers::good_codes),
            db,
            user_api,
            composer,
            feed_tail,
            turns: Turns::default(),
            waiting: Arc::new(Semaphore::new(sync::max_waiting())),
        })
}

/// To a device that may come no more: what it knows of deliveries is to go.
pub(crate) fn revoked() -> Problem {
    let detail = "the driver or this device was revoked; what was not sent yet stays on the device. A device can be enrolled again, a driver cannot";
    Problem::new(codes::REVOKED, detail)
}

/// A moment of this service's clock, or of an event.
fn rfc3339(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms);
    at.map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}

impl From<InvalidDriverName> for Problem {
    fn from(error: InvalidDriverName) -> Self {
        Self::field(codes::INVALID_NAME, "name", error.to_string())
    }
}

impl From<InvalidNote> for Problem {
    fn from(error: InvalidNote) -> Self {
        Self::field(codes::INVALID_NOTE, "note", error.to_string())
    }
}

impl From<Gone> for Problem {
    fn from(error: Gone) -> Self {
        Self::new(codes::DRIVER_REVOKED, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Delivered => codes::ORDER_DELIVERED,
            Refusal::Cancelled => codes::ORDER_CANCELLED,
            Refusal::AlreadyAssigned => codes::ALREADY_ASSIGNED,
            Refusal::NotAssigned => codes::NOT_ASSIGNED,
            Refusal::AnotherDriver
            | Refusal::AlreadyPickedUp
            | Refusal::NotPickedUp
            | Refusal::TooManyProblems => codes::NOT_POSSIBLE,
        };
        Self::new(code, refusal.to_string())
    }
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

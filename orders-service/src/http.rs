//! The routes of this service.

mod composed;
mod drivers;
mod history;
mod intents;
mod orders;
mod sync;

use std::sync::Arc;

use jiff::Timestamp;
use relay::{Consumer, Database};
use serde::Deserialize;
use service_kit::{Cursor, Limit, Routes, routes};
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use crate::composition::Composer;
use crate::hashes::Hashes;
use crate::problems;
use crate::store::drivers::code_hashes;
use crate::sync::Turns;
use crate::user_api::UserApi;

/// What the handlers share.
#[derive(Clone)]
struct App {
    db: Database,
    user_api: UserApi,
    composer: Composer,
    feed_tail: u64,
    /// Of drivers with uploads.
    turns: Turns,
    /// Permits for devices that wait for news.
    waiting: Arc<Semaphore>,
    /// Valid enrolment codes.
    codes: Hashes,
}

/// An empty body: `{}`. Every POST has one, so that no page of another site can send it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<String>, example = "c1.1042")]
    cursor: Option<Cursor<i64>>,
    /// The number of items, at most.
    #[serde(default)]
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200, default = 50)]
    limit: Limit,
}

/// `cache` is the consumer of the cache of users. `feed_tail` is how many events a device may be behind before it gets a
/// snapshot.
pub fn routes(db: Database, user_api: UserApi, cache: Consumer, feed_tail: u64) -> Routes {
    Routes::default()
        .problems(problems::ALL)
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
            codes: Hashes::of(&db, code_hashes),
            composer: Composer::new(db.clone(), cache.clone(), user_api.clone()),
            db,
            user_api,
            feed_tail,
            turns: Turns::default(),
            waiting: Arc::new(Semaphore::new(sync::max_waiting())),
        })
}

impl App {
    fn now_ms(&self) -> i64 {
        self.db.environment().now().as_millisecond()
    }
}

fn rfc3339(at_ms: i64) -> String {
    let at = Timestamp::from_millisecond(at_ms);
    at.map_or_else(|_| "unknown".to_owned(), |at| at.to_string())
}

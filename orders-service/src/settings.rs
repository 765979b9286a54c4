//! The settings that this service alone has, and its routes with them.

use std::sync::Arc;

use clap::Args;
use event_schema::UserEvent;
use relay::environment::System;
use service_kit::Routes;
use service_program::App;

use crate::cache::users;
use crate::user_api::{Limits, UserApi};
use crate::{http, sync};

#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// How many events a driver's device may be behind before it gets a snapshot
    #[arg(
        long,
        env = "FREEHOLD_FEED_TAIL",
        value_name = "N",
        default_value_t = sync::DEFAULT_TAIL
    )]
    pub feed_tail: u64,
}

/// user-service is asked about users that are not in the cache. Without a token it is asked without.
pub(crate) fn routes(app: &App<Settings>) -> anyhow::Result<Routes> {
    let users = app.owner::<UserEvent>()?;
    let (url, token) = (users.url.clone(), users.token.clone().ok());
    let user_api = UserApi::new(url, token, Limits::default(), Arc::new(System))?;
    let cache = app.consumer(users::CONSUMER)?.clone();
    let (db, feed_tail) = (app.db.clone(), app.settings.feed_tail);
    Ok(http::routes(db, user_api, cache, feed_tail))
}

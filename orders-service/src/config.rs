//! The settings of this service, and its constants.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use event_schema::{Event, OrderEvent};
use relay::environment::System;
use relay::log::Producer;
use relay::{Consumer, Database, Options};
use service_kit::{BaseUrl, HttpProducer, Routes, Token, TokenStore};
use service_program::{About, CommonArgs, Program, Redacted};

use crate::access::Devices;
use crate::cache::users;
use crate::reactions::deleted_users;
use crate::user_api::{Limits, UserApi};
use crate::{MIGRATIONS, events, http, store, sync};

pub const ABOUT: About = About {
    name: crate::NAME,
    listen: "127.0.0.1:7102",
    database: "orders-service.db",
    password_env: "FREEHOLD_ORDERS_PASSWORD",
    inbox: "_INBOX_orders",
    read_token_env: "FREEHOLD_ORDERS_READ_TOKEN",
    stream: OrderEvent::STREAM,
    share: store::orders::share,
    has_keys: true,
};

/// user-service's token, for its API and for its snapshots.
const USERS_READ_TOKEN: &str = "FREEHOLD_USERS_READ_TOKEN";

/// Owns orders: places and shows them over HTTP, emits their events to stream ORDERS, and keeps a cache of users from stream
/// USERS.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub common: CommonArgs,

    /// The address of user-service. It is asked, for at most 2 s, about users that are not in the cache when they place an order or
    /// are to be shown, and for a snapshot when the cache cannot follow the stream. The token is in FREEHOLD_USERS_READ_TOKEN
    #[arg(
        long,
        env = "FREEHOLD_USERS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:7101",
        hide_env_values = true
    )]
    pub users_url: Redacted,

    /// How many events a driver's device may be behind before it gets a snapshot
    #[arg(
        long,
        env = "FREEHOLD_FEED_TAIL",
        value_name = "N",
        default_value_t = sync::DEFAULT_TAIL
    )]
    pub feed_tail: u64,

    /// The keys that seal the hashes of devices' tokens in events; created if missing. Keep a copy apart from the database's
    /// backups [default: the database's name with .keys after it]
    #[arg(long, env = "FREEHOLD_ORDERS_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

impl Program for Config {
    const ABOUT: About = ABOUT;

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn options(&self) -> Options {
        database()
    }

    fn keys(&self) -> Option<PathBuf> {
        Some(self.common.keys(self.keys.as_deref()))
    }

    fn consumers(&self) -> anyhow::Result<Vec<Consumer>> {
        let producer = self.users()?;
        let consumers = [users::consumer(), deleted_users::consumer()];
        let asking = consumers.into_iter().map(|consumer| match &producer {
            Some(producer) => consumer.asks(producer.clone()),
            None => consumer,
        });
        Ok(asking.collect())
    }

    fn token_store(&self, db: &Database) -> Option<Arc<dyn TokenStore>> {
        Some(Devices::of(db))
    }

    fn routes(&self, db: &Database, consumers: &[Consumer]) -> anyhow::Result<Routes> {
        let cache = consumers
            .iter()
            .find(|known| known.name() == users::CONSUMER);
        let cache = cache.context("the consumer that keeps the cache of users is missing")?;
        let user_api = self.user_api()?;
        Ok(http::routes(
            db.clone(),
            user_api,
            cache.clone(),
            self.feed_tail,
        ))
    }
}

impl Config {
    fn users_url(&self) -> anyhow::Result<BaseUrl> {
        self.users_url.read("--users-url")
    }

    /// The API of user-service. Without a token it is called without.
    fn user_api(&self) -> anyhow::Result<UserApi> {
        let token = Token::from_env(USERS_READ_TOKEN).ok();
        let (limits, clock) = (Limits::default(), Arc::new(System));
        Ok(UserApi::new(self.users_url()?, token, limits, clock)?)
    }

    /// user-service as the producer of snapshots. Without a token the cache has the stream alone.
    fn users(&self) -> anyhow::Result<Option<Arc<dyn Producer>>> {
        let url = self.users_url()?;
        Ok(match Token::from_env(USERS_READ_TOKEN) {
            Ok(token) => Some(Arc::new(HttpProducer::new(url, token, USERS_READ_TOKEN)?)),
            Err(cure) => {
                tracing::warn!(%cure, "user-service will refuse questions about users and requests for snapshots");
                None
            }
        })
    }
}

/// How the database is opened, without its keys.
pub fn database() -> Options {
    Options::new(ABOUT.name, ABOUT.stream, MIGRATIONS).fold(events::fold())
}

//! What can be set about this service, and what is fixed.

use std::sync::Arc;

use clap::Parser;
use event_schema::OrderEvent;
use relay::{Consumer, Database, Options, Producer};
use service_kit::{About, BaseUrl, CommonArgs, HttpProducer, Program, Routes, Token, Veiled};

use crate::cache::users;
use crate::user_api::UserApi;
use crate::{MIGRATIONS, events, http, store};

pub const ABOUT: About = About {
    name: "orders-service",
    listen: "127.0.0.1:7102",
    database: "orders-service.db",
    password_env: "FREEHOLD_ORDERS_PASSWORD",
    inbox: "_INBOX_orders",
    read_token_env: "FREEHOLD_ORDERS_READ_TOKEN",
    stream: OrderEvent::STREAM,
    readers: &[], // nobody yet
    share: store::share,
    has_keys: false,
};

/// The token that user-service wants of this service.
const USERS_READ_TOKEN: &str = "FREEHOLD_USERS_READ_TOKEN";

/// Owns orders: places and shows them over HTTP, tells the other services through stream ORDERS, and keeps a cache of
/// users from stream USERS.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub common: CommonArgs,

    /// Where user-service answers HTTP, to the token in FREEHOLD_USERS_READ_TOKEN. Asked once, for at most 2 s, when an order
    /// names a user who is not in the cache; and for a snapshot, when the cache cannot follow the stream any more
    #[arg(
        long,
        env = "FREEHOLD_USERS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:7101",
        hide_env_values = true
    )]
    pub users_url: Veiled,
}

impl Program for Config {
    const ABOUT: About = ABOUT;

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn options(&self) -> Options {
        database()
    }

    fn consumers(&self) -> anyhow::Result<Vec<Consumer>> {
        Ok(vec![users::consumer(self.users()?)])
    }

    fn routes(&self, db: &Database) -> anyhow::Result<Routes> {
        let token = Token::from_env(USERS_READ_TOKEN).ok(); // `users` has told what to set
        let user_api = UserApi::new(self.users_url()?, token)?;
        Ok(http::routes(db.clone(), user_api))
    }
}

impl Config {
    fn users_url(&self) -> anyhow::Result<BaseUrl> {
        self.users_url.read("--users-url")
    }

    /// user-service as a producer. Without a token the cache goes on as long as the stream does.
    fn users(&self) -> anyhow::Result<Option<Arc<dyn Producer>>> {
        let url = self.users_url()?;
        Ok(match Token::from_env(USERS_READ_TOKEN) {
            Ok(token) => Some(Arc::new(HttpProducer::new(url, token, USERS_READ_TOKEN)?)),
            Err(cure) => {
                tracing::warn!(%cure, "user-service cannot be asked, neither for users nor for snapshots");
                None
            }
        })
    }
}

/// What the database is for.
pub fn database() -> Options {
    Options::new(ABOUT.name, ABOUT.stream, MIGRATIONS).fold(events::fold())
}

//! What can be set about this service, and what is fixed.

use clap::Parser;
use event_schema::OrderEvent;
use relay::Options;
use service_kit::{About, CommonArgs, Veiled};

use crate::MIGRATIONS;

pub const ABOUT: About = About {
    name: "orders-service",
    listen: "127.0.0.1:7102",
    database: "orders-service.db",
    password_env: "FREEHOLD_ORDERS_PASSWORD",
    inbox: "_INBOX_orders",
};

/// Who may read stream ORDERS: nobody yet.
pub const READERS: &[&str] = &[];

/// Owns orders: places and shows them over HTTP, tells the other services through stream ORDERS, and keeps a cache of
/// users from stream USERS.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub common: CommonArgs,

    /// Where user-service answers HTTP. Asked once, for at most 2 s, when an order names a user who is not in the cache
    #[arg(
        long,
        env = "FREEHOLD_USERS_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:7101",
        hide_env_values = true
    )]
    pub users_url: Veiled,
}

/// What the database is for.
pub fn database() -> Options {
    Options::new(ABOUT.name, OrderEvent::STREAM, MIGRATIONS)
}

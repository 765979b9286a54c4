//! What can be set about this service, and what is fixed.

use clap::Parser;
use event_schema::UserEvent;
use relay::Options;
use service_kit::{About, CommonArgs};

use crate::MIGRATIONS;

pub const ABOUT: About = About {
    name: "user-service",
    listen: "127.0.0.1:7101",
    database: "user-service.db",
    password_env: "FREEHOLD_USERS_PASSWORD",
    inbox: "_INBOX_users",
};

/// Who may read stream USERS: for each a consumer is made at the broker, which nats.conf lets only that reader use.
pub const READERS: &[&str] = &["orders-user-cache"];

/// Owns users: registers, changes and deletes them over HTTP, and tells the other services through stream USERS.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub common: CommonArgs,
}

/// What the database is for.
pub fn database() -> Options {
    Options::new(ABOUT.name, UserEvent::STREAM, MIGRATIONS)
}

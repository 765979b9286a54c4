//! What can be set about this service, and what is fixed.

use std::path::PathBuf;

use clap::Parser;
use event_schema::{Event, UserEvent};
use relay::{Consumer, Database, Options};
use service_kit::Routes;
use service_program::{About, CommonArgs, Program};

use crate::{MIGRATIONS, events, http, store};

/// Owns users: registers, changes and deletes them over HTTP, and publishes the changes as stream USERS.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub common: CommonArgs,

    /// The keys that seal e-mail addresses in events; created if missing. Keep a copy of it, apart from the backups of the
    /// database [default: beside the database, with .keys after its name]
    #[arg(long, env = "FREEHOLD_USERS_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
}

impl Program for Config {
    const ABOUT: About = About {
        name: "user-service",
        listen: "127.0.0.1:7101",
        database: "user-service.db",
        password_env: "FREEHOLD_USERS_PASSWORD",
        inbox: "_INBOX_users",
        read_token_env: "FREEHOLD_USERS_READ_TOKEN",
        stream: UserEvent::STREAM,
        share: store::share,
        has_keys: true,
    };

    fn common(&self) -> &CommonArgs {
        &self.common
    }

    fn options(&self) -> Options {
        database()
    }

    fn keys(&self) -> Option<PathBuf> {
        Some(self.common.keys(self.keys.as_deref()))
    }

    fn routes(&self, db: &Database, _consumers: &[Consumer]) -> anyhow::Result<Routes> {
        Ok(http::routes(db.clone()))
    }
}

/// The service's database, without its keys.
pub fn database() -> Options {
    let options = Options::new(Config::ABOUT.name, UserEvent::STREAM, MIGRATIONS);
    options.fold(events::fold()).fill(store::fill_mailboxes)
}

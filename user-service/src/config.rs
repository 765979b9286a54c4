//! What can be set about this service, and what is fixed.

use std::path::{Path, PathBuf};

use clap::Parser;
use event_schema::UserEvent;
use relay::{Database, Options};
use service_kit::{About, CommonArgs, Program, Routes};

use crate::{MIGRATIONS, events, http, store};

pub const ABOUT: About = About {
    name: "user-service",
    listen: "127.0.0.1:7101",
    database: "user-service.db",
    password_env: "FREEHOLD_USERS_PASSWORD",
    inbox: "_INBOX_users",
    read_token_env: "FREEHOLD_USERS_READ_TOKEN",
    stream: UserEvent::STREAM,
    readers: &["orders-user-cache"],
    share: store::share,
    has_keys: true,
};

/// Owns users: registers, changes and deletes them over HTTP, and tells the other services through stream USERS.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Config {
    #[command(flatten)]
    pub common: CommonArgs,

    /// The keys that seal e-mail addresses in events; made when it does not exist. Keep a copy of it, apart from those of
    /// the database [default: beside the database, with .keys after its name]
    #[arg(long, env = "FREEHOLD_USERS_KEYS", value_name = "FILE")]
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
        let keys = self.keys.clone();
        Some(keys.unwrap_or_else(|| beside(&self.common.database)))
    }

    fn routes(&self, db: &Database) -> anyhow::Result<Routes> {
        Ok(http::routes(db.clone()))
    }
}

/// `users.db` and its `users.db.keys`: beside the file itself, where a link leads to it.
fn beside(database: &Path) -> PathBuf {
    let path = database.canonicalize();
    let mut path = path
        .unwrap_or_else(|_| database.to_owned())
        .into_os_string();
    path.push(".keys");
    path.into()
}

/// What the database is for, without its keys.
pub fn database() -> Options {
    Options::new(ABOUT.name, ABOUT.stream, MIGRATIONS).fold(events::fold())
}

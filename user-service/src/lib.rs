#![doc = include_str!("../README.md")]

pub mod domain;
pub mod events;
pub mod http;
pub mod store;

use event_schema::UserEvent;
use service_program::Service;

/// The service, declared: serving and every command use this.
pub fn service() -> Service {
    Service::new("user-service", 7101)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Owns users: registers, shows, changes and deletes them, and publishes the changes as stream USERS. Operators may do everything; other services may read.")
        .tables(MIGRATIONS)
        .emits::<UserEvent>(events::fold())
        .fill(store::fill_mailboxes)
        .shares(store::share)
        .sealed()
        .routes(|app| Ok(http::routes(app.db.clone())))
}

/// The tables of this service. Numbered, and final once released.
pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_users.sql"),
    service_kit::IDEMPOTENCY_MIGRATION, // 0002
    include_str!("../migrations/0003_sequences.sql"),
    include_str!("../migrations/0004_mailboxes.sql"),
    service_kit::IDEMPOTENCY_AGES_MIGRATION, // 0005
];

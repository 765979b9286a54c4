//! Owns {{project-name}}: the only writer of stream {{project-name | shouty_snake_case}}. Follows {{follows | shouty_snake_case}}: it keeps what it needs of each {{followed}}, and
//! records its first {{item}}.

pub mod events;
pub mod http;
pub mod store;

use {{followed_crate | snake_case}}::{{followed_event}};
use service_program::Service;
use {{project-name | snake_case}}_events::{{item | pascal_case}}Event;

/// The service, declared: serving and every command use this.
pub fn service() -> Service {
    Service::new("{{project-name}}-service", {{port}})
        .version(env!("CARGO_PKG_VERSION"))
        .about("Owns {{project-name}}: records and shows them, and publishes them as stream {{project-name | shouty_snake_case}}. Operators may do everything; other services may read.")
        .tables(MIGRATIONS)
        .emits::<{{item | pascal_case}}Event>(events::fold())
        .follows(events::{{followed | snake_case}}_cache())
        .follows(events::first_{{project-name | snake_case}}())
        .owner::<{{followed_event}}>({{followed_port}})
        .routes(|app| Ok(http::routes(app.db.clone())))
}

/// The tables of this service. Numbered, and final once released.
pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_tables.sql"),
    service_kit::IDEMPOTENCY_MIGRATION,      // 0002
    service_kit::IDEMPOTENCY_AGES_MIGRATION, // 0003
];

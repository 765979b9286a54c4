#![doc = include_str!("../README.md")]

pub mod access;
pub mod cache;
pub mod codes;
pub mod composition;
pub mod domain;
pub mod events;
mod hashes;
pub mod http;
mod problems;
pub mod reactions;
pub mod settings;
pub mod store;
pub mod sync;
pub mod user_api;

use event_schema::{OrderEvent, UserEvent};
use service_program::Service;

use crate::access::Devices;
use crate::cache::users;
use crate::reactions::deleted_users;
use crate::settings::Settings;

/// The service, declared: serving and every command use this.
pub fn service() -> Service<Settings> {
    Service::with_settings("orders-service", 7102)
        .version(env!("CARGO_PKG_VERSION"))
        .about("Owns orders, their delivery and the drivers: places, assigns, cancels and shows orders, judges the intents of drivers' devices, and emits the events of stream ORDERS. Operators may do everything except what only a device may do, other services may read orders, and a device reaches the deliveries of its own driver.")
        .tables(MIGRATIONS)
        .emits::<OrderEvent>(events::fold())
        .shares(store::orders::share)
        .sealed()
        .follows(users::consumer())
        .follows(deleted_users::consumer())
        .owner::<UserEvent>(7101)
        .tokens(Devices::of)
        .routes(settings::routes)
}

/// The tables of this service. Numbered, and final once released.
pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_orders.sql"),
    service_kit::IDEMPOTENCY_MIGRATION, // 0002
    include_str!("../migrations/0003_deliveries.sql"),
    include_str!("../migrations/0004_device_tokens.sql"),
    include_str!("../migrations/0005_sequences_and_budgets.sql"),
    include_str!("../migrations/0006_code_uses.sql"),
    include_str!("../migrations/0007_refusals_of_an_order.sql"),
    service_kit::IDEMPOTENCY_AGES_MIGRATION, // 0008
];

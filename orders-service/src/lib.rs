#![doc = include_str!("../README.md")]

pub mod access;
pub mod cache;
pub mod codes;
pub mod composition;
pub mod config;
pub mod domain;
pub mod events;
mod hashes;
pub mod http;
mod problems;
pub mod reactions;
pub mod store;
pub mod sync;
pub mod user_api;

pub const NAME: &str = "orders-service";

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

#![doc = include_str!("../README.md")]

pub mod config;
pub mod domain;
pub mod events;
pub mod http;
pub mod store;

/// The tables of this service. Numbered, and final once released.
pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_users.sql"),
    service_kit::IDEMPOTENCY_MIGRATION, // 0002
    include_str!("../migrations/0003_sequences.sql"),
    include_str!("../migrations/0004_mailboxes.sql"),
    service_kit::IDEMPOTENCY_AGES_MIGRATION, // 0005
];

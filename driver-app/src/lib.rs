#![doc = include_str!("../README.md")]

pub mod config;
pub mod device;
pub mod domain;
pub mod http;
pub mod owner_api;
pub mod status;
pub mod store;
pub mod sync;

/// The tables of this device. Numbered, and final once released.
pub const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_device.sql"),
    include_str!("../migrations/0002_revoked.sql"),
];

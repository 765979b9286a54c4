//! Reactions: this service emits events because of another service's events.

pub mod deleted_users;

//! What this service does because of another service's events: it tells its own.

pub mod deleted_users;

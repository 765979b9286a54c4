//! user-service in one process, on a real file, without a broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod http;
mod store;
mod world;

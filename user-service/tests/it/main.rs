//! user-service on a real file, without a broker: in one process with its tests, and as the program it is.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod http;
mod process;
mod store;
mod world;

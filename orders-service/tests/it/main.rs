//! orders-service in one process, on a real file, beside a fake user-service and without a broker.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cache;
mod http;
mod process;
mod store;
mod world;

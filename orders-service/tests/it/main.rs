//! orders-service in one process, on a real file, beside a fake user-service and without a broker.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its seed"
)]

mod cache;
mod command;
mod composition;
mod fold;
mod http;
mod owner;
mod process;
mod promises;
mod store;
mod world;

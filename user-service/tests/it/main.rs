//! user-service on a real file, without a broker: inside the test process, and as a process of its own.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its seed"
)]

mod command;
mod fold;
mod http;
mod process;
mod store;
mod world;

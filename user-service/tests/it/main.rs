//! user-service on a real file, without a broker: in one process with its tests, and as the program it is.

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

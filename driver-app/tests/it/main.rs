//! driver-app in one process, on a real file, beside an orders-service that does as it is told.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its seed"
)]

mod api;
mod conflicts;
mod enrolment;
mod feed;
mod forks;
mod offline;
mod owner;
mod process;
mod upload;
mod walk;
mod world;

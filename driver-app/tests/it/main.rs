//! driver-app in the test process, on a real file, with a scripted orders-service.

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

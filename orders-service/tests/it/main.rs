//! orders-service in one process, on a real file, beside a fake user-service and without a broker.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its seed"
)]

mod cache;
mod command;
mod composition;
mod decisions;
mod drivers;
mod enrolment;
mod feed;
mod fold;
mod history;
mod http;
mod intents;
mod lists;
mod lives;
mod office;
mod owner;
mod process;
mod promises;
mod reactions;
mod refusals;
mod restore;
mod store;
mod users;
mod world;

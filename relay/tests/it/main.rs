//! The library over real files and the in-memory broker: what it refuses, what it survives, what it never does.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and prints its seed"
)]

mod backups;
mod conformance;
mod consumer;
mod database;
mod dead_letters;
mod decisions;
mod disk;
mod forks;
mod marks;
mod outbox;
mod publishing;
mod reactions;
mod reconciliation;
mod replay;
mod restores;
mod retention;
mod sealed;
mod snapshots;
mod starts;
mod support;
mod traces;
mod verifies;

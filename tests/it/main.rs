//! End to end: a real broker, the real services, real files, real kills.

#![expect(
    clippy::print_stdout,
    reason = "a test prints its seed and what it counted"
)]

mod applied;
mod broker;
mod databases;
mod disk;
mod guard;
mod hostile;
mod house;
mod kills;
mod logs;
mod lost_acks;
mod old_streams;
mod operators;
mod owner;
mod poison;
mod power_cuts;
mod rivals;
mod rotten_files;
mod starts;
mod stores;
mod story;
mod wipes;
mod world;

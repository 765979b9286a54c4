//! End to end: a real broker, the real services, real files, real kills.

#![expect(
    clippy::print_stdout,
    reason = "a test prints its seed and what it counted"
)]

mod broker;
mod disk;
mod guard;
mod hostile;
mod house;
mod kills;
mod logs;
mod old_streams;
mod owner;
mod poison;
mod rivals;
mod starts;
mod story;
mod wipes;
mod world;

//! The whole system on one machine: broker, services and two drivers' devices, with simulated customers, a dispatcher and
//! drivers. `cargo xtask up` runs [`Up`], `cargo xtask reset` runs [`Reset`].

mod commands;
mod console;
mod data_dir;
mod describe;
mod driver;
mod enrol;
mod network;
mod options;
mod plan;
mod reset;
mod scripts;
mod signals;
mod simulation;
mod status;
mod supervise;
mod system;
mod up;
mod with;

pub use options::Up;
pub use reset::Reset;

//! For tests of the library and of its users: a broker in memory with seeded faults, the suite that every log passes, and
//! events of any type.

mod any;
pub mod conformance;
pub mod memory;

pub use any::AnyEvent;

//! For tests of the library and of its users: a broker in memory with seeded faults, and the suite that every log passes.

pub mod conformance;
pub mod memory;

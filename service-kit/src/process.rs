//! A program as a process: what it needs of the machine, and what it prints and logs.

pub mod machine;
pub mod output;

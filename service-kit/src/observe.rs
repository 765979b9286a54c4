//! What a program says of itself: lines, figures, and which request a line belongs to.

pub(crate) mod logs;
pub(crate) mod monitor;
pub(crate) mod output;
pub(crate) mod sampled;
pub mod trace;

pub(crate) use monitor::Monitor;

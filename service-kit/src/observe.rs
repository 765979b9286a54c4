//! What a service tells about itself: its metrics, its request log, and which request a line belongs to.

pub(crate) mod monitor;
pub(crate) mod sampled;
pub mod trace;

pub(crate) use monitor::Monitor;

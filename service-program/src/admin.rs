//! The operator's commands, and the socket through which they reach the running service.

pub(crate) mod api;
pub(crate) mod command;
pub(crate) mod setup;
pub(crate) mod socket;

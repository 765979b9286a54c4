//! The operator's commands, and how they speak with the running service.

pub(crate) mod command;
pub(crate) mod door;
pub(crate) mod operator_api;

//! A program as a process: its files, its logs, which signals stop it, how it ends.

pub(crate) mod exit;
pub(crate) mod files;
pub(crate) mod logs;
pub(crate) mod signals;

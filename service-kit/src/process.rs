//! A program as a process: what it needs of the machine, what it prints and logs, which signals stop it, how it ends.

pub(crate) mod exit;
pub(crate) mod files;
pub(crate) mod logs;
pub(crate) mod machine;
pub(crate) mod output;
pub(crate) mod signals;

#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! Each stands only on those before it: `process` (files, logs, signals, exit codes), `settings`, `admin` (the commands, and the
//! socket through which they reach the running service), `program`.

#![warn(missing_docs, clippy::missing_errors_doc)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod admin;
mod process;
mod program;
mod settings;

pub use process::exit::{Outcome, on_disk_failure, or_end, run};
pub use process::files::keep_files_private;
pub use process::logs::start_logs;
pub use process::signals::stop_on_signal;
pub use program::parts::Parts;
#[cfg(feature = "testing")]
pub use program::testing;
pub use program::{App, Service};
pub use settings::Loopback;
pub use settings::owners::Owner;
pub use settings::redacted::Redacted;

#![doc = include_str!("../README.md")]

mod api;
mod args;
pub mod codes;
mod extract;
mod files;
mod health;
mod host;
mod logs;
mod monitor;
mod page;
mod problem;
mod row;
mod server;
mod service;
mod signals;
#[cfg(feature = "testing")]
pub mod testing;
mod version;

pub use api::{MAX_BODY_BYTES, MAX_REQUEST_TIME, api};
pub use args::{About, CommonArgs, Loopback, Veiled, parse};
pub use extract::{Json, MAX_BODY_TIME, Path, Query, present};
pub use files::keep_files_private;
pub use logs::start_logs;
pub use monitor::Monitor;
pub use page::{Cursor, Limit, Page};
pub use problem::{Code, Problem};
pub use row::parsed;
pub use server::{MAX_CONNECTIONS, MAX_DRAIN_TIME, MAX_HEADER_BYTES, MAX_HEADER_TIME};
pub use service::{Service, exit};
pub use signals::stop_on_signal;
pub use version::{ETag, IfMatch, VersionMismatch};

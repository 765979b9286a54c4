#![doc = include_str!("../README.md")]

mod access;
mod answers;
mod api;
mod args;
mod base_url;
mod bearer;
mod causal;
pub mod codes;
mod command;
mod connections;
mod docs;
mod door;
mod exit;
mod extract;
mod files;
mod health;
mod host;
mod idempotency;
mod limits;
mod logs;
mod machine;
mod monitor;
mod openapi;
mod operator_api;
mod output;
mod page;
mod patient;
mod problem;
mod producer;
mod program;
mod reply;
mod routes;
mod row;
mod sampled;
mod server;
mod service;
mod signals;
#[cfg(feature = "testing")]
pub mod testing;
pub mod trace;
mod version;

pub use access::{
    Access, Caller, Device, Enrolled, InvalidHash, NewToken, Operator, OtherService, Reader,
    TokenHash,
};
pub use answers::MAX_SNAPSHOTS;
pub use api::{MAX_BODY_BYTES, MAX_REQUEST_TIME, api};
pub use args::{About, CommonArgs, Days, Loopback, Veiled};
pub use base_url::{BaseUrl, http_client};
pub use bearer::Token;
pub use causal::{DEFAULT_WAIT, MAX_WAIT};
pub use exit::{Outcome, on_disk_failure, or_end, run};
pub use extract::{Json, MAX_BODY_TIME, Path, Query, present};
pub use files::keep_files_private;
pub use idempotency::{
    IDEMPOTENCY_AGES_MIGRATION, IDEMPOTENCY_MIGRATION, Idempotent, MAX_KEPT_REPLIES,
    MAX_KEPT_REPLY_BYTES, MAX_KEY_CHARACTERS, Once, REPLIES_KEPT_FOR, Settled,
};
pub use limits::{Limits, MAX_UNDER_WAY_OF_DEVICE};
pub use logs::start_logs;
pub use machine::{check_clock, check_machine, max_connections};
pub use monitor::Monitor;
pub use page::{Cursor, Limit, Page};
pub use patient::{MAX_STALL_TIME, MIN_TAKEN_BYTES};
pub use problem::{Code, Problem};
pub use producer::HttpProducer;
pub use program::{Program, main};
pub use reply::Reply;
pub use routes::Routes;
pub use row::parsed;
pub use sampled::may_log;
pub use server::{MAX_CONNECTIONS, MAX_DRAIN_TIME, MAX_HEADER_BYTES, MAX_HEADER_TIME, Stopping};
pub use service::Service;
pub use signals::stop_on_signal;
pub use utoipa_axum::routes;
pub use version::{ETag, IfMatch, MustMatch};

/// For [`problem_codes!`], whose users need not know axum.
#[doc(hidden)]
pub use axum::http::StatusCode as __StatusCode;

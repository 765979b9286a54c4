#![doc = include_str!("../README.md")]
//!
//! # Rooms
//!
//! Each stands only on those before it: `process` (the machine, output), `observe` (metrics, request log, traces), `http` (server,
//! extractors, problems), `auth`, `causal`, `idempotency`, `snapshot`, `api` (the layers around a service's routes, and their
//! documentation).

#![warn(missing_docs, clippy::missing_errors_doc)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod api;
mod auth;
mod causal;
mod http;
mod idempotency;
mod observe;
pub mod process;
mod row;
mod snapshot;
#[cfg(feature = "testing")]
pub mod testing;

pub use api::api;
pub use auth::file as access_file;
pub use auth::{
    Access, InvalidHash, Kind, Limits, OPERATOR, Principal, SERVICE, Token, TokenHash, TokenStore,
};
pub use http::base_url::{BaseUrl, Refusal, http_client, refusal};
pub use http::codes;
pub use http::extract::{Json, Path, Query, present};
pub use http::page::{Cursor, Limit, Page};
pub use http::problem::{Code, Problem};
pub use http::reply::Reply;
pub use http::routes::Routes;
pub use http::server::{self, Stopping};
pub use http::version::{ETag, IfMatch, MustMatch};
pub use idempotency::{
    IDEMPOTENCY_AGES_MIGRATION, IDEMPOTENCY_MIGRATION, IdempotencyKey, Idempotent, Once,
};
pub use observe::monitor::Monitor;
pub use observe::sampled::may_log;
pub use observe::trace;
pub use process::machine::max_connections;
pub use row::parsed;
pub use snapshot::answers::snapshot_routes;
pub use snapshot::producer::HttpProducer;
pub use utoipa_axum::routes;

/// What a request can rely on.
pub mod limits {
    pub use crate::api::MAX_REQUEST_TIME;
    pub use crate::causal::{DEFAULT_WAIT, MAX_WAIT};
    pub use crate::http::extract::{MAX_BODY_BYTES, MAX_BODY_TIME};
    pub use crate::http::patient::{MAX_STALL_TIME, MIN_TAKEN_BYTES};
    pub use crate::http::server::{MAX_DRAIN_TIME, MAX_HEADER_BYTES, MAX_HEADER_TIME};
    pub use crate::idempotency::{MAX_KEPT_REPLIES, MAX_KEPT_REPLY_BYTES};
    pub use crate::idempotency::{MAX_KEY_CHARACTERS, REPLIES_KEPT_FOR};
    pub use crate::process::machine::MAX_CONNECTIONS;
    pub use crate::snapshot::answers::MAX_SNAPSHOTS;
}

/// For [`problem_codes!`], whose users need not know axum.
#[doc(hidden)]
pub use axum::http::StatusCode as __StatusCode;

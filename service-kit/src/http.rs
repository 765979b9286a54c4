//! HTTP as every service of ours speaks it: the server, what handlers take and answer, refusals in one shape.

pub(crate) mod base_url;
pub mod codes;
pub(crate) mod connections;
pub(crate) mod extract;
pub(crate) mod host;
pub(crate) mod page;
pub(crate) mod patient;
pub(crate) mod problem;
pub(crate) mod reply;
pub(crate) mod routes;
pub mod server;
pub(crate) mod version;

pub(crate) use extract::{Json, Path, Query};
pub(crate) use problem::{Code, Problem, ProblemDocument};
pub(crate) use reply::Reply;
pub(crate) use routes::Routes;
pub(crate) use version::ETag;

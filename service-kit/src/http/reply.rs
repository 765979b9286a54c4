//! The reply to a write: created inside the transaction, as bytes, so that it can be stored and sent again.

use std::fmt::Display;

use axum::body::Bytes;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::http::ETag;

/// A successful answer to a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    /// 201: a new resource at `location`.
    pub fn created(location: &str, etag: ETag<impl Display>, view: &impl Serialize) -> Self {
        let location = HeaderValue::try_from(location).expect("a path of our own makes a header");
        Self::json(StatusCode::CREATED, view)
            .with(LOCATION, location)
            .tagged(etag)
    }

    /// 200: the present state.
    pub fn ok(etag: ETag<impl Display>, view: &impl Serialize) -> Self {
        Self::json(StatusCode::OK, view).tagged(etag)
    }

    /// Any other success with a body.
    pub fn json(status: StatusCode, view: &impl Serialize) -> Self {
        let body = serde_json::to_vec(view).expect("views of plain types always serialize");
        let json = HeaderValue::from_static("application/json");
        let reply = Self {
            status,
            headers: HeaderMap::new(),
            body: body.into(),
        };
        reply.with(CONTENT_TYPE, json)
    }

    /// Sets a header.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    fn tagged(mut self, etag: ETag<impl Display>) -> Self {
        self.headers.insert(ETAG, etag.header());
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, self.headers, self.body).into_response()
    }
}

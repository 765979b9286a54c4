//! The registry of problem codes that every service can answer. A service keeps its own beside its routes.
//!
//! A name is part of the API: it may be joined by others, never renamed or given another meaning.

use axum::http::StatusCode as S;

use crate::problem::Code;

// The request is not understood.

pub const MALFORMED_JSON: Code =
    Code::new(S::BAD_REQUEST, "malformed_json", "The body is not JSON");
pub const INVALID_BODY: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_body",
    "The body does not have the expected shape",
);
pub const UNSUPPORTED_MEDIA_TYPE: Code = Code::new(
    S::UNSUPPORTED_MEDIA_TYPE,
    "unsupported_media_type",
    "The body is not labelled as plain JSON",
);
pub const BODY_TOO_LARGE: Code = Code::new(
    S::PAYLOAD_TOO_LARGE,
    "body_too_large",
    "The body is too large",
);
pub const BODY_TOO_SLOW: Code = Code::new(
    S::REQUEST_TIMEOUT,
    "body_too_slow",
    "The body did not arrive in time",
);
pub const INVALID_ID: Code = Code::new(S::BAD_REQUEST, "invalid_id", "The path holds no valid id");
pub const INVALID_QUERY: Code = Code::new(
    S::BAD_REQUEST,
    "invalid_query",
    "The query string is not valid",
);
pub const INVALID_IF_MATCH: Code = Code::new(
    S::BAD_REQUEST,
    "invalid_if_match",
    "The If-Match header is not valid",
);
pub const INVALID_IDEMPOTENCY_KEY: Code = Code::new(
    S::BAD_REQUEST,
    "invalid_idempotency_key",
    "The Idempotency-Key header is not valid",
);
pub const INVALID_WAIT_FOR: Code = Code::new(
    S::BAD_REQUEST,
    "invalid_wait_for",
    "What the request wants to wait for is not valid",
);
pub const UNKNOWN_ROUTE: Code = Code::new(
    S::NOT_FOUND,
    "unknown_route",
    "There is nothing at this path",
);
pub const METHOD_NOT_ALLOWED: Code = Code::new(
    S::METHOD_NOT_ALLOWED,
    "method_not_allowed",
    "This path does not know this method",
);
pub const FOREIGN_HOST: Code = Code::new(
    S::FORBIDDEN,
    "foreign_host",
    "The request is meant for another host",
);
pub const UNAUTHORIZED: Code = Code::new(
    S::UNAUTHORIZED,
    "unauthorized",
    "The request carries no valid token",
);

// The request is understood and does not fit what is there.

pub const CONSUMER_NOT_FOUND: Code = Code::new(
    S::NOT_FOUND,
    "consumer_not_found",
    "There is no such consumer",
);
pub const LETTER_NOT_FOUND: Code = Code::new(
    S::NOT_FOUND,
    "letter_not_found",
    "There is no such dead letter",
);
pub const NO_PRODUCER: Code = Code::new(
    S::CONFLICT,
    "no_producer",
    "The consumer has no producer to ask",
);

pub const IDEMPOTENCY_IN_FLIGHT: Code = Code::new(
    S::CONFLICT,
    "idempotency_in_flight",
    "The first request with this key is under way",
);
pub const IDEMPOTENCY_KEY_REUSED: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "idempotency_key_reused",
    "The key belongs to another request",
);

pub const VERSION_MISMATCH: Code = Code::new(
    S::PRECONDITION_FAILED,
    "version_mismatch",
    "It has changed since it was read",
);

// The service cannot answer now.

pub const BUSY: Code = Code::new(S::SERVICE_UNAVAILABLE, "busy", "The service is busy");
pub const TIMED_OUT: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "timed_out",
    "The answer took too long",
);
pub const NOT_CAUGHT_UP: Code = Code::new(
    S::GATEWAY_TIMEOUT,
    "not_caught_up",
    "The service has not come that far yet",
);
pub const WRITES_HALTED: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "writes_halted",
    "The service refuses to write",
);
pub const MUST_IMPORT: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "must_import",
    "The service must import its log first",
);
pub const SHUTTING_DOWN: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "shutting_down",
    "The service is shutting down",
);
pub const NOT_READY: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "not_ready",
    "The service is not ready",
);
pub const NOT_OPEN: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "not_open",
    "The service cannot answer for its log",
);
pub const NO_TOKEN: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "no_token",
    "The service was given no token to compare with",
);
pub const NOT_APPLIED: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "not_applied",
    "The events were not applied",
);
pub const DISK_FULL: Code = Code::new(S::INSUFFICIENT_STORAGE, "disk_full", "The disk is full");
pub const INTERNAL: Code = Code::new(S::INTERNAL_SERVER_ERROR, "internal", "The service failed");

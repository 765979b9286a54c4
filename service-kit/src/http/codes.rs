//! The registry of problem codes that every service can answer. A service keeps its own beside its routes.
//!
//! A name is part of the API: it is never renamed or given another meaning. New ones may come.

use crate::http::Code;

crate::problem_codes! {
    // The request is invalid.
    MALFORMED_JSON = BAD_REQUEST, "malformed_json", "The body is not JSON";
    INVALID_BODY = UNPROCESSABLE_ENTITY, "invalid_body", "The body does not have the expected shape";
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "The body is not labelled as plain JSON";
    BODY_TOO_LARGE = PAYLOAD_TOO_LARGE, "body_too_large", "The body is too large";
    BODY_TOO_SLOW = REQUEST_TIMEOUT, "body_too_slow", "The body did not arrive in time";
    INVALID_ID = BAD_REQUEST, "invalid_id", "The path holds no valid id";
    INVALID_QUERY = BAD_REQUEST, "invalid_query", "The query string is not valid";
    INVALID_IDEMPOTENCY_KEY = BAD_REQUEST, "invalid_idempotency_key", "The Idempotency-Key header is not valid";
    INVALID_WAIT_FOR = BAD_REQUEST, "invalid_wait_for", "What the request wants to wait for is not valid";
    INVALID_IF_MATCH = BAD_REQUEST, "invalid_if_match", "The If-Match header is not valid";
    INVALID_IF_NONE_MATCH = BAD_REQUEST, "invalid_if_none_match", "The If-None-Match header is not valid";
    UNKNOWN_ROUTE = NOT_FOUND, "unknown_route", "There is nothing at this path";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "method_not_allowed", "This path does not know this method";
    FOREIGN_HOST = FORBIDDEN, "foreign_host", "The request is meant for another host";
    FOREIGN_ORIGIN = FORBIDDEN, "foreign_origin", "The request comes from a page of another origin";
    UNAUTHORIZED = UNAUTHORIZED, "unauthorized", "The request carries no valid token";
    FORBIDDEN = FORBIDDEN, "forbidden", "This is for other callers";
    RATE_LIMITED = TOO_MANY_REQUESTS, "rate_limited", "This caller sends too many requests";

    // The request is valid but conflicts with the present state.
    CONSUMER_NOT_FOUND = NOT_FOUND, "consumer_not_found", "There is no such consumer";
    LETTER_NOT_FOUND = NOT_FOUND, "letter_not_found", "There is no such dead letter";
    NO_PRODUCER = CONFLICT, "no_producer", "The consumer has no producer to ask";
    IDEMPOTENCY_IN_FLIGHT = CONFLICT, "idempotency_in_flight", "The first request with this key is under way";
    IDEMPOTENCY_KEY_REUSED = UNPROCESSABLE_ENTITY, "idempotency_key_reused", "The key belongs to another request";
    PRECONDITION_REQUIRED = PRECONDITION_REQUIRED, "precondition_required", "The version to change must be named";
    VERSION_MISMATCH = PRECONDITION_FAILED, "version_mismatch", "It has changed since it was read";
    VERSION_MATCHES = PRECONDITION_FAILED, "version_matches", "It is at a version that If-None-Match names";

    // The service cannot answer now.
    BUSY = SERVICE_UNAVAILABLE, "busy", "The service is busy";
    NOT_CAUGHT_UP = GATEWAY_TIMEOUT, "not_caught_up", "The service has not come that far yet";
    TIMED_OUT = SERVICE_UNAVAILABLE, "timed_out", "The answer took too long";
    WRITES_HALTED = SERVICE_UNAVAILABLE, "writes_halted", "The service refuses to write";
    MUST_IMPORT = SERVICE_UNAVAILABLE, "must_import", "The service must import its log first";
    SHUTTING_DOWN = SERVICE_UNAVAILABLE, "shutting_down", "The service is shutting down";
    NOT_READY = SERVICE_UNAVAILABLE, "not_ready", "The service is not ready";
    NOT_OPEN = SERVICE_UNAVAILABLE, "not_open", "The service cannot answer for its log";
    NO_TOKEN = SERVICE_UNAVAILABLE, "no_token", "The service was given no token to compare with";
    NOT_APPLIED = SERVICE_UNAVAILABLE, "not_applied", "The events were not applied";
    DISK_FULL = INSUFFICIENT_STORAGE, "disk_full", "The disk is full";
    INTERNAL = INTERNAL_SERVER_ERROR, "internal", "The service failed";
}

/// Refusals that any request can meet.
pub(crate) const OF_ALL: [Code; 6] = [
    FOREIGN_HOST,
    FOREIGN_ORIGIN,
    RATE_LIMITED,
    TIMED_OUT,
    SHUTTING_DOWN,
    INTERNAL,
];
pub(crate) const OF_CALLERS: [Code; 2] = [UNAUTHORIZED, FORBIDDEN];
pub(crate) const OF_WAITS: [Code; 2] = [INVALID_WAIT_FOR, NOT_CAUGHT_UP];
pub(crate) const OF_BODIES: [Code; 5] = [
    MALFORMED_JSON,
    INVALID_BODY,
    UNSUPPORTED_MEDIA_TYPE,
    BODY_TOO_LARGE,
    BODY_TOO_SLOW,
];
pub(crate) const OF_IDEMPOTENCY: [Code; 3] = [
    INVALID_IDEMPOTENCY_KEY,
    IDEMPOTENCY_IN_FLIGHT,
    IDEMPOTENCY_KEY_REUSED,
];
pub(crate) const OF_WRITES: [Code; 4] = [BUSY, WRITES_HALTED, MUST_IMPORT, DISK_FULL];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_name_says_one_thing() {
        let names: HashSet<_> = ALL.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), ALL.len());
    }
}

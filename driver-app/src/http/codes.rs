//! The problem codes that only this program answers.

use axum::http::StatusCode as S;
use service_kit::Code;

pub const NOT_POSSIBLE_NOW: Code =
    Code::new(S::CONFLICT, "not_possible_now", "This cannot be done now");
pub const QUEUE_FULL: Code = Code::new(
    S::CONFLICT,
    "queue_full",
    "Too many actions wait to be sent",
);
pub const INVALID_NOTE: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_note",
    "The note is not valid",
);
pub const INVALID_PROBLEM: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_problem",
    "The problem is not a known one",
);
pub const INVALID_DECISION: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_decision",
    "The decision is not a known one",
);
pub const INVALID_CODE: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_code",
    "The code is not valid",
);
pub const UNREACHABLE: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "unreachable",
    "orders-service cannot be reached",
);

/// `delivery_not_found`
pub fn not_found(what: &str) -> Code {
    match what {
        "delivery" => Code::new(
            S::NOT_FOUND,
            "delivery_not_found",
            "There is no such delivery",
        ),
        "conflict" => Code::new(
            S::NOT_FOUND,
            "conflict_not_found",
            "There is no such conflict",
        ),
        _ => Code::new(
            S::NOT_FOUND,
            "refusal_not_found",
            "There is no such refusal",
        ),
    }
}

//! The problem codes that only this program returns.

service_kit::problem_codes! {
    NOT_POSSIBLE_NOW = CONFLICT, "not_possible_now", "This cannot be done now";
    QUEUE_FULL = CONFLICT, "queue_full", "Too many actions wait to be sent";
    DELIVERY_NOT_FOUND = NOT_FOUND, "delivery_not_found", "There is no such delivery";
    CONFLICT_NOT_FOUND = NOT_FOUND, "conflict_not_found", "There is no such conflict";
    REFUSAL_NOT_FOUND = NOT_FOUND, "refusal_not_found", "There is no such refusal";
    INVALID_NOTE = UNPROCESSABLE_ENTITY, "invalid_note", "The note is not valid";
    INVALID_PROBLEM = UNPROCESSABLE_ENTITY, "invalid_problem", "The problem is not a known one";
    INVALID_DECISION = UNPROCESSABLE_ENTITY, "invalid_decision", "The decision is not a known one";
    INVALID_CODE = UNPROCESSABLE_ENTITY, "invalid_code", "The code is not valid";
    UNREACHABLE = SERVICE_UNAVAILABLE, "unreachable", "orders-service cannot be reached";
}

//! The problem codes that only this service answers.

service_kit::problem_codes! {
    ORDER_NOT_FOUND = NOT_FOUND, "order_not_found", "There is no such order";
    INVALID_AMOUNT = UNPROCESSABLE_ENTITY, "invalid_amount", "The amount is not valid";
    INVALID_CURRENCY = UNPROCESSABLE_ENTITY, "invalid_currency", "The currency is not valid";
    UNKNOWN_USER = UNPROCESSABLE_ENTITY, "unknown_user", "There is no such user";
    USERS_UNAVAILABLE = SERVICE_UNAVAILABLE, "users_unavailable", "Users cannot be checked now";
}

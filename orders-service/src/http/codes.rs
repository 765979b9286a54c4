//! The problem codes that only this service answers.

use axum::http::StatusCode as S;
use service_kit::Code;

pub const ORDER_NOT_FOUND: Code =
    Code::new(S::NOT_FOUND, "order_not_found", "There is no such order");
pub const USER_NOT_FOUND: Code = Code::new(S::NOT_FOUND, "user_not_found", "There is no such user");
pub const INVALID_AMOUNT: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_amount",
    "The amount is not valid",
);
pub const INVALID_CURRENCY: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_currency",
    "The currency is not valid",
);
pub const UNKNOWN_USER: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "unknown_user",
    "There is no such user",
);
pub const USERS_UNAVAILABLE: Code = Code::new(
    S::SERVICE_UNAVAILABLE,
    "users_unavailable",
    "Users cannot be checked now",
);

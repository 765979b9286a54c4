//! The problem codes that only this service answers.

use axum::http::StatusCode as S;
use service_kit::Code;

pub const USER_NOT_FOUND: Code = Code::new(S::NOT_FOUND, "user_not_found", "There is no such user");
pub const EMAIL_TAKEN: Code = Code::new(S::CONFLICT, "email_taken", "The e-mail address is taken");
pub const INVALID_NAME: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_name",
    "The name is not valid",
);
pub const INVALID_EMAIL: Code = Code::new(
    S::UNPROCESSABLE_ENTITY,
    "invalid_email",
    "The e-mail address is not valid",
);

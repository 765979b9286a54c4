//! The problem codes that only this service returns.

service_kit::problem_codes! {
    USER_NOT_FOUND = NOT_FOUND, "user_not_found", "There is no such user";
    EMAIL_TAKEN = CONFLICT, "email_taken", "The e-mail address is taken";
    INVALID_NAME = UNPROCESSABLE_ENTITY, "invalid_name", "The name is not valid";
    INVALID_EMAIL = UNPROCESSABLE_ENTITY, "invalid_email", "The e-mail address is not valid";
}

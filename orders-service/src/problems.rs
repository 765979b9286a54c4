//! The problem codes of this service, and the errors of its other modules as problems.

use std::fmt::Display;

use relay::error::chain;
use service_kit::{Code, Problem};

use crate::domain::{
    DriverRevoked, InvalidAmount, InvalidCurrency, InvalidDriverName, InvalidNote, Refusal,
};
use crate::events::MakeError;
use crate::sync::UploadError;
use crate::user_api::Unavailable;

service_kit::problem_codes! {
    ORDER_NOT_FOUND = NOT_FOUND, "order_not_found", "There is no such order";
    USER_NOT_FOUND = NOT_FOUND, "user_not_found", "There is no such user";
    DRIVER_NOT_FOUND = NOT_FOUND, "driver_not_found", "There is no such driver";
    DEVICE_NOT_FOUND = NOT_FOUND, "device_not_found", "There is no such device";
    INTENT_NOT_FOUND = NOT_FOUND, "intent_not_found", "There is no such intent";
    ORDER_DELIVERED = CONFLICT, "order_delivered", "The order has been delivered";
    ORDER_CANCELLED = CONFLICT, "order_cancelled", "The order has been cancelled";
    ALREADY_ASSIGNED = CONFLICT, "already_assigned", "The driver has the order already";
    NOT_ASSIGNED = CONFLICT, "not_assigned", "No driver has the order";
    NOT_POSSIBLE = CONFLICT, "not_possible", "The order does not allow it";
    DRIVER_REVOKED = CONFLICT, "driver_revoked", "The driver was revoked";
    DEVICE_ENROLLED = CONFLICT, "device_enrolled", "A device with this id is enrolled already";
    NO_CONFLICT = CONFLICT, "no_conflict", "The intent is not in conflict";
    ALREADY_DECIDED = CONFLICT, "already_decided", "The conflict has been decided";
    CANNOT_UPHOLD = CONFLICT, "cannot_uphold", "Only a delivery can be upheld";
    INCARNATION_FORKED = CONFLICT, "incarnation_forked", "The device was copied or restored";
    REVOKED = UNAUTHORIZED, "revoked", "The driver or the device was revoked";
    INVALID_CODE = UNPROCESSABLE_ENTITY, "invalid_code", "The code is not valid";
    INVALID_NAME = UNPROCESSABLE_ENTITY, "invalid_name", "The name is not valid";
    INVALID_NOTE = UNPROCESSABLE_ENTITY, "invalid_note", "The note is not valid";
    INVALID_REASON = UNPROCESSABLE_ENTITY, "invalid_reason", "The reason is not known";
    UNKNOWN_DRIVER = UNPROCESSABLE_ENTITY, "unknown_driver", "There is no such driver";
    INVALID_AMOUNT = UNPROCESSABLE_ENTITY, "invalid_amount", "The amount is not valid";
    INVALID_CURRENCY = UNPROCESSABLE_ENTITY, "invalid_currency", "The currency is not valid";
    UNKNOWN_USER = UNPROCESSABLE_ENTITY, "unknown_user", "There is no such user";
    USERS_UNAVAILABLE = SERVICE_UNAVAILABLE, "users_unavailable", "The user cannot be checked now";
}

/// Tells a device that it was revoked, so that it deletes its deliveries.
pub fn revoked() -> Problem {
    let detail = "the driver or this device was revoked; actions that were not sent stay on the device. A device can be enrolled again, a driver cannot";
    Problem::new(REVOKED, detail)
}

/// The lookup of something by an id that a client sent.
pub fn found<T>(row: Option<T>, code: Code, what: &str, id: impl Display) -> Result<T, Problem> {
    row.ok_or_else(|| Problem::new(code, format!("there is no {what} {id}")))
}

/// Refusals of one field of a request: the error, its code, and the field.
macro_rules! field_problems {
    ($($error:ty => $code:expr, $field:literal;)+) => { $(
        impl From<$error> for Problem {
            fn from(error: $error) -> Self {
                Self::field($code, $field, error.to_string())
            }
        }
    )+ };
}

field_problems! {
    InvalidDriverName => INVALID_NAME, "name";
    InvalidNote => INVALID_NOTE, "note";
    InvalidAmount => INVALID_AMOUNT, "amount_minor";
    InvalidCurrency => INVALID_CURRENCY, "currency";
}

impl From<DriverRevoked> for Problem {
    fn from(error: DriverRevoked) -> Self {
        Self::new(DRIVER_REVOKED, error.to_string())
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::Delivered => ORDER_DELIVERED,
            Refusal::Cancelled => ORDER_CANCELLED,
            Refusal::AlreadyAssigned => ALREADY_ASSIGNED,
            Refusal::NotAssigned => NOT_ASSIGNED,
            Refusal::AnotherDriver
            | Refusal::AlreadyPickedUp
            | Refusal::NotPickedUp
            | Refusal::TooManyProblems => NOT_POSSIBLE,
        };
        Self::new(code, refusal.to_string())
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge | UploadError::OutOfOrder => Self::field(
                service_kit::codes::INVALID_BODY,
                "intents",
                error.to_string(),
            ),
            UploadError::Forked { .. } => Self::new(INCARNATION_FORKED, error.to_string()),
            UploadError::Revoked => revoked(),
            UploadError::Database(error) => error.into(),
        }
    }
}

impl From<MakeError> for Problem {
    fn from(error: MakeError) -> Self {
        Self::internal(&error)
    }
}

impl From<Unavailable> for Problem {
    fn from(error: Unavailable) -> Self {
        tracing::warn!(error = %chain(&error), "an order was refused");
        let detail = "this user is not in the cache, and user-service does not respond; try again";
        Self::new(USERS_UNAVAILABLE, detail).retry_later()
    }
}

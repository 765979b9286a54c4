//! The problem codes that only this service answers.

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
    NO_CONFLICT = CONFLICT, "no_conflict", "The intent is in no conflict";
    ALREADY_DECIDED = CONFLICT, "already_decided", "Somebody has decided already";
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
    USERS_UNAVAILABLE = SERVICE_UNAVAILABLE, "users_unavailable", "Users cannot be checked now";
}

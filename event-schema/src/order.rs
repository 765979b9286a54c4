//! The events of stream ORDERS: what orders-service publishes about its orders and their delivery.
//!
//! The events of an order, of a driver and of a refused intent are each numbered by their version: 1, 2, 3 … without a gap.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use freehold_event::events;

use crate::driver::{DeviceEnrolled, DeviceRevoked, DriverEnrolled, DriverRevoked};
use crate::ids::{DriverId, OrderId, UserId, Version};
use crate::intent::{
    ConflictDecided, IntentMisdirected, IntentRefused, IntentRefusedV2, IntentStamp,
};
use crate::word::word;

events! {
    /// A change of one order, of one driver or of one refused intent. orders-service is the only writer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum OrderEvent on "ORDERS" {
        "orders.placed.v1" => Placed(OrderPlaced) about order_id,
        "orders.assigned.v1" => Assigned(OrderAssigned) about order_id,
        "orders.released.v1" => Released(OrderReleased) about order_id,
        "orders.picked_up.v1" => PickedUp(OrderPickedUp) about order_id,
        "orders.delivered.v1" => Delivered(OrderDelivered) about order_id,
        "orders.cancelled.v1" => Cancelled(OrderCancelled) about order_id,
        "orders.problem_reported.v1" => ProblemReported(OrderProblemReported) about order_id,
        "orders.intent_refused.v2" => IntentRefusedV2(IntentRefusedV2) about intent.intent_id,
        "orders.conflict_decided.v2" => ConflictDecidedV2(ConflictDecided) about intent_id,
        "orders.driver_enrolled.v1" => DriverEnrolled(DriverEnrolled) about driver_id,
        "orders.driver_revoked.v1" => DriverRevoked(DriverRevoked) about driver_id,
        "orders.device_enrolled.v1" => DeviceEnrolled(DeviceEnrolled) about driver_id,
        "orders.device_revoked.v1" => DeviceRevoked(DeviceRevoked) about driver_id,

        // Only in older logs.
        "orders.intent_refused.v1" => IntentRefused(IntentRefused) about order_id,
        "orders.conflict_decided.v1" => ConflictDecided(ConflictDecided) about order_id,
        "orders.intent_misdirected.v1" => IntentMisdirected(IntentMisdirected) about driver_id,
    }
    each has version: Version, at_ms: Option<i64>;
}

/// A user placed an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderPlaced {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// A user of user-service.
    pub user_id: UserId,
    /// In the currency's smallest unit: 1999 is 19.99 EUR, and 1999 JPY.
    #[schemars(range(min = 1))]
    pub amount_minor: i64,
    /// Three upper-case letters, as in ISO 4217.
    #[schemars(regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
    /// Of the order, after this change.
    pub version: Version,
    /// When, as Unix time in milliseconds. Events of the first version lack it; their envelope's time is a moment later.
    #[serde(
        rename = "created_at_ms",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub at_ms: Option<i64>,
}

/// A driver is to deliver the order, in place of the one before, if there was one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderAssigned {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// The driver who was to deliver it until now, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_driver_id: Option<DriverId>,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// The order has lost its driver and waits for another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderReleased {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// The driver who was to deliver it until now.
    pub driver_id: DriverId,
    /// Why an order lost its driver.
    pub reason: ReleaseReason,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// The driver has picked the order up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderPickedUp {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
    /// What the driver's device asked for.
    pub intent: IntentStamp,
}

/// The order has reached the customer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderDelivered {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// What the driver wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
    /// What the driver's device asked for.
    pub intent: IntentStamp,
    /// The order had ended in another way, and an operator has decided that this delivery counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upheld: bool,
}

/// The order will not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderCancelled {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// Why an order will not be delivered.
    pub reason: CancelReason,
    /// The note of the person who cancelled it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// The driver has met a problem on the way. The order stays as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderProblemReported {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// What went wrong on the way.
    pub problem: ProblemKind,
    /// What the driver wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
    /// What the driver's device asked for.
    pub intent: IntentStamp,
}

word! {
    /// Why an order lost its driver.
    ReleaseReason {
        /// The driver was revoked.
        DriverRevoked = "driver_revoked",
        /// An operator took it back.
        Unassigned = "unassigned",
    }
}

word! {
    /// Why an order will not be delivered.
    CancelReason {
        /// The customer no longer wants it.
        CustomerRequest = "customer_request",
        /// It is out of stock.
        OutOfStock = "out_of_stock",
        /// It cannot be delivered.
        Undeliverable = "undeliverable",
        /// The user who placed it was deleted.
        UserDeleted = "user_deleted",
    }
}

word! {
    /// What went wrong on the way.
    ProblemKind {
        /// The door stayed closed.
        NobodyHome = "nobody_home",
        /// The address is wrong.
        WrongAddress = "wrong_address",
        /// The goods are damaged.
        Damaged = "damaged",
        /// The customer refused the order.
        Refused = "refused",
        /// Something else, which the note describes.
        Something = "other",
    }
}

/// An order as orders-service shares one in a snapshot: a line of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderSnapshot {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// A user of user-service.
    pub user_id: UserId,
    /// In the currency's smallest unit.
    #[schemars(range(min = 1))]
    pub amount_minor: i64,
    /// Three upper-case letters, as in ISO 4217.
    #[schemars(regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
    /// `placed`, `assigned`, `picked_up`, `delivered`, `cancelled`; more may come.
    pub status: String,
    /// How many changes an aggregate has seen, its creation included: 1, 2, 3 …
    pub version: Version,
    /// When it was placed, as Unix time in milliseconds.
    pub created_at_ms: i64,
    /// The driver who is to deliver it, or has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_id: Option<DriverId>,
}

impl OrderSnapshot {
    /// The name of this shape.
    pub const TYPE: &str = "orders.snapshot.v1";
}

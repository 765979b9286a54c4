//! The events of stream ORDERS: what orders-service tells the others about its orders and their delivery.
//!
//! The events of an order, of a driver and of a refused intent are each numbered by their version: 1, 2, 3 … without a gap.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::driver::{
    DeviceEnrolled, DeviceRevoked, DriverEnrolled, DriverRevoked, IntentMisdirected,
    IntentRefusedV2,
};
use crate::{DriverId, IntentId, IntentStamp, OrderId, UserId, Version};

/// A change of one order, of one driver or of one refused intent. As JSON it is its data alone: the type travels in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OrderEvent {
    Placed(OrderPlaced),
    Assigned(OrderAssigned),
    Released(OrderReleased),
    PickedUp(OrderPickedUp),
    Delivered(OrderDelivered),
    Cancelled(OrderCancelled),
    ProblemReported(OrderProblemReported),
    IntentRefusedV2(IntentRefusedV2),
    ConflictDecidedV2(ConflictDecided),
    /// Only in older logs, as the next two: it was a change of the order.
    IntentRefused(IntentRefused),
    ConflictDecided(ConflictDecided),
    IntentMisdirected(IntentMisdirected),
    DriverEnrolled(DriverEnrolled),
    DriverRevoked(DriverRevoked),
    DeviceEnrolled(DeviceEnrolled),
    DeviceRevoked(DeviceRevoked),
}

/// A user placed an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderPlaced {
    pub order_id: OrderId,
    pub user_id: UserId,
    /// In the currency's smallest unit: 1999 is 19.99 EUR, and 1999 JPY.
    #[schemars(range(min = 1))]
    pub amount_minor: i64,
    /// Three upper-case letters, as in ISO 4217.
    #[schemars(regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
    /// Of the order, after this change.
    pub version: Version,
    /// When, as Unix time in milliseconds. Events of the first program lack it; their envelope's time is a moment later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at_ms: Option<i64>,
}

/// A driver is to deliver the order. Another one before them is not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderAssigned {
    pub order_id: OrderId,
    pub driver_id: DriverId,
    /// Who was to deliver it until now, if somebody was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_driver_id: Option<DriverId>,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// No driver is to deliver the order any more: it waits for another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderReleased {
    pub order_id: OrderId,
    /// Who was to deliver it until now.
    pub driver_id: DriverId,
    pub reason: ReleaseReason,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// The driver has the order with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderPickedUp {
    pub order_id: OrderId,
    pub driver_id: DriverId,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
    /// What the driver's device asked for.
    pub intent: IntentStamp,
}

/// The order is where it belongs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderDelivered {
    pub order_id: OrderId,
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
    /// The order was over for another reason, and a person has decided that this delivery counts.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upheld: bool,
}

/// The order will not be delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderCancelled {
    pub order_id: OrderId,
    pub reason: CancelReason,
    /// What whoever cancelled it wrote about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of the order, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// Something stands in the delivery's way. The order goes on as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderProblemReported {
    pub order_id: OrderId,
    pub driver_id: DriverId,
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

/// A device's intent about this order had no effect. Written until `orders.intent_refused.v2`, which changes no order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntentRefused {
    pub order_id: OrderId,
    pub driver_id: DriverId,
    pub intent: IntentStamp,
    /// What the device wanted, as it said it.
    pub wanted: Wanted,
    pub verdict: RefusedVerdict,
    /// Why, as a name that does not change: `order_cancelled`.
    pub code: String,
    /// The order's status when the intent was judged.
    pub status: String,
    /// Of the order, after this change: a refusal is part of its history.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// What an intent wanted, in the words of the device that sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Wanted {
    /// `deliver`
    pub kind: String,
    /// Of the arguments.
    pub schema_version: u32,
    /// A JSON object; null where they were too long to be kept.
    pub arguments: serde_json::Value,
    /// The order's version that the driver had seen.
    pub base_version: Version,
}

/// A driver or an operator has decided what becomes of an intent that was in conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConflictDecided {
    pub order_id: OrderId,
    /// The intent in conflict.
    pub intent_id: IntentId,
    pub decision: Decision,
    pub by: DecidedBy,
    /// Of the intent in conflict, after this change. In version 1 of this type: of the order.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
    /// The driver's decision is an intent, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<IntentStamp>,
}

/// Words of the contract: open, since more may come. `Other` is one that this program does not know yet.
macro_rules! word {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[schemars(inline)]
        pub enum $name {
            $($(#[$of])* #[serde(rename = $text)] $variant,)+
            /// A word of a later writer.
            #[serde(untagged)]
            Other(String),
        }

        impl $name {
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }

            /// Never fails: what is not known is `Other`.
            pub fn of(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)+
                    other => Self::Other(other.to_owned()),
                }
            }
        }
    };
}
pub(crate) use word;

word! {
    /// Why an order lost its driver.
    ReleaseReason {
        /// The driver works here no more.
        DriverRevoked = "driver_revoked",
        /// An operator took it back.
        Unassigned = "unassigned",
    }
}

word! {
    /// Why an order will not be delivered.
    CancelReason {
        /// The customer does not want it any more.
        CustomerRequest = "customer_request",
        /// It cannot be had.
        OutOfStock = "out_of_stock",
        /// It cannot be brought there.
        Undeliverable = "undeliverable",
        /// The user who placed it was deleted.
        UserDeleted = "user_deleted",
    }
}

word! {
    /// What stands in a delivery's way.
    ProblemKind {
        NobodyHome = "nobody_home",
        WrongAddress = "wrong_address",
        Damaged = "damaged",
        Refused = "refused",
        Something = "other",
    }
}

word! {
    /// Why an intent had no effect.
    RefusedVerdict {
        /// Somebody else has changed the order since the driver saw it.
        Conflict = "conflict",
        /// It was never possible.
        Rejected = "rejected",
        /// What it wants is so already.
        Superseded = "superseded",
    }
}

word! {
    /// What becomes of an intent in conflict.
    Decision {
        /// The driver takes the order as it is.
        Accepted = "accepted",
        /// The driver holds to what they did; an operator has the last word.
        Insisted = "insisted",
        /// An operator lets the intent count after all.
        Upheld = "upheld",
        /// An operator leaves the order as it is.
        Dismissed = "dismissed",
    }
}

word! {
    /// Who decided.
    DecidedBy {
        Driver = "driver",
        Operator = "operator",
    }
}

/// An order as orders-service shares one in a snapshot: a line of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OrderSnapshot {
    pub order_id: OrderId,
    pub user_id: UserId,
    /// In the currency's smallest unit.
    #[schemars(range(min = 1))]
    pub amount_minor: i64,
    /// Three upper-case letters, as in ISO 4217.
    #[schemars(regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
    /// `placed`, `assigned`, `picked_up`, `delivered`, `cancelled`; more may come.
    pub status: String,
    pub version: Version,
    /// When it was placed, as Unix time in milliseconds.
    pub created_at_ms: i64,
    /// Who is to deliver it, or has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_id: Option<DriverId>,
}

impl OrderSnapshot {
    /// The name of this shape.
    pub const TYPE: &str = "orders.snapshot.v1";
}

/// Says once of each type what is the same for all.
macro_rules! types {
    ($($name:ident $constant:ident = $event_type:literal, $($aggregate:ident).+;)+) => {
        impl OrderEvent {
            $(pub const $constant: &str = $event_type;)+

            pub fn event_type(&self) -> &'static str {
                match self { $(Self::$name(_) => Self::$constant,)+ }
            }

            /// The order, the driver or the intent it is about: events of one of them are applied, or parked, in order.
            pub fn aggregate(&self) -> String {
                match self { $(Self::$name(event) => event.$($aggregate).+.to_string(),)+ }
            }

            /// Of the order, the driver or the intent, after this change.
            pub fn version(&self) -> Version {
                match self { $(Self::$name(event) => event.version,)+ }
            }

            /// Reads an event's data by its type. `None`: a type this program does not know, which is no error.
            pub fn decode(event_type: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
                Ok(Some(match event_type {
                    $(Self::$constant => Self::$name(serde_json::from_slice(data)?),)+
                    _ => return Ok(None),
                }))
            }
        }
    };
}

types! {
    Placed PLACED = "orders.placed.v1", order_id;
    Assigned ASSIGNED = "orders.assigned.v1", order_id;
    Released RELEASED = "orders.released.v1", order_id;
    PickedUp PICKED_UP = "orders.picked_up.v1", order_id;
    Delivered DELIVERED = "orders.delivered.v1", order_id;
    Cancelled CANCELLED = "orders.cancelled.v1", order_id;
    ProblemReported PROBLEM_REPORTED = "orders.problem_reported.v1", order_id;
    IntentRefusedV2 INTENT_REFUSED_V2 = "orders.intent_refused.v2", intent.intent_id;
    ConflictDecidedV2 CONFLICT_DECIDED_V2 = "orders.conflict_decided.v2", intent_id;
    IntentRefused INTENT_REFUSED = "orders.intent_refused.v1", order_id;
    ConflictDecided CONFLICT_DECIDED = "orders.conflict_decided.v1", order_id;
    IntentMisdirected INTENT_MISDIRECTED = "orders.intent_misdirected.v1", driver_id;
    DriverEnrolled DRIVER_ENROLLED = "orders.driver_enrolled.v1", driver_id;
    DriverRevoked DRIVER_REVOKED = "orders.driver_revoked.v1", driver_id;
    DeviceEnrolled DEVICE_ENROLLED = "orders.device_enrolled.v1", driver_id;
    DeviceRevoked DEVICE_REVOKED = "orders.device_revoked.v1", driver_id;
}

impl OrderEvent {
    /// The stream. orders-service is its only writer.
    pub const STREAM: &str = "ORDERS";

    /// When, as Unix time in milliseconds. The first program's orders do not say it.
    pub fn at_ms(&self) -> Option<i64> {
        match self {
            Self::Placed(event) => event.created_at_ms,
            Self::Assigned(event) => Some(event.at_ms),
            Self::Released(event) => Some(event.at_ms),
            Self::PickedUp(event) => Some(event.at_ms),
            Self::Delivered(event) => Some(event.at_ms),
            Self::Cancelled(event) => Some(event.at_ms),
            Self::ProblemReported(event) => Some(event.at_ms),
            Self::IntentRefusedV2(event) => Some(event.at_ms),
            Self::ConflictDecidedV2(event) | Self::ConflictDecided(event) => Some(event.at_ms),
            Self::IntentRefused(event) => Some(event.at_ms),
            Self::IntentMisdirected(event) => Some(event.at_ms),
            Self::DriverEnrolled(event) => Some(event.at_ms),
            Self::DriverRevoked(event) => Some(event.at_ms),
            Self::DeviceEnrolled(event) => Some(event.at_ms),
            Self::DeviceRevoked(event) => Some(event.at_ms),
        }
    }
}

//! The events of stream ORDERS that are about intents: those that had no effect, and decisions about those in conflict.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, DriverId, IncarnationId, IntentId, OrderId, Version};
use crate::word::word;

/// A device's intent had no effect. It changes neither the order nor the driver: its version is its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntentRefusedV2 {
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// Which intent of which device an event answers.
    pub intent: IntentStamp,
    /// The order's id, or the beginning of what the device believed to be one.
    pub lane: String,
    /// What the device wanted, in its own words, cut where they were too long.
    pub wanted: Wanted,
    /// Why an intent had no effect.
    pub verdict: RefusedVerdict,
    /// Why, as a name that does not change: `order_cancelled`.
    pub code: String,
    /// The order's status when the intent was judged. Missing where the driver never had such an order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Of the intent: 1. A decision about it is the next one.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A driver or an operator has decided about an intent in conflict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConflictDecided {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// The intent in conflict.
    pub intent_id: IntentId,
    /// What becomes of an intent in conflict.
    pub decision: Decision,
    /// Who decided.
    pub by: DecidedBy,
    /// Of the intent in conflict, after this change. In version 1 of this type: of the order.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
    /// Set for a driver's decision, which is an intent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<IntentStamp>,
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

/// Which intent of which device an event answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct IntentStamp {
    /// What a driver wanted once. The id stays the same however often the device sends it, so that the owner recognizes it.
    pub intent_id: IntentId,
    /// A driver's device. It draws its id itself, before it is enrolled.
    pub device_id: DeviceId,
    /// One unforked life of a device's database.
    pub incarnation: IncarnationId,
    /// Its sequence among the intents of that incarnation.
    pub seq: u64,
    /// When the driver wanted it, by the device's clock, as Unix time in milliseconds. Shown and never compared: that clock
    /// may be wrong by years.
    pub device_time_ms: i64,
}

word! {
    /// Why an intent had no effect.
    RefusedVerdict {
        /// The order has changed since the driver saw it.
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
        /// The driver insists on what they did; an operator decides.
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
        /// The driver.
        Driver = "driver",
        /// An operator of orders-service.
        Operator = "operator",
    }
}

/// A device's intent about this order had no effect. Written until `orders.intent_refused.v2`, which changes no order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntentRefused {
    /// An order of orders-service.
    pub order_id: OrderId,
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// Which intent of which device an event answers.
    pub intent: IntentStamp,
    /// What the device wanted, in its own words.
    pub wanted: Wanted,
    /// Why an intent had no effect.
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

/// A device's intent was about no order that its driver has or had. Written until `orders.intent_refused.v2`, which changes
/// no driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntentMisdirected {
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// Which intent of which device an event answers.
    pub intent: IntentStamp,
    /// The lane it came in: the order's id, as the device believed.
    pub lane: String,
    /// What the device wanted, in its own words.
    pub wanted: Wanted,
    /// Why an intent had no effect.
    pub verdict: RefusedVerdict,
    /// Why, as a name that does not change: `order_not_found`.
    pub code: String,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A refusal of the first version in the form of the second.
impl From<IntentRefused> for IntentRefusedV2 {
    fn from(of: IntentRefused) -> Self {
        Self {
            driver_id: of.driver_id,
            intent: of.intent,
            lane: of.order_id.to_string(),
            wanted: of.wanted,
            verdict: of.verdict,
            code: of.code,
            status: Some(of.status),
            version: Version::FIRST,
            at_ms: of.at_ms,
        }
    }
}

impl From<IntentMisdirected> for IntentRefusedV2 {
    fn from(of: IntentMisdirected) -> Self {
        Self {
            driver_id: of.driver_id,
            intent: of.intent,
            lane: of.lane,
            wanted: of.wanted,
            verdict: of.verdict,
            code: of.code,
            status: None,
            version: Version::FIRST,
            at_ms: of.at_ms,
        }
    }
}

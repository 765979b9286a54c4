//! The events of stream ORDERS that are about drivers, their devices and what those wanted in vain.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::order::{IntentRefused, Wanted};
use crate::{DeviceId, DriverId, IncarnationId, IntentId, RefusedVerdict, Version};

/// Somebody may deliver orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverEnrolled {
    pub driver_id: DriverId,
    /// As it was written, byte for byte.
    pub name: String,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// Somebody may not deliver orders any more. Their open orders are released beside this, each with its own event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverRevoked {
    pub driver_id: DriverId,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A device may speak for its driver. The hash of its token travels sealed, for orders-service alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceEnrolled {
    pub driver_id: DriverId,
    pub device_id: DeviceId,
    /// Until when, as Unix time in milliseconds.
    pub expires_at_ms: i64,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A device may not speak for its driver any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRevoked {
    pub driver_id: DriverId,
    pub device_id: DeviceId,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A device's intent had no effect. It changes neither the order nor the driver: its version is its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntentRefusedV2 {
    pub driver_id: DriverId,
    pub intent: IntentStamp,
    /// The order, or the beginning of what the device took for one.
    pub lane: String,
    /// What the device wanted, as it said it, as far as that is short.
    pub wanted: Wanted,
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

/// A device's intent was about no order that its driver has or had. Written until `orders.intent_refused.v2`, which changes
/// no driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct IntentMisdirected {
    pub driver_id: DriverId,
    pub intent: IntentStamp,
    /// The lane it came in: what the device took for an order.
    pub lane: String,
    /// What the device wanted, as it said it.
    pub wanted: Wanted,
    pub verdict: RefusedVerdict,
    /// Why, as a name that does not change: `order_not_found`.
    pub code: String,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// Which intent of which device an event answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct IntentStamp {
    pub intent_id: IntentId,
    pub device_id: DeviceId,
    pub incarnation: IncarnationId,
    /// Its place among the intents of that incarnation.
    pub seq: u64,
    /// When the driver wanted it by the device's clock, as Unix time in milliseconds. Said, never compared: that clock may
    /// be wrong by years.
    pub device_time_ms: i64,
}

/// A refusal of the first version, as the second says it.
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

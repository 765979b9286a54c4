//! The events of stream ORDERS that are about drivers and their devices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, DriverId, Version};

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

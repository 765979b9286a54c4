//! The events of stream ORDERS that are about drivers and their devices.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{DeviceId, DriverId, Version};

/// A driver may deliver orders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverEnrolled {
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// Byte for byte as it was entered.
    pub name: String,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A driver may no longer deliver orders. Their open orders are released with it, each in an event of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DriverRevoked {
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A device may act for its driver. The hash of its token travels sealed, for orders-service alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceEnrolled {
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// A driver's device. It draws its id itself, before it is enrolled.
    pub device_id: DeviceId,
    /// Until when, as Unix time in milliseconds.
    pub expires_at_ms: i64,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

/// A device may no longer act for its driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRevoked {
    /// A driver of orders-service.
    pub driver_id: DriverId,
    /// A driver's device. It draws its id itself, before it is enrolled.
    pub device_id: DeviceId,
    /// Of the driver, after this change.
    pub version: Version,
    /// When, by the owner's clock, as Unix time in milliseconds.
    pub at_ms: i64,
}

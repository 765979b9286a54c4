//! The events of stream ORDERS: what orders-service tells the others about its orders.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{OrderId, UserId, Version};

/// A change of one order. As JSON it is its data alone: the type travels in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum OrderEvent {
    Placed(OrderPlaced),
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
    /// `placed`; more may come.
    pub status: String,
    pub version: Version,
    /// When it was placed, as Unix time in milliseconds.
    pub created_at_ms: i64,
}

impl OrderSnapshot {
    /// The name of this shape.
    pub const TYPE: &str = "orders.snapshot.v1";
}

impl OrderEvent {
    /// The stream. orders-service is its only writer.
    pub const STREAM: &str = "ORDERS";

    pub const PLACED: &str = "orders.placed.v1";

    /// The NATS subjects of the stream: each type without its version.
    pub const SUBJECTS: [&str; 1] = ["orders.placed"];

    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Placed(_) => Self::PLACED,
        }
    }

    /// The order it is about: events of one order are applied, or parked, in order.
    pub fn aggregate(&self) -> OrderId {
        match self {
            Self::Placed(event) => event.order_id,
        }
    }

    pub fn version(&self) -> Version {
        match self {
            Self::Placed(event) => event.version,
        }
    }

    /// Reads an event's data by its type. `None`: a type this program does not know, which is no error.
    pub fn decode(event_type: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        let event = match event_type {
            Self::PLACED => Self::Placed(serde_json::from_slice(data)?),
            _ => return Ok(None),
        };
        Ok(Some(event))
    }
}

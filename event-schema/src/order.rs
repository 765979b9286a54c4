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

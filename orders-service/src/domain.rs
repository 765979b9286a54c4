//! What an order is and how it comes to be. Pure: a wish goes in, an event comes out; `store` applies it.

mod amount;
mod currency;

use std::fmt;
use std::str::FromStr;

use event_schema::{OrderEvent, OrderId, OrderPlaced, UserId, Version};

pub use amount::{Amount, InvalidAmount};
pub use currency::{Currency, InvalidCurrency};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub id: OrderId,
    pub user_id: UserId,
    pub amount: Amount,
    pub currency: Currency,
    pub status: Status,
    pub version: Version,
    /// Unix time in milliseconds.
    pub created_at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Placed,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no order has the status {0:?}")]
pub struct UnknownStatus(String);

impl Order {
    /// Whether the user exists is the caller's to know: it takes a look at the cache, or a call.
    pub fn place(
        id: OrderId,
        user_id: UserId,
        amount: Amount,
        currency: Currency,
        now_ms: i64,
    ) -> OrderEvent {
        OrderEvent::Placed(OrderPlaced {
            order_id: id,
            user_id,
            amount_minor: amount.minor(),
            currency: currency.to_string(),
            version: Version::FIRST,
            created_at_ms: Some(now_ms),
        })
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Status {
    type Err = UnknownStatus;

    fn from_str(text: &str) -> Result<Self, UnknownStatus> {
        match text {
            "placed" => Ok(Self::Placed),
            _ => Err(UnknownStatus(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placed_order_is_told_in_full() {
        let (id, user_id) = (OrderId::new(), UserId::new());
        let amount = Amount::try_from(1999).unwrap();
        let event = Order::place(id, user_id, amount, "EUR".parse().unwrap(), 7);
        let told = OrderPlaced {
            order_id: id,
            user_id,
            amount_minor: 1999,
            currency: "EUR".to_owned(),
            version: Version::FIRST,
            created_at_ms: Some(7),
        };
        assert_eq!(event, OrderEvent::Placed(told));
    }

    #[test]
    fn a_status_is_its_text() {
        assert_eq!(Status::Placed.to_string().parse(), Ok(Status::Placed));
        assert!("lost".parse::<Status>().is_err());
    }
}

//! How much an order costs.

use serde::{Deserialize, Serialize};

/// 1 to 10^12 in the currency's smallest unit. Whole numbers, since money that is a fraction loses cents; the upper
/// end is far above any order and far below what a JSON number in a browser can hold (2^53).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "i64")]
pub struct Amount(i64);

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an amount is a whole number of minor units between 1 and {}",
    Amount::MAX_MINOR
)]
pub struct InvalidAmount;

impl Amount {
    pub const MAX_MINOR: i64 = 1_000_000_000_000;

    pub fn minor(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for Amount {
    type Error = InvalidAmount;

    fn try_from(minor: i64) -> Result<Self, InvalidAmount> {
        match minor {
            1..=Self::MAX_MINOR => Ok(Self(minor)),
            _ => Err(InvalidAmount),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_costs_something_and_not_everything() {
        for minor in [1, 1999, Amount::MAX_MINOR] {
            assert_eq!(Amount::try_from(minor).map(Amount::minor), Ok(minor));
        }
        for minor in [0, -1, i64::MIN, Amount::MAX_MINOR + 1, i64::MAX] {
            assert_eq!(Amount::try_from(minor), Err(InvalidAmount), "{minor}");
        }
    }
}

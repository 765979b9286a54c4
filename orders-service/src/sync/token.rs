//! A position in a driver's feed, as opaque text that devices send back.

use std::fmt;
use std::str::FromStr;

use event_schema::{DriverId, OrderId};
use relay::event::EventId;

/// Whose feed, and up to which event. After a fork the sequence alone would name another event, so the token has its id, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedToken {
    pub driver_id: DriverId,
    pub seq: u64,
    /// None at 0.
    pub event_id: Option<EventId>,
    /// Within a snapshot: the last order that was sent.
    pub snapshot_after: Option<OrderId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("send the `next` of an earlier page")]
pub struct InvalidToken;

/// The versions of the two kinds of token.
const TAIL: &str = "f1";
const SNAPSHOT: &str = "s1";

impl fmt::Display for FeedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { driver_id, seq, .. } = self;
        let event = self.event_id.map_or("-".to_owned(), |id| id.to_string());
        match self.snapshot_after {
            None => write!(f, "{TAIL}.{driver_id}.{seq}.{event}"),
            Some(order_id) => write!(f, "{SNAPSHOT}.{driver_id}.{seq}.{event}.{order_id}"),
        }
    }
}

impl FromStr for FeedToken {
    type Err = InvalidToken;

    fn from_str(text: &str) -> Result<Self, InvalidToken> {
        let words: Vec<&str> = text.split('.').collect();
        let (driver, seq, event, after) = match words[..] {
            [TAIL, driver, seq, event] => (driver, seq, event, None),
            [SNAPSHOT, driver, seq, event, after] => (driver, seq, event, Some(after)),
            _ => return Err(InvalidToken),
        };
        Ok(Self {
            driver_id: read(driver)?,
            seq: read(seq)?,
            event_id: match event {
                "-" => None,
                event => Some(read(event)?),
            },
            snapshot_after: after.map(read).transpose()?,
        })
    }
}

fn read<T: FromStr>(word: &str) -> Result<T, InvalidToken> {
    word.parse().map_err(|_| InvalidToken)
}

#[cfg(test)]
mod tests {
    use relay::environment::System;

    use super::*;

    #[test]
    fn a_token_is_its_text_and_nothing_else_is_one() {
        for event_id in [None, Some(EventId::draw(&System))] {
            for snapshot_after in [None, Some(OrderId::new())] {
                let token = FeedToken {
                    driver_id: DriverId::new(),
                    seq: 7,
                    event_id,
                    snapshot_after,
                };
                assert_eq!(token.to_string().parse(), Ok(token));
            }
        }
        for other in [
            "",
            "f1",
            "f1.x.1.-",
            "f2.0191d1a0-0000-7000-8000-000000000000.1.-",
            "f1..1.-",
        ] {
            assert_eq!(other.parse::<FeedToken>(), Err(InvalidToken), "{other}");
        }
    }
}

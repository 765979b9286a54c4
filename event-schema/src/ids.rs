//! The names of things: one type per kind of id, and the version that counts a thing's changes.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

/// Makes one id type: a UUID that states which kind of thing it identifies.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
        )]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(
            feature = "openapi",
            schema(value_type = String, format = Uuid, example = "0191d1a0-0000-7000-8000-000000000000")
        )]
        #[serde(transparent)]
        #[schemars(inline)]
        pub struct $name(#[serde(deserialize_with = "uuid")] Uuid);

        impl $name {
            /// Draws a new id: a UUIDv7, so that ids sort by the time they were drawn.
            #[expect(clippy::new_without_default, reason = "a default that differs each time surprises")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

id! {
    /// A user of user-service.
    UserId
}

id! {
    /// An order of orders-service.
    OrderId
}

id! {
    /// A driver of orders-service.
    DriverId
}

id! {
    /// A driver's device. It draws its id itself, before it is enrolled.
    DeviceId
}

id! {
    /// What a driver wanted once. The id stays the same however often the device sends it, so that the owner recognizes it.
    IntentId
}

id! {
    /// One unforked life of a device's database.
    IncarnationId
}

/// People type ids, too: the error says what is expected, not what the UUID parser found.
fn uuid<'de, D: Deserializer<'de>>(from: D) -> Result<Uuid, D::Error> {
    struct Expected;

    impl Visitor<'_> for Expected {
        type Value = Uuid;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a UUID, such as 0191d1a0-0000-7000-8000-000000000000")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Uuid, E> {
            let refuse = |_| {
                E::custom(format_args!(
                    "an id is {}",
                    &self as &dyn serde::de::Expected
                ))
            };
            text.parse().map_err(refuse)
        }
    }

    from.deserialize_str(Expected)
}

/// How many changes an aggregate has seen, its creation included: 1, 2, 3 …
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = u64, minimum = 1, example = 2))]
#[serde(transparent)]
#[schemars(inline)]
pub struct Version(NonZeroU64);

impl Version {
    /// The version of a thing that was just made.
    pub const FIRST: Self = Self(NonZeroU64::MIN);

    /// The number: 1, 2, 3 …
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// The version after one more change.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// From a row: what has seen no change does not exist, so there is no version 0.
impl From<NonZeroU64> for Version {
    fn from(changes: NonZeroU64) -> Self {
        Self(changes)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_text() {
        let id = UserId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
        assert_eq!(serde_json::from_str(&format!("\"{id}\"")).ok(), Some(id));
        assert!("seven".parse::<UserId>().is_err());
        for other in ["\"seven\"", "7", "null"] {
            let refusal = serde_json::from_str::<UserId>(other).unwrap_err();
            assert!(refusal.to_string().contains("a UUID, such as"), "{refusal}");
        }
    }

    #[test]
    fn ids_sort_by_the_time_they_were_drawn() {
        let drawn: Vec<_> = (0..100).map(|_| OrderId::new()).collect();
        assert!(drawn.is_sorted());
    }

    #[test]
    fn versions_begin_at_one() {
        assert_eq!(Version::FIRST.get(), 1);
        assert_eq!(Version::FIRST.next().get(), 2);
        assert!(serde_json::from_str::<Version>("0").is_err());
    }
}

//! An event of any type and data, for tests that emit what no declaration allows.

use freehold_event::{Event, schemars::Schema};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

/// Emitted only: it reads as itself, whatever it is.
pub struct AnyEvent {
    event_type: String,
    aggregate: String,
    data: Box<RawValue>,
}

impl AnyEvent {
    /// An event of this type, of any stream.
    pub fn new(event_type: &str, aggregate: &str, data: &impl Serialize) -> Self {
        Self {
            event_type: event_type.to_owned(),
            aggregate: aggregate.to_owned(),
            data: to_raw_value(data).expect("data is JSON"),
        }
    }
}

impl Serialize for AnyEvent {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.data.serialize(to)
    }
}

impl Event for AnyEvent {
    const STREAM: &'static str = "";

    fn event_type(&self) -> &str {
        &self.event_type
    }

    fn aggregate(&self) -> String {
        self.aggregate.clone()
    }

    fn decode(_: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        let data: Box<RawValue> = serde_json::from_slice(data)?;
        Ok(Some(Self::new("", "", &data)))
    }

    fn schemas() -> Vec<(&'static str, Schema)> {
        Vec::new()
    }
}

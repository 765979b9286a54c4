#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;

#[doc(hidden)]
pub use {schemars, serde, serde_json};

/// An event of one stream. As JSON it is its data alone: the type travels in the envelope.
///
/// [`events!`] implements it for an enum of all events of the stream.
pub trait Event: Serialize + Sized + 'static {
    /// `USERS`. One service writes it.
    const STREAM: &'static str;

    /// `users.created.v1`: the NATS subject is the type without its version.
    fn event_type(&self) -> &str;

    /// The id of the aggregate that changed. Consumers apply or park the events of one aggregate in order.
    fn aggregate(&self) -> String;

    /// Reads an event's data by its type. `None`: this program does not know the type, which is no error.
    ///
    /// # Errors
    ///
    /// The program knows the type, and the data is not of its shape: a newer writer has broken the contract.
    fn decode(event_type: &str, data: &[u8]) -> serde_json::Result<Option<Self>>;

    /// Every type of the stream, with the JSON Schema of its data.
    fn schemas() -> Vec<(&'static str, Schema)>;
}

/// Declares the events of a stream: each type with the data it carries, and the field that holds the id of its aggregate.
/// [`Event`] follows from it.
///
/// `each has` adds a method for a field that all of the data have, in the field's type or in one that it converts into.
#[macro_export]
macro_rules! events {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident on $stream:literal $events:tt
        $(each has $($field:ident: $type:ty),+;)?
    ) => {
        $crate::__events! { $(#[$meta])* $vis $name $stream $events }
        $($($crate::__each! { $name $vis $field $type, $events })+)?
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __events {
    (
        $(#[$meta:meta])* $vis:vis $name:ident $stream:literal
        {$($(#[$about:meta])* $event_type:literal => $variant:ident($data:ty) about $($key:ident).+),+ $(,)?}
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $(
                #[doc = concat!("`", $event_type, "`")]
                #[doc = ""]
                $(#[$about])*
                $variant($data)
            ),+
        }

        impl $crate::Event for $name {
            const STREAM: &'static str = $stream;

            fn event_type(&self) -> &str {
                match self { $(Self::$variant(_) => $event_type),+ }
            }

            fn aggregate(&self) -> String {
                match self { $(Self::$variant(data) => data.$($key).+.to_string()),+ }
            }

            fn decode(event_type: &str, data: &[u8]) -> $crate::serde_json::Result<Option<Self>> {
                Ok(Some(match event_type {
                    $($event_type => Self::$variant($crate::serde_json::from_slice(data)?),)+
                    _ => return Ok(None),
                }))
            }

            fn schemas() -> Vec<(&'static str, $crate::schemars::Schema)> {
                vec![$(($event_type, $crate::schema::<$data>($event_type))),+]
            }
        }

        impl $crate::serde::Serialize for $name {
            fn serialize<S: $crate::serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(data) => $crate::serde::Serialize::serialize(data, to)),+ }
            }
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __each {
    (
        $name:ident $vis:vis $field:ident $type:ty,
        {$($(#[$about:meta])* $event_type:literal => $variant:ident($data:ty) about $($key:ident).+),+ $(,)?}
    ) => {
        impl $name {
            #[doc = concat!("`", stringify!($field), "`, which every event has.")]
            $vis fn $field(&self) -> $type {
                match self { $(Self::$variant(data) => data.$field.into()),+ }
            }
        }
    };
}

/// The JSON Schema of a type of data. Unknown fields stay allowed: a contract only grows, and a reader must not break
/// when it does.
pub fn schema<T: JsonSchema>(event_type: &str) -> Schema {
    let settings = SchemaSettings::draft2020_12();
    let mut schema = settings.into_generator().into_root_schema_for::<T>();
    schema.insert("$id".to_owned(), schema_id(event_type).into());
    schema
}

/// The URI of a type's schema.
pub fn schema_id(event_type: &str) -> String {
    format!("urn:freehold:schema:{event_type}")
}

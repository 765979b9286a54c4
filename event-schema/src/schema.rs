//! The contract in JSON Schema, for readers in other languages: one document per event type.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::{
    OrderEvent, OrderPlaced, UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserRenamed,
};

/// Every event type with the schema of its `data`. The files in `schemas/` are exactly these.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        schema::<UserCreated>(UserEvent::CREATED),
        schema::<UserRenamed>(UserEvent::RENAMED),
        schema::<UserEmailChanged>(UserEvent::EMAIL_CHANGED),
        schema::<UserDeleted>(UserEvent::DELETED),
        schema::<OrderPlaced>(OrderEvent::PLACED),
    ]
}

/// Unknown fields stay allowed: a contract only grows, and a reader must not break when it does.
fn schema<T: JsonSchema>(event_type: &'static str) -> (&'static str, Schema) {
    let mut schema = SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<T>();
    schema.insert(
        "$id".to_owned(),
        format!("urn:freehold:schema:{event_type}").into(),
    );
    (event_type, schema)
}

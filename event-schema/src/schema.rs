//! The contract in JSON Schema, for readers in other languages: one document per event type, and one per kind of
//! row in a snapshot.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};

use crate::{
    ConflictDecided, DeviceEnrolled, DeviceRevoked, DriverEnrolled, DriverRevoked,
    IntentMisdirected, IntentRefused, IntentRefusedV2, OrderAssigned, OrderCancelled,
    OrderDelivered, OrderEvent, OrderPickedUp, OrderPlaced, OrderProblemReported, OrderReleased,
    OrderSnapshot, UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserRenamed,
    UserSnapshot,
};

/// Every event type with the schema of its `data`. The files in `schemas/` are exactly these.
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        schema::<UserCreated>(UserEvent::CREATED),
        schema::<UserRenamed>(UserEvent::RENAMED),
        schema::<UserEmailChanged>(UserEvent::EMAIL_CHANGED),
        schema::<UserDeleted>(UserEvent::DELETED),
        schema::<OrderPlaced>(OrderEvent::PLACED),
        schema::<OrderAssigned>(OrderEvent::ASSIGNED),
        schema::<OrderReleased>(OrderEvent::RELEASED),
        schema::<OrderPickedUp>(OrderEvent::PICKED_UP),
        schema::<OrderDelivered>(OrderEvent::DELIVERED),
        schema::<OrderCancelled>(OrderEvent::CANCELLED),
        schema::<OrderProblemReported>(OrderEvent::PROBLEM_REPORTED),
        schema::<IntentRefusedV2>(OrderEvent::INTENT_REFUSED_V2),
        schema::<ConflictDecided>(OrderEvent::CONFLICT_DECIDED_V2),
        schema::<IntentRefused>(OrderEvent::INTENT_REFUSED),
        schema::<ConflictDecided>(OrderEvent::CONFLICT_DECIDED),
        schema::<IntentMisdirected>(OrderEvent::INTENT_MISDIRECTED),
        schema::<DriverEnrolled>(OrderEvent::DRIVER_ENROLLED),
        schema::<DriverRevoked>(OrderEvent::DRIVER_REVOKED),
        schema::<DeviceEnrolled>(OrderEvent::DEVICE_ENROLLED),
        schema::<DeviceRevoked>(OrderEvent::DEVICE_REVOKED),
    ]
}

/// Every kind of row that a service shares in a snapshot, with its schema. The files in `snapshots/schemas/` are exactly
/// these.
pub fn snapshot_schemas() -> Vec<(&'static str, Schema)> {
    vec![
        schema::<UserSnapshot>(UserSnapshot::TYPE),
        schema::<OrderSnapshot>(OrderSnapshot::TYPE),
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

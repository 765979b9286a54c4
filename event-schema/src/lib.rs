#![doc = include_str!("../README.md")]

mod driver;
mod ids;
mod note;
mod order;
mod schema;
pub mod sync;
pub mod text;
mod user;

pub use driver::{
    DeviceEnrolled, DeviceRevoked, DriverEnrolled, DriverRevoked, IntentMisdirected,
    IntentRefusedV2, IntentStamp,
};
pub use ids::{DeviceId, DriverId, IncarnationId, IntentId, OrderId, UserId, Version};
pub use note::Note;
pub use order::{
    CancelReason, ConflictDecided, DecidedBy, Decision, IntentRefused, OrderAssigned,
    OrderCancelled, OrderDelivered, OrderEvent, OrderPickedUp, OrderPlaced, OrderProblemReported,
    OrderReleased, OrderSnapshot, ProblemKind, RefusedVerdict, ReleaseReason, Wanted,
};
pub use schema::{schemas, snapshot_schemas};
pub use user::{UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserRenamed, UserSnapshot};

#![doc = include_str!("../README.md")]
#![warn(missing_docs, clippy::missing_errors_doc)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod driver;
mod ids;
mod intent;
mod note;
mod order;
pub mod sync;
pub mod text;
mod user;
mod word;

pub use driver::{DeviceEnrolled, DeviceRevoked, DriverEnrolled, DriverRevoked};
pub use freehold_event::Event;
pub use ids::{DeviceId, DriverId, IncarnationId, IntentId, OrderId, UserId, Version};
pub use intent::{
    ConflictDecided, DecidedBy, Decision, IntentMisdirected, IntentRefused, IntentRefusedV2,
    IntentStamp, RefusedVerdict, Wanted,
};
pub use note::Note;
pub use order::{
    CancelReason, OrderAssigned, OrderCancelled, OrderDelivered, OrderEvent, OrderPickedUp,
    OrderPlaced, OrderProblemReported, OrderReleased, OrderSnapshot, ProblemKind, ReleaseReason,
};
pub use user::{UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserRenamed, UserSnapshot};

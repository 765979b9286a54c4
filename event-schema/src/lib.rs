#![doc = include_str!("../README.md")]

mod ids;
mod order;
mod schema;
mod user;

pub use ids::{OrderId, UserId, Version};
pub use order::{OrderEvent, OrderPlaced, OrderSnapshot};
pub use schema::{schemas, snapshot_schemas};
pub use user::{UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserRenamed, UserSnapshot};

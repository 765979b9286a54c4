//! The events of stream USERS: what user-service publishes about its users.
//!
//! No event carries an e-mail address in its data. A service that needs one asks user-service; a stream is copied, kept and read by
//! many. The envelope of an event that sets one carries it sealed, for user-service alone.

use freehold_event::events;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ids::{UserId, Version};

events! {
    /// A change of one user. user-service is the only writer.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub enum UserEvent on "USERS" {
        "users.created.v1" => Created(UserCreated) about user_id,
        "users.renamed.v1" => Renamed(UserRenamed) about user_id,
        "users.email_changed.v1" => EmailChanged(UserEmailChanged) about user_id,
        "users.deleted.v1" => Deleted(UserDeleted) about user_id,
    }
    each has version: Version;
}

/// A user was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserCreated {
    /// A user of user-service.
    pub user_id: UserId,
    /// As the user wrote it, byte for byte.
    pub name: String,
    /// Of the user, after this change.
    pub version: Version,
}

/// A user has another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRenamed {
    /// A user of user-service.
    pub user_id: UserId,
    /// The new name, byte for byte.
    pub name: String,
    /// Of the user, after this change.
    pub version: Version,
}

/// A user has another e-mail address. The event does not say which: only user-service may know it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserEmailChanged {
    /// A user of user-service.
    pub user_id: UserId,
    /// Of the user, after this change.
    pub version: Version,
}

/// A user was deleted. No event follows for this id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserDeleted {
    /// A user of user-service.
    pub user_id: UserId,
    /// The last one: the deletion counts as a change.
    pub version: Version,
}

/// A user as user-service shares one in a snapshot: a line of it. What a cache of users needs, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserSnapshot {
    /// A user of user-service.
    pub user_id: UserId,
    /// As the user wrote it, byte for byte.
    pub name: String,
    /// How many changes an aggregate has seen, its creation included: 1, 2, 3 …
    pub version: Version,
}

impl UserSnapshot {
    /// The name of this shape.
    pub const TYPE: &str = "users.snapshot.v1";
}

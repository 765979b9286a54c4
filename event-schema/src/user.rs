//! The events of stream USERS: what user-service tells the others about its users.
//!
//! No event carries an e-mail address in its data. Who needs one asks user-service; a stream is copied, kept and read by
//! many. The envelope of an event that sets one carries it sealed, for user-service alone.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{UserId, Version};

/// A change of one user. As JSON it is its data alone: the type travels in the envelope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum UserEvent {
    Created(UserCreated),
    Renamed(UserRenamed),
    EmailChanged(UserEmailChanged),
    Deleted(UserDeleted),
}

/// A user was registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserCreated {
    pub user_id: UserId,
    /// As the user wrote it, byte for byte.
    pub name: String,
    /// Of the user, after this change.
    pub version: Version,
}

/// A user has another name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserRenamed {
    pub user_id: UserId,
    /// The new name, byte for byte.
    pub name: String,
    /// Of the user, after this change.
    pub version: Version,
}

/// A user has another e-mail address. Which one is nobody's business here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserEmailChanged {
    pub user_id: UserId,
    /// Of the user, after this change.
    pub version: Version,
}

/// A user is gone. Nothing follows for this id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserDeleted {
    pub user_id: UserId,
    /// The last one: the deletion counts as a change.
    pub version: Version,
}

/// A user as user-service shares one in a snapshot: a line of it. What a cache of users needs, and no more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserSnapshot {
    pub user_id: UserId,
    /// As the user wrote it, byte for byte.
    pub name: String,
    pub version: Version,
}

impl UserSnapshot {
    /// The name of this shape.
    pub const TYPE: &str = "users.snapshot.v1";
}

impl UserEvent {
    /// The stream. user-service is its only writer.
    pub const STREAM: &str = "USERS";

    pub const CREATED: &str = "users.created.v1";
    pub const RENAMED: &str = "users.renamed.v1";
    pub const EMAIL_CHANGED: &str = "users.email_changed.v1";
    pub const DELETED: &str = "users.deleted.v1";

    pub fn event_type(&self) -> &'static str {
        match self {
            Self::Created(_) => Self::CREATED,
            Self::Renamed(_) => Self::RENAMED,
            Self::EmailChanged(_) => Self::EMAIL_CHANGED,
            Self::Deleted(_) => Self::DELETED,
        }
    }

    /// The user it is about: events of one user are applied, or parked, in order.
    pub fn aggregate(&self) -> UserId {
        match self {
            Self::Created(event) => event.user_id,
            Self::Renamed(event) => event.user_id,
            Self::EmailChanged(event) => event.user_id,
            Self::Deleted(event) => event.user_id,
        }
    }

    pub fn version(&self) -> Version {
        match self {
            Self::Created(event) => event.version,
            Self::Renamed(event) => event.version,
            Self::EmailChanged(event) => event.version,
            Self::Deleted(event) => event.version,
        }
    }

    /// Reads an event's data by its type. `None`: a type this program does not know, which is no error.
    pub fn decode(event_type: &str, data: &[u8]) -> serde_json::Result<Option<Self>> {
        let event = match event_type {
            Self::CREATED => Self::Created(serde_json::from_slice(data)?),
            Self::RENAMED => Self::Renamed(serde_json::from_slice(data)?),
            Self::EMAIL_CHANGED => Self::EmailChanged(serde_json::from_slice(data)?),
            Self::DELETED => Self::Deleted(serde_json::from_slice(data)?),
            _ => return Ok(None),
        };
        Ok(Some(event))
    }
}

//! A user as callers see one.

use event_schema::UserId;
use serde::Serialize;
use service_kit::{OPERATOR, Principal};
use utoipa::ToSchema;

use crate::domain::User;

/// A user. Other services see no e-mail address.
#[derive(Serialize, ToSchema)]
#[schema(as = User)]
pub(super) struct UserView {
    #[schema(value_type = String, format = Uuid, example = "0191d1a0-0000-7000-8000-000000000000")]
    id: UserId,
    #[schema(example = "Ada Lovelace")]
    name: String,
    /// Only operators see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, format = Email, example = "ada@example.org")]
    pub(super) email: Option<String>,
    /// Counts the user's changes, from 1. It is the `ETag` too.
    #[schema(minimum = 1, example = 1)]
    pub(super) version: u64,
}

impl UserView {
    pub(super) fn of(user: User, caller: &Principal) -> Self {
        match caller.is(OPERATOR) {
            true => Self::full(user),
            false => Self::shared(user),
        }
    }

    pub(super) fn full(user: User) -> Self {
        let email = Some(user.email.as_ref().to_owned());
        Self {
            email,
            ..Self::shared(user)
        }
    }

    /// As other services may see it.
    pub(super) fn shared(user: User) -> Self {
        Self {
            id: user.id,
            name: user.name.as_ref().to_owned(),
            email: None,
            version: user.version.get(),
        }
    }
}

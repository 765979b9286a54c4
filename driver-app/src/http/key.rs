//! `Idempotency-Key`: whoever asks may draw the intent's id, so that a request whose answer got lost is sent again without
//! being done again.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use event_schema::IntentId;
use service_kit::{Problem, codes};

/// The id that the intent is to have, if it was sent.
pub(super) struct Key(pub Option<IntentId>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut sent = parts.headers.get_all("idempotency-key").iter();
        let key = match (sent.next(), sent.next()) {
            (None, _) => return Ok(Self(None)),
            (Some(key), None) => key.to_str().ok().and_then(|key| key.parse().ok()),
            (Some(_), Some(_)) => None,
        };
        key.map(|id| Self(Some(id))).ok_or_else(|| {
            let detail = "a key is a UUID, sent once: it becomes the intent's id";
            Problem::new(codes::INVALID_IDEMPOTENCY_KEY, detail)
        })
    }
}

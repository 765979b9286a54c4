//! The envelope: a CloudEvents 1.0 event in structured JSON, the bytes that outbox and stream share.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::environment::Environment;

/// The largest envelope, in bytes. nats.conf sets `max_payload` to 1 MB; the rest is room for headers.
pub const MAX_ENVELOPE_BYTES: usize = 1_000_000;

/// An event's identity. The sequence says where it is, the id what it *is*: no id is ever drawn twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

impl EventId {
    /// Draws a UUIDv7.
    pub fn draw(from: &dyn Environment) -> Self {
        let mut random = [0; 10];
        from.fill_random(&mut random);
        Self(uuid::Builder::from_unix_timestamp_millis(from.now_ms(), &random).into_uuid())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

impl ToSql for EventId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for EventId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_str()?.parse().map_err(FromSqlError::other)
    }
}

/// An event as a log stores it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// `1.0`, of CloudEvents.
    #[serde(borrow)]
    pub specversion: Cow<'a, str>,
    /// Drawn at `emit`, the same in every log.
    pub id: EventId,
    /// `/users`: the service that owns the log.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
    /// `users.created.v1`.
    #[serde(borrow, rename = "type")]
    pub event_type: Cow<'a, str>,
    /// The aggregate's id.
    #[serde(borrow)]
    pub subject: Cow<'a, str>,
    /// RFC 3339, UTC.
    #[serde(borrow)]
    pub time: Cow<'a, str>,
    /// The sequence in the log, as twenty digits: CloudEvents compares sequences as text.
    #[serde(with = "digits")]
    pub sequence: u64,
    /// The event before this one; absent at 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<EventId>,
    /// The epoch it was emitted in. It never changes.
    pub epoch: u32,
    /// `application/json`.
    #[serde(borrow)]
    pub datacontenttype: Cow<'a, str>,
    /// `urn:freehold:schema:users.created.v1`: a name, nothing is fetched from it.
    #[serde(borrow)]
    pub dataschema: Cow<'a, str>,
    /// W3C Trace Context: the request it came from, across services.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Cow<'a, str>>,
    /// The request it came from, as the client or the service it asked calls it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub requestid: Option<Cow<'a, str>>,
    /// The event that a reaction answered with this one: see `event::causation`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cow<'a, str>>,
    /// The key of the sealed part.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sealedkey: Option<Cow<'a, str>>,
    /// What only the owner can read: `2.` and base64. Without the `2.` it is of the first version, which was bound to the
    /// event's id alone.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<Cow<'a, str>>,
    /// The event's own JSON, as the bytes it came in.
    #[serde(borrow)]
    pub data: &'a RawValue,
}

impl<'a> Envelope<'a> {
    /// Reads the bytes of a log.
    ///
    /// # Errors
    ///
    /// The bytes are not JSON, or lack a field that every event of Freehold has: another program published them.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// The bytes that outbox and stream store.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope of strings and raw JSON always serializes")
    }
}

/// The NATS subject of an event type: `users.created.v1` travels on `users.created`.
pub fn subject_of(event_type: &str) -> &str {
    match event_type.rsplit_once(".v") {
        Some((subject, version))
            if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) =>
        {
            subject
        }
        _ => event_type,
    }
}

/// `users.renamed.v1`: a stream, at least one more word, a version. Anything else makes a subject that the broker
/// refuses, or worse, takes for a pattern.
pub(crate) fn is_event_type(event_type: &str) -> bool {
    let word = |word: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        !word.is_empty() && word.bytes().all(allowed)
    };
    let subject = subject_of(event_type);
    subject != event_type && subject.contains('.') && subject.split('.').all(word)
}

/// Sequences as twenty digits.
mod digits {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(seq: &u64, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{seq:020}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
        Cow::<str>::deserialize(from)?
            .parse()
            .map_err(D::Error::custom)
    }
}

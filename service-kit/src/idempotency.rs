//! `Idempotency-Key`: a POST that is sent again has no second effect and gets its first reply, byte for byte.
//!
//! The reply is a row, written in the transaction of the effect, so there is one if and only if there is the other, even for
//! a client that disconnected before the commit. Refusals are not kept: nothing has happened, and the next attempt is
//! decided anew.
//!
//! A reply is kept for a day in which its service runs, whatever the clock says. It belongs to the token of the request: a
//! new token, even one for the same name, has keys of its own.
//!
//! No event carries a reply, so a restored database holds the replies of its backup alone. A request that came after the
//! backup, sent again, is a new one, while the stream brings back its first effect. An e-mail address or an id of the
//! client's that must be unique still is.

mod store;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::bail;
use axum::extract::{FromRequest, FromRequestParts, MatchedPath, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use axum::{Extension, RequestPartsExt};
use relay::{Database, Tx};
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use utoipa::IntoParams;

use crate::auth::{ANONYMOUS, Principal, TokenHash};
use crate::causal::{POSITION, StreamPosition};
use crate::http::{Problem, Reply, Routes, codes, extract};

use store::Age;
pub use store::{
    IDEMPOTENCY_AGES_MIGRATION, IDEMPOTENCY_MIGRATION, MAX_KEPT_REPLIES, MAX_KEPT_REPLY_BYTES,
    REPLIES_KEPT_FOR,
};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key.
pub const MAX_KEY_CHARACTERS: usize = 255;

/// A JSON body as [`Json`](crate::Json) takes it, and the way to act on it once. Its migration,
/// [`IDEMPOTENCY_MIGRATION`], must be among the service's.
///
/// ```
/// # use service_kit::{ETag, Idempotent, Problem, Reply};
/// # #[derive(serde::Deserialize)] struct NewNote { text: String }
/// # #[derive(serde::Serialize)] struct Note { id: i64, text: String }
/// async fn note(Idempotent(new, once): Idempotent<NewNote>) -> Result<Reply, Problem> {
///     let write = once.write(move |tx| {
///         tx.execute("insert into notes (text) values (?1)", [&new.text])?;
///         let note = Note { id: tx.last_insert_rowid(), text: new.text };
///         Ok(Reply::created(&format!("/notes/{}", note.id), ETag(1), &note))
///     });
///     write.await
/// }
/// ```
///
/// A request that has its reply already does not reach the handler. What the handler does before it writes is covered:
/// the same key sent meanwhile is 409.
pub struct Idempotent<T>(pub T, pub Once);

/// The one write of a request.
pub struct Once {
    replies: Replies,
    /// `None`: the client sent no key.
    claim: Option<Claim>,
}

/// For `params(IdempotencyKey)` in the documentation of a handler that takes [`Idempotent`].
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyKey {
    /// A request that is sent again with the same key has no second effect and gets the first reply. 1 to 255 visible ASCII
    /// characters
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255)]
    _key: Option<String>,
}

/// The replies of one service, stored or under way. An extension of every request.
#[derive(Clone)]
pub(crate) struct Replies {
    db: Database,
    under_way: Arc<Mutex<HashSet<Slot>>>,
    age: Arc<Age>,
}

/// A key belongs to a caller and a route.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Slot {
    /// `operator ada sha256:9f86…`: with the credential, since another person may get the name one day.
    caller: String,
    route: String,
    key: String,
}

/// A slot and the request in it. While it lives no other request has the slot.
struct Claim {
    asked: Asked,
    under_way: Arc<Mutex<HashSet<Slot>>>,
}

/// A stored reply, with the hash of its request.
type Kept = ([u8; 32], Reply);

#[derive(Clone)]
struct Asked {
    slot: Slot,
    request: [u8; 32],
}

impl Routes {
    /// Refuses routes that need a table which the service's migrations do not make.
    ///
    /// # Errors
    ///
    /// Which route needs the table, and the migration that makes it; or the database cannot be read.
    pub async fn check(&self, db: &Database) -> anyhow::Result<()> {
        let Some(path) = self.that_takes("Idempotency-Key") else {
            return Ok(());
        };
        // A program that is open to all keeps replies, if it does, in its own way.
        if self.declared.all_open || db.read(store::has_table).await? {
            return Ok(());
        }
        bail!(
            "{path} takes an Idempotency-Key, and the database has no table for the replies: add service_kit::IDEMPOTENCY_MIGRATION to the service's migrations"
        )
    }
}

impl Replies {
    pub(crate) fn new(db: &Database) -> Self {
        Self {
            db: db.clone(),
            under_way: Arc::default(),
            age: Arc::new(Age::new()),
        }
    }

    fn claim(&self, asked: Asked) -> Result<Claim, Problem> {
        match locked(&self.under_way).insert(asked.slot.clone()) {
            true => Ok(Claim {
                asked,
                under_way: self.under_way.clone(),
            }),
            false => {
                let detail = "the first request with this key is still under way; try again";
                Err(Problem::new(codes::IDEMPOTENCY_IN_FLIGHT, detail).retry_later())
            }
        }
    }

    async fn find(&self, asked: &Asked) -> Result<Option<Reply>, Problem> {
        let (asked, age) = (asked.clone(), self.age.clone());
        let wall_ms = self.db.now_ms();
        let read = self.db.read(move |rows| {
            let now_ms = age.now_ms(rows, wall_ms)?;
            let kept = store::find(rows, &asked.slot, now_ms)?;
            kept.map(|kept| asked.replay(kept)).transpose()
        });
        Ok(read.await?)
    }
}

impl Once {
    /// Runs `work` in a transaction, as [`Database::write`] does, and keeps the reply in it.
    ///
    /// # Errors
    ///
    /// The problem that `work` answered, and nothing is kept: the same key may try again. Or the database takes no writes at
    /// present.
    pub async fn write(
        self,
        work: impl FnOnce(&Tx<'_>) -> Result<Reply, Problem> + Send + 'static,
    ) -> Result<Reply, Problem> {
        let Self { replies, claim } = self;
        let db = &replies.db;
        let Some(claim) = claim else {
            return Ok(db.write(work).await?);
        };
        let (asked, age, stream) = (
            claim.asked.clone(),
            replies.age.clone(),
            db.stream().to_owned(),
        );
        let write = db.write(move |tx| asked.once(tx, &age, &stream, work));
        let reply = write.await?;
        drop(claim); // only now. When the client disconnects it is dropped earlier, with the write in the queue.
        Ok(reply)
    }
}

impl Asked {
    /// A client that disconnected may have left a write in the queue, so the transaction looks for a reply again.
    fn once(
        &self,
        tx: &Tx<'_>,
        age: &Age,
        stream: &str,
        work: impl FnOnce(&Tx<'_>) -> Result<Reply, Problem>,
    ) -> Result<Reply, Problem> {
        let now_ms = age.now_ms(tx, tx.now_ms())?;
        if let Some(kept) = store::find(tx, &self.slot, now_ms)? {
            return self.replay(kept);
        }
        let reply = work(tx)?;
        let position = StreamPosition::new(stream, tx.head()?);
        let reply = reply.with(POSITION, position.header());
        store::forget_some(tx, now_ms)?;
        store::keep(tx, self, &reply, now_ms)?;
        Ok(reply)
    }

    /// `kept` answers `request`, which must be this one.
    fn replay(&self, (request, kept): Kept) -> Result<Reply, Problem> {
        if self.request != request {
            let detail =
                "this key was sent before with another request; choose a new key for a new request";
            return Err(Problem::new(codes::IDEMPOTENCY_KEY_REUSED, detail));
        }
        let replayed = HeaderValue::from_static("true");
        Ok(kept.with(REPLAYED, replayed))
    }
}

fn locked(slots: &Mutex<HashSet<Slot>>) -> MutexGuard<'_, HashSet<Slot>> {
    slots.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Claim {
    fn drop(&mut self) {
        locked(&self.under_way).remove(&self.asked.slot);
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Idempotent<T> {
    /// The refusal, or the reply to the same request that came before.
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let slot = slot(&mut parts, state).await?;
        let replies = parts.extract::<Extension<Replies>>().await;
        // A programmer's mistake: the route is not served by `api`.
        let Extension(replies) = replies.map_err(|missing| Problem::internal(&missing))?;
        let path = parts.uri.path_and_query();
        let path = path.map_or_else(String::new, ToString::to_string);
        let body = extract::receive_json(Request::from_parts(parts, body), state).await?;
        let claim = match slot {
            None => None,
            Some(slot) => {
                let request = digest(&path, &body);
                let claim = replies.claim(Asked { slot, request })?;
                if let Some(reply) = replies.find(&claim.asked).await? {
                    return Err(reply.into_response());
                }
                Some(claim)
            }
        };
        let json = extract::read(&body)?;
        Ok(Self(json, Once { replies, claim }))
    }
}

async fn slot<S: Send + Sync>(parts: &mut Parts, state: &S) -> Result<Option<Slot>, Problem> {
    let Some(key) = key(&parts.headers)? else {
        return Ok(None);
    };
    let (caller, route) = (caller(parts), route(parts, state).await);
    Ok(Some(Slot { caller, route, key }))
}

fn caller(parts: &Parts) -> String {
    let caller = Principal::of(parts);
    match TokenHash::sent(&parts.headers) {
        Some(token) if !caller.is(ANONYMOUS) => format!("{caller} sha256:{token}"),
        _ => caller.to_string(),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut sent = headers.get_all(KEY).iter();
    let key = match (sent.next(), sent.next()) {
        (None, _) => return Ok(None),
        (Some(key), None) => key.to_str().ok().filter(|key| is_key(key)),
        (Some(_), Some(_)) => None,
    };
    let key = key.ok_or_else(|| {
        let detail =
            format!("a key is 1 to {MAX_KEY_CHARACTERS} visible ASCII characters, sent once");
        Problem::new(codes::INVALID_IDEMPOTENCY_KEY, detail)
    })?;
    Ok(Some(key.to_owned()))
}

fn is_key(text: &str) -> bool {
    (1..=MAX_KEY_CHARACTERS).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `POST /orders/{id}/cancel id="0198…"`
async fn route<S: Send + Sync>(parts: &mut Parts, state: &S) -> String {
    let declared = parts.extensions.get::<MatchedPath>();
    let declared = declared.map_or_else(|| parts.uri.path(), MatchedPath::as_str);
    let mut route = format!("{} {declared}", parts.method);
    if let Ok(values) = RawPathParams::from_request_parts(parts, state).await {
        for (name, value) in &values {
            route.push_str(&format!(" {name}={value:?}")); // quoted: no value can look like two
        }
    }
    route
}

/// Their lengths cannot be mistaken for each other: no path contains a zero byte.
fn digest(path: &str, body: &[u8]) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(path);
    digest.update([0]);
    digest.update(body);
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_visible_has_an_end_and_comes_once() {
        let read = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(KEY, HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            key(&headers).map_err(|problem| problem.code())
        };
        let longest = "x".repeat(MAX_KEY_CHARACTERS);
        assert_eq!(read(&[]), Ok(None));
        for good in ["1", "\"8e03978e-40d5\"", "a,b;c", &longest] {
            assert_eq!(read(&[good]), Ok(Some(good.to_owned())));
        }
        for bad in ["", "a b", "é", "a\tb", &format!("{longest}x")] {
            assert_eq!(read(&[bad]), Err(codes::INVALID_IDEMPOTENCY_KEY), "{bad}");
        }
        assert_eq!(read(&["1", "1"]), Err(codes::INVALID_IDEMPOTENCY_KEY));
    }

    #[test]
    fn another_path_query_or_body_is_another_request() {
        let same = digest("/users", b"{}");
        assert_eq!(digest("/users", b"{}"), same);
        for (path, body) in [("/user", "s{}"), ("/users?a", "{}"), ("/users", "{ }")] {
            assert_ne!(digest(path, body.as_bytes()), same, "{path} {body}");
        }
    }
}

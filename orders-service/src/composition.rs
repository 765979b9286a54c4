//! Composition: orders with their users. Users come from the cache, and those that are not in it from user-service, in one
//! call. The answer says which users are missing, and how fresh the cache is.

mod freshness;

use std::collections::{BTreeSet, HashMap};

use event_schema::UserId;
use relay::consume::ConsumerStatus;
use relay::error::chain;
use relay::rusqlite::{self, Connection};
use relay::{Consumer, Database};
use serde::{Deserialize, Serialize};
use service_kit::{Problem, may_log};
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::cache::users;
use crate::domain::User;
use crate::user_api::{CallError, Found, UserApi};

pub use freshness::{MAX_QUIET, UsersFreshness};

/// `?include=`: what an answer shows beside the orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Include {
    User,
}

#[derive(Clone)]
pub struct Composer {
    db: Database,
    cache: Consumer,
    user_api: UserApi,
}

/// The users of one answer.
pub struct Users {
    parts: HashMap<UserId, UserPart>,
    pub freshness: UsersFreshness,
}

/// A user beside an order: who it is and where that comes from, or why it is missing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = OrderUser)]
#[serde(untagged)]
pub enum UserPart {
    Known {
        id: UserId,
        name: String,
        version: u64,
        from: Source,
    },
    Missing {
        id: UserId,
        #[serde(flatten)]
        why: Missing,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    Cache,
    Owner,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "missing", rename_all = "snake_case")]
pub enum Missing {
    /// user-service does not say which of the two.
    DeletedOrNeverKnown,
    OwnerUnavailable {
        /// RFC 3339, UTC.
        since: String,
    },
}

impl Composer {
    pub fn new(db: Database, cache: Consumer, user_api: UserApi) -> Self {
        Self {
            db,
            cache,
            user_api,
        }
    }

    /// Of the cache's consumer.
    pub fn status(&self) -> watch::Receiver<ConsumerStatus> {
        self.cache.status()
    }

    /// Reads something and, if they are included, the users that it names, in one transaction.
    pub async fn read<T: Send + 'static>(
        &self,
        include: Option<Include>,
        read: impl FnOnce(&Connection) -> Result<(T, BTreeSet<UserId>), Problem> + Send + 'static,
    ) -> Result<(T, Option<Users>), Problem> {
        // From before the transaction: what was applied by then is in every row that it reads.
        let status = self.cache.status().borrow().clone();
        let cache = include.map(|Include::User| self.cache.clone());
        let now_ms = self.db.environment().now_ms();
        let read = self.db.read(move |rows| {
            let (body, ids) = read(rows)?;
            let cached = cache.map(|cache| cached(rows, &cache, &status, ids, now_ms));
            Ok::<_, Problem>((body, cached.transpose()?))
        });
        Ok(match read.await? {
            (body, Some((users, unknown))) => (body, Some(self.complete(users, unknown).await)),
            (body, None) => (body, None),
        })
    }

    /// Asks user-service for the users that are not in the cache. The answer is not written to the cache: only events are,
    /// in their order.
    async fn complete(&self, mut users: Users, unknown: Vec<UserId>) -> Users {
        let mut found = self.user_api.find_many(&unknown).await;
        log_missing(&found);
        let since = found.error.map(|error| error.since);
        let since = since.unwrap_or_else(|| self.db.environment().now());
        for id in unknown {
            let part = match found.users.remove(&id) {
                Some(Some(user)) => UserPart::known(user, Source::Owner),
                Some(None) => UserPart::missing(id, Missing::DeletedOrNeverKnown),
                None => {
                    let since = since.to_string();
                    UserPart::missing(id, Missing::OwnerUnavailable { since })
                }
            };
            users.parts.insert(id, part);
        }
        users
    }
}

/// The users that are in the cache, even if it is behind: the answer says how fresh it is. And those that are not.
fn cached(
    rows: &Connection,
    cache: &Consumer,
    status: &ConsumerStatus,
    ids: BTreeSet<UserId>,
    now_ms: u64,
) -> rusqlite::Result<(Users, Vec<UserId>)> {
    let known = users::find_many(rows, &ids)?.into_iter();
    let known = known.map(|user| (user.id, UserPart::known(user, Source::Cache)));
    let parts: HashMap<UserId, UserPart> = known.collect();
    let offset = cache.position(rows)?.map_or(0, |position| position.seq);
    let freshness = UsersFreshness::of(cache.stream(), offset, status, now_ms);
    let unknown = ids.into_iter().filter(|id| !parts.contains_key(id));
    let unknown = unknown.collect();
    Ok((Users { parts, freshness }, unknown))
}

impl Users {
    /// `None` for a user that the read did not name.
    pub fn part(&self, id: UserId) -> Option<UserPart> {
        self.parts.get(&id).cloned()
    }
}

impl UserPart {
    fn known(User { id, name, version }: User, from: Source) -> Self {
        Self::Known {
            id,
            name,
            version: version.get(),
            from,
        }
    }

    fn missing(id: UserId, why: Missing) -> Self {
        Self::Missing { id, why }
    }

    /// Whether user-service has no such user.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Self::Missing { why, .. } if *why == Missing::DeletedOrNeverKnown)
    }
}

/// Once for an answer, at a limited rate. While the breaker is open there is nothing new to log.
fn log_missing(found: &Found) {
    if let Some(error) = &found.error
        && !matches!(error.source, CallError::BreakerOpen)
        && let Some(withheld) = may_log("an answer lacks users")
    {
        tracing::warn!(error = %chain(error), withheld, "an answer lacks users");
    }
}

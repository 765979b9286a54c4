//! Composition: what this service owns, shown with what others own. Local data first, then the cache, then the owner's
//! API, once for all that is still missing. What cannot be had is left out and said so, and what is old says how old.

mod freshness;
mod include;

use std::collections::{BTreeSet, HashMap};

use event_schema::UserId;
use relay::rusqlite::{self, Connection};
use relay::{Consumer, ConsumerStatus, chain};
use serde::Serialize;
use service_kit::may_log;
use tokio::sync::watch;
use utoipa::ToSchema;

use crate::cache::users::{self, CachedUser};
use crate::user_api::{Found, KnownUser, UserApi, Why};

pub use freshness::{Freshness, MAX_QUIET, UsersFreshness};
pub use include::Include;

/// Puts users beside what names them.
#[derive(Clone)]
pub struct Composer {
    cache: Consumer,
    user_api: UserApi,
}

/// Begins before the database is read: what the cache's consumer knew by then holds for every row that is read after it.
pub struct Lookup {
    cache: Consumer,
    status: ConsumerStatus,
}

/// What the database alone says about some users.
pub struct Local {
    wanted: BTreeSet<UserId>,
    cached: HashMap<UserId, CachedUser>,
    /// Where the cache stood when it was read.
    offset: u64,
    status: ConsumerStatus,
}

/// Everything that could be learned about some users.
pub struct Users {
    parts: HashMap<UserId, UserPart>,
    freshness: Freshness,
}

/// A user beside an order: who it is and who says so, or why that is not known.
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
    /// The owner says so. It tells nobody which of the two it is.
    DeletedOrNeverKnown,
    OwnerUnavailable {
        /// RFC 3339, UTC.
        since: String,
    },
}

impl Composer {
    pub fn new(cache: Consumer, user_api: UserApi) -> Self {
        Self { cache, user_api }
    }

    /// Changes whenever the cache's consumer has done something.
    pub fn news(&self) -> watch::Receiver<ConsumerStatus> {
        self.cache.status()
    }

    pub fn look_up(&self) -> Lookup {
        Lookup {
            cache: self.cache.clone(),
            status: self.cache.status().borrow().clone(),
        }
    }

    /// Asks the owner for those, and only those, whom the cache does not know. Nothing of its answer is written to the
    /// cache: only events are, in their order.
    pub async fn complete(&self, local: Local, now_ms: u64) -> Users {
        let unknown = local.unknown();
        let found = match unknown.is_empty() {
            true => Found::default(),
            false => self.user_api.find_many(&unknown).await,
        };
        complain(&found);
        local.with(found, self.cache.stream(), now_ms)
    }
}

impl Lookup {
    /// Reads the cache, in the transaction that has read what names these users.
    pub fn read(self, rows: &Connection, wanted: BTreeSet<UserId>) -> rusqlite::Result<Local> {
        let position = self.cache.position(rows)?;
        let cached = users::find_many(rows, &wanted)?;
        Ok(Local {
            wanted,
            cached: cached.into_iter().map(|user| (user.id, user)).collect(),
            offset: position.map_or(0, |position| position.seq),
            status: self.status,
        })
    }
}

impl Local {
    fn unknown(&self) -> Vec<UserId> {
        let unknown = |id: &&UserId| !self.cached.contains_key(id);
        self.wanted.iter().filter(unknown).copied().collect()
    }

    /// The cache wins, even when it is behind: one rule that everybody can remember, and the answer says how old it is.
    fn with(mut self, mut found: Found, stream: &str, now_ms: u64) -> Users {
        let mut part = |id| match (self.cached.remove(&id), found.users.remove(&id)) {
            (Some(user), _) => UserPart::cached(user),
            (None, Some(Some(user))) => UserPart::owned(id, user),
            (None, Some(None)) => UserPart::missing(id, Missing::DeletedOrNeverKnown),
            (None, None) => UserPart::missing(id, Missing::unavailable(&found, now_ms)),
        };
        Users {
            parts: self.wanted.into_iter().map(|id| (id, part(id))).collect(),
            freshness: Freshness {
                users: UsersFreshness::of(stream, self.offset, &self.status, now_ms),
            },
        }
    }
}

impl Users {
    /// `None` for those nobody has looked up.
    pub fn part(&self, id: UserId) -> Option<UserPart> {
        self.parts.get(&id).cloned()
    }

    pub fn freshness(self) -> Freshness {
        self.freshness
    }
}

impl UserPart {
    fn cached(CachedUser { id, name, version }: CachedUser) -> Self {
        Self::Known {
            id,
            name,
            version: version.get(),
            from: Source::Cache,
        }
    }

    fn owned(id: UserId, KnownUser { name, version }: KnownUser) -> Self {
        Self::Known {
            id,
            name,
            version: version.get(),
            from: Source::Owner,
        }
    }

    fn missing(id: UserId, why: Missing) -> Self {
        Self::Missing { id, why }
    }

    /// Whether the owner says that there is no such user.
    pub fn is_nobody(&self) -> bool {
        let nobody = Missing::DeletedOrNeverKnown;
        matches!(self, Self::Missing { why, .. } if *why == nobody)
    }
}

impl Missing {
    fn unavailable(found: &Found, now_ms: u64) -> Self {
        let since = found.trouble.as_ref().map(|trouble| trouble.since);
        let since = since.map_or_else(|| freshness::rfc3339(now_ms), |since| since.to_string());
        Self::OwnerUnavailable { since }
    }
}

/// Once for an answer, if not too often. While the owner is left alone there is nothing new to say.
fn complain(found: &Found) {
    let trouble = found.trouble.as_ref();
    let news = trouble.filter(|trouble| !matches!(trouble.why, Why::LeftAlone));
    if let Some(trouble) = news
        && let Some(withheld) = may_log("an answer lacks users")
    {
        tracing::warn!(error = %chain(trouble), withheld, "an answer lacks users");
    }
}

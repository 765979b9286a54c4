//! `user_cache`: the users of user-service as far as orders need them. A projection of stream USERS, and the only
//! place with SQL about users.

use std::num::NonZeroU64;

use event_schema::{
    UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserId, UserRenamed, Version,
};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use relay::{ApplyError, Consumer, Received, Rows};
use service_kit::parsed;

/// The consumer's name, here and at the broker.
pub const CONSUMER: &str = "orders-user-cache";

/// A user as this service knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CachedUser {
    pub id: UserId,
    pub name: String,
    pub version: Version,
}

pub fn consumer() -> Consumer {
    Consumer::projection(CONSUMER, UserEvent::STREAM, UserEvent::decode, apply)
}

/// Runs in the transaction that moves the offset. Each statement takes only newer news: events come once and in
/// order, and still a cache must not depend on it.
pub fn apply(rows: &Rows<'_>, received: &Received<UserEvent>) -> Result<(), ApplyError> {
    match &received.event {
        UserEvent::Created(UserCreated {
            user_id,
            name,
            version,
        })
        | UserEvent::Renamed(UserRenamed {
            user_id,
            name,
            version,
        }) => put(rows, *user_id, name, *version)?,
        UserEvent::EmailChanged(UserEmailChanged { user_id, version }) => {
            touch(rows, *user_id, *version)?
        }
        UserEvent::Deleted(UserDeleted { user_id, version }) => remove(rows, *user_id, *version)?,
    }
    Ok(())
}

pub fn find(rows: &Connection, id: UserId) -> rusqlite::Result<Option<CachedUser>> {
    rows.prepare_cached("select id, name, version from user_cache where id = ?1")?
        .query_row([id.to_string()], cached_user)
        .optional()
}

fn put(rows: &Connection, id: UserId, name: &str, version: Version) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into user_cache (id, name, version) values (?1, ?2, ?3)
         on conflict (id) do update set name = excluded.name, version = excluded.version
         where excluded.version > user_cache.version",
    )?
    .execute((id.to_string(), name, version.get()))?;
    Ok(())
}

fn touch(rows: &Connection, id: UserId, version: Version) -> rusqlite::Result<()> {
    rows.prepare_cached("update user_cache set version = ?2 where id = ?1 and version < ?2")?
        .execute((id.to_string(), version.get()))?;
    Ok(())
}

fn remove(rows: &Connection, id: UserId, version: Version) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from user_cache where id = ?1 and version < ?2")?
        .execute((id.to_string(), version.get()))?;
    Ok(())
}

fn cached_user(row: &Row<'_>) -> rusqlite::Result<CachedUser> {
    Ok(CachedUser {
        id: parsed(row, 0)?,
        name: row.get(1)?,
        version: row.get::<_, NonZeroU64>(2)?.into(),
    })
}

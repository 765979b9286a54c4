//! `user_cache`: the users of user-service as far as orders need them. A projection of stream USERS, and the only
//! place with SQL about users.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;

use event_schema::{
    OrderId, UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserId, UserRenamed,
    UserSnapshot, Version,
};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use relay::{ApplyError, Consumer, Producer, Received, Rows, Sink};
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

/// `producer` is user-service, asked when the stream alone does not say how to go on.
pub fn consumer(producer: Option<Arc<dyn Producer>>) -> Consumer {
    let consumer = Consumer::projection(CONSUMER, UserEvent::STREAM, UserEvent::decode, apply);
    let consumer = consumer.loads(&["user_cache"], load, share);
    match producer {
        Some(producer) => consumer.asks(producer),
        None => consumer,
    }
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

/// Into the emptied cache, in the transaction that moves the offset to the snapshot's.
fn load(rows: &Rows<'_>, user: &UserSnapshot) -> Result<(), ApplyError> {
    put(rows, user.user_id, &user.name, user.version)?;
    Ok(())
}

/// The cache as user-service shares what it is a copy of: the same lines in the same order.
fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut users = rows.prepare("select id, name, version from user_cache order by id")?;
    let mut users = users.query([])?;
    while let Some(row) = users.next()? {
        let CachedUser { id, name, version } = cached_user(row)?;
        let user = UserSnapshot {
            user_id: id,
            name,
            version,
        };
        if !to(relay::row(&user)) {
            break;
        }
    }
    Ok(())
}

/// The user's orders are being cancelled, and no more will be taken.
pub fn remember_deleted(rows: &Connection, id: UserId) -> rusqlite::Result<()> {
    rows.prepare_cached("insert or ignore into deleted_users (id) values (?1)")?
        .execute([id.to_string()])?;
    Ok(())
}

/// The same of the user who placed this order.
pub fn remember_deleted_of_order(rows: &Connection, order_id: OrderId) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert or ignore into deleted_users (id) select user_id from orders where id = ?1",
    )?
    .execute([order_id.to_string()])?;
    Ok(())
}

/// Somebody of this id is there, or again: where a user-service went back behind a deletion.
pub fn forget_deleted(rows: &Connection, id: UserId) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from deleted_users where id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Whether the user's orders were cancelled because they are gone.
pub fn is_deleted(rows: &Connection, id: UserId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from deleted_users where id = ?1")?
        .exists([id.to_string()])
}

pub fn find(rows: &Connection, id: UserId) -> rusqlite::Result<Option<CachedUser>> {
    rows.prepare_cached("select id, name, version from user_cache where id = ?1")?
        .query_row([id.to_string()], cached_user)
        .optional()
}

/// Those of `ids` that are known here. One statement, whatever their number.
pub fn find_many(rows: &Connection, ids: &BTreeSet<UserId>) -> rusqlite::Result<Vec<CachedUser>> {
    let ids = serde_json::json!(ids).to_string();
    rows.prepare_cached(
        "select id, name, version from user_cache where id in (select value from json_each(?1))",
    )?
    .query_map([ids], cached_user)?
    .collect()
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

//! `user_cache`: a projection of stream USERS, and the only module with SQL about users.

use std::collections::BTreeSet;

use event_schema::{UserEvent, UserId, UserSnapshot, Version};
use relay::log::Sink;
use relay::rusqlite::{self, Connection, OptionalExtension};
use relay::{ApplyError, Consumer, Received, Rows};

use crate::domain::User;
use crate::store::rows;

/// The consumer's name, here and at the broker.
pub const CONSUMER: &str = "orders-user-cache";

const USERS: &str =
    "select json_object('id', id, 'name', name, 'version', version) from user_cache where";

pub fn consumer() -> Consumer {
    let consumer = Consumer::projection(CONSUMER, apply);
    consumer.loads(&["user_cache"], load, share)
}

/// Runs in the transaction that moves the offset. Each statement takes only newer versions, so that the cache does not depend
/// on events coming once and in order.
pub fn apply(rows: &Rows<'_>, received: &Received<UserEvent>) -> Result<(), ApplyError> {
    match &received.event {
        UserEvent::Created(of) => put(rows, of.user_id, &of.name, of.version)?,
        UserEvent::Renamed(of) => put(rows, of.user_id, &of.name, of.version)?,
        UserEvent::EmailChanged(of) => touch(rows, of.user_id, of.version)?,
        UserEvent::Deleted(of) => remove(rows, of.user_id, of.version)?,
    }
    Ok(())
}

/// Into the emptied cache, in the transaction that moves the offset to the snapshot's.
fn load(rows: &Rows<'_>, user: &UserSnapshot) -> Result<(), ApplyError> {
    put(rows, user.user_id, &user.name, user.version)?;
    Ok(())
}

/// The cache in the form of user-service's snapshot, so that the two can be compared.
fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let user = "json_object('user_id', id, 'name', name, 'version', version)";
    let select = format!("select {user} from user_cache order by id");
    rows::share::<UserSnapshot>(rows, &select, to)
}

pub fn find(rows: &Connection, id: UserId) -> rusqlite::Result<Option<User>> {
    rows.prepare_cached(&format!("{USERS} id = ?1"))?
        .query_row([id.to_string()], rows::json)
        .optional()
}

/// Those of `ids` that are in the cache, in one statement.
pub fn find_many(rows: &Connection, ids: &BTreeSet<UserId>) -> rusqlite::Result<Vec<User>> {
    let ids = serde_json::json!(ids).to_string();
    rows.prepare_cached(&format!("{USERS} id in (select value from json_each(?1))"))?
        .query_map([ids], rows::json)?
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

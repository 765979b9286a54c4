//! Every SQL statement of this service, one function each.

use std::num::NonZeroU64;

use event_schema::UserId;
use relay::Tx;
use relay::rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use relay::rusqlite::{self, Connection, OptionalExtension, Params, Row};
use service_kit::{Limit, parsed};

use crate::domain::User;

/// Why the database did not take a user.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another user has this e-mail address")]
    EmailTaken,
    #[error("the users cannot be written")]
    Database(#[source] rusqlite::Error),
}

pub fn insert(tx: &Tx<'_>, user: &User) -> Result<(), StoreError> {
    tx.prepare_cached("insert into users (id, name, email, version) values (?1, ?2, ?3, ?4)")?
        .execute(columns(user))?;
    Ok(())
}

pub fn update(tx: &Tx<'_>, user: &User) -> Result<(), StoreError> {
    tx.prepare_cached("update users set name = ?2, email = ?3, version = ?4 where id = ?1")?
        .execute(columns(user))?;
    Ok(())
}

pub fn delete(tx: &Tx<'_>, id: UserId) -> Result<(), StoreError> {
    tx.prepare_cached("delete from users where id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

pub fn find(rows: &Connection, id: UserId) -> rusqlite::Result<Option<User>> {
    rows.prepare_cached("select id, name, email, version from users where id = ?1")?
        .query_row([id.to_string()], user)
        .optional()
}

/// Users after `after`, or from the first, in the order of their ids; one more than the limit when there are more.
pub fn list(rows: &Connection, after: Option<UserId>, limit: Limit) -> rusqlite::Result<Vec<User>> {
    let after = after.map_or_else(String::new, |id| id.to_string()); // every id is greater than no text
    rows.prepare_cached(
        "select id, name, email, version from users where id > ?1 order by id limit ?2",
    )?
    .query_map((after, limit.and_one_more()), user)?
    .collect()
}

fn columns(user: &User) -> impl Params {
    let User {
        id,
        name,
        email,
        version,
    } = user;
    (id.to_string(), name.as_ref(), email.as_ref(), version.get())
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: parsed(row, 0)?,
        name: parsed(row, 1)?,
        email: parsed(row, 2)?,
        version: row.get::<_, NonZeroU64>(3)?.into(),
    })
}

/// The schema keeps addresses unique; its refusal is the answer, so no second query has to ask first.
impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        match &error {
            rusqlite::Error::SqliteFailure(code, Some(message))
                if code.extended_code == SQLITE_CONSTRAINT_UNIQUE
                    && message.ends_with("users.email") =>
            {
                Self::EmailTaken
            }
            _ => Self::Database(error),
        }
    }
}

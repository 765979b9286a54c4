//! Every SQL statement of this service, one function each.

use std::num::NonZeroU64;

use event_schema::{Event, UserEvent, UserId, UserSnapshot};
use relay::log::Sink;
use relay::rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::{Limit, parsed};

use crate::domain::{Email, Name, OwnEvent, User};

/// Why a change was not written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another user has this e-mail address, or another form of it")]
    EmailTaken,
    /// Only when events are imported: a new event has its address.
    #[error(
        "it has no sealed part with the e-mail address, because a version without sealed parts wrote it: restore a backup from after it, or decide with new-epoch"
    )]
    NoEmail,
    /// Only when events are imported: a new event follows from the user as just read.
    #[error(
        "the table users is not as it was before this event: restore a backup that was not edited"
    )]
    OutOfOrder,
    #[error("the users cannot be written")]
    Database(#[source] rusqlite::Error),
}

/// Refuses an address whose mailbox belongs to another user and not also to this one. Asked before an event is made, but
/// not when events are imported: a log may hold two users of one mailbox, from before addresses had a canonical form.
pub fn check_mailbox(
    rows: &Connection,
    OwnEvent { event, email }: &OwnEvent,
) -> Result<(), StoreError> {
    let Some(email) = email else { return Ok(()) };
    let mut taken = rows.prepare_cached(
        "select 1 from users where mailbox = ?1 and ?2 not in (select id from users where mailbox = ?1)",
    )?;
    match taken.exists((email.mailbox(), event.aggregate()))? {
        true => Err(StoreError::EmailTaken),
        false => Ok(()),
    }
}

/// Fills in the mailboxes of an older file's users at every opening, before anything is read, and logs the users who share
/// one.
pub fn fill_mailboxes(rows: &Connection) -> rusqlite::Result<()> {
    let tx = rows.unchecked_transaction()?;
    for (id, email) in without_mailbox(&tx)? {
        tx.prepare_cached("update users set mailbox = ?2 where id = ?1")?
            .execute((id, Email::kept(email).mailbox()))?;
    }
    tx.commit()?;
    for users in shared_mailboxes(rows)? {
        tracing::warn!(
            users,
            "these users share a mailbox, which new users may not; change the address of all but one"
        );
    }
    Ok(())
}

fn without_mailbox(rows: &Connection) -> rusqlite::Result<Vec<(String, String)>> {
    rows.prepare("select id, email from users where mailbox is null")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// The ids of the users of each mailbox that has several.
fn shared_mailboxes(rows: &Connection) -> rusqlite::Result<Vec<String>> {
    rows.prepare("select group_concat(id, ', ') from users group by mailbox having count(*) > 1")?
        .query_map([], |row| row.get(0))?
        .collect()
}

/// Makes the change of the event at `seq`, when it is emitted and again when it is imported. No other function writes
/// users, so both make the same rows.
pub fn apply(
    rows: &Connection,
    OwnEvent { event, email }: &OwnEvent,
    seq: u64,
) -> Result<(), StoreError> {
    let (id, version) = (event.aggregate(), event.version().get());
    let email = || email.as_ref().ok_or(StoreError::NoEmail);
    let changed = match event {
        UserEvent::Created(user) => insert(rows, &id, &user.name, email()?, version, seq),
        UserEvent::Renamed(user) => update(rows, &id, Some(&user.name), None, version),
        UserEvent::EmailChanged(_) => update(rows, &id, None, Some(email()?), version),
        UserEvent::Deleted(_) => delete(rows, &id, version),
    };
    match changed? {
        1 => Ok(()),
        _ => Err(StoreError::OutOfOrder),
    }
}

pub fn find(rows: &Connection, id: UserId) -> rusqlite::Result<Option<User>> {
    rows.prepare_cached("select id, name, email, version from users where id = ?1")?
        .query_row([id.to_string()], user)
        .optional()
}

/// Users with the sequence of their registration, in that order: after `after`, or from the first. One more than the limit,
/// if there are more.
pub fn list(
    rows: &Connection,
    after: Option<i64>,
    limit: Limit,
) -> rusqlite::Result<Vec<(i64, User)>> {
    rows.prepare_cached(
        "select id, name, email, version, seq from users where seq > ?1 order by seq limit ?2",
    )?
    .query_map((after.unwrap_or(i64::MIN), limit.and_one_more()), |row| {
        Ok((row.get("seq")?, user(row)?))
    })?
    .collect()
}

/// Those of `ids` that exist, in the order of their ids.
pub fn find_many(rows: &Connection, ids: &[UserId]) -> rusqlite::Result<Vec<User>> {
    let ids = serde_json::json!(ids).to_string();
    rows.prepare_cached(
        "select id, name, email, version from users where id in (select value from json_each(?1)) order by id",
    )?
    .query_map([ids], user)?
    .collect()
}

/// Every user as other services may see one, in the order of their ids.
pub fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut users = rows.prepare("select id, name, version from users order by id")?;
    let mut users = users.query([])?;
    while let Some(user) = users.next()? {
        let shared = UserSnapshot {
            user_id: parsed(user, 0)?,
            name: user.get(1)?,
            version: user.get::<_, NonZeroU64>(2)?.into(),
        };
        if !to(relay::log::row(&shared)) {
            break;
        }
    }
    Ok(())
}

fn insert(
    rows: &Connection,
    id: &str,
    name: &str,
    email: &Email,
    version: u64,
    seq: u64,
) -> rusqlite::Result<usize> {
    let (address, mailbox) = (email.as_ref(), email.mailbox());
    rows.prepare_cached(
        "insert into users (id, name, email, mailbox, version, seq) values (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((id, name, address, mailbox, version, seq))
}

/// `None` stays as it is.
fn update(
    rows: &Connection,
    id: &str,
    name: Option<&str>,
    email: Option<&Email>,
    version: u64,
) -> rusqlite::Result<usize> {
    let (address, mailbox) = (email.map(AsRef::as_ref), email.map(Email::mailbox));
    rows.prepare_cached(
        "update users set name = coalesce(?2, name), email = coalesce(?3, email), mailbox = coalesce(?4, mailbox),
                          version = ?5
         where id = ?1 and version = ?5 - 1",
    )?
    .execute((id, name, address as Option<&str>, mailbox, version))
}

fn delete(rows: &Connection, id: &str, version: u64) -> rusqlite::Result<usize> {
    rows.prepare_cached("delete from users where id = ?1 and version = ?2 - 1")?
        .execute((id, version))
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: parsed(row, 0)?,
        name: Name::kept(row.get(1)?),
        email: Email::kept(row.get(2)?),
        version: row.get::<_, NonZeroU64>(3)?.into(),
    })
}

/// The schema refuses addresses that differ only in ASCII case, whatever `check_mailbox` found.
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

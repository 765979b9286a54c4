//! Every SQL statement of this service, one function each.

use std::num::NonZeroU64;

use event_schema::{
    UserCreated, UserDeleted, UserEmailChanged, UserEvent, UserId, UserRenamed, UserSnapshot,
};
use relay::Sink;
use relay::rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE;
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::{Limit, parsed};

use crate::domain::{Email, Name, OwnEvent, User};

/// Why the database did not take a user.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("another user has this e-mail address, or another form of it")]
    EmailTaken,
    /// From the log only: an event that is made here has its address beside it.
    #[error(
        "it has no sealed part with the e-mail address, as every event that was written before there were sealed parts: restore a backup from after it, or decide with new-epoch"
    )]
    NoEmail,
    /// From the log only: what is changed here was just read.
    #[error(
        "the table users is not as it was before this event: restore a backup that nobody has edited"
    )]
    OutOfOrder,
    #[error("the users cannot be written")]
    Database(#[source] rusqlite::Error),
}

/// Refuses the address of a mailbox that is another user's and not this one's too. Asked before an event is made, never when events are imported: what
/// a log holds has happened, also two users of one mailbox, from before addresses had a canonical form.
pub fn check_mailbox(
    rows: &Connection,
    OwnEvent { event, email }: &OwnEvent,
) -> Result<(), StoreError> {
    let Some(email) = email else { return Ok(()) };
    let mut taken = rows.prepare_cached(
        "select 1 from users where mailbox = ?1 and ?2 not in (select id from users where mailbox = ?1)",
    )?;
    match taken.exists((email.mailbox(), event.aggregate().to_string()))? {
        true => Err(StoreError::EmailTaken),
        false => Ok(()),
    }
}

/// Gives the users of an older file their mailboxes, and tells the operator of those who share one. At every opening, before
/// anything is read.
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
            "these users have forms of one e-mail address, which new users may not; give all but one of them another address"
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

/// Makes the change that the event at `seq` tells of: when it is emitted, and again when it is imported. Nothing else
/// writes users, so both make the same rows.
pub fn apply(
    rows: &Connection,
    OwnEvent { event, email }: &OwnEvent,
    seq: u64,
) -> Result<(), StoreError> {
    let email = || email.as_ref().ok_or(StoreError::NoEmail);
    let changed = match event {
        UserEvent::Created(event) => insert(rows, event, email()?, seq),
        UserEvent::Renamed(event) => rename(rows, event),
        UserEvent::EmailChanged(event) => change_email(rows, event, email()?),
        UserEvent::Deleted(event) => delete(rows, event),
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

/// Users with their sequences in the log, in the order of these: after `after`, or from the first; one more than the limit
/// when there are more.
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

/// Those of `ids` that exist, as others may know them, in the order of their ids. One statement, whatever their number.
pub fn find_many(rows: &Connection, ids: &[UserId]) -> rusqlite::Result<Vec<UserSnapshot>> {
    let ids = serde_json::json!(ids).to_string();
    rows.prepare_cached(
        "select id, name, version from users where id in (select value from json_each(?1)) order by id",
    )?
    .query_map([ids], shared)?
    .collect()
}

/// Every user as others may know one, in the order of their ids.
pub fn share(rows: &Connection, to: &mut Sink<'_>) -> rusqlite::Result<()> {
    let mut users = rows.prepare("select id, name, version from users order by id")?;
    let mut users = users.query([])?;
    while let Some(user) = users.next()? {
        if !to(relay::row(&shared(user)?)) {
            break;
        }
    }
    Ok(())
}

fn insert(
    rows: &Connection,
    event: &UserCreated,
    email: &Email,
    seq: u64,
) -> rusqlite::Result<usize> {
    let UserCreated {
        user_id,
        name,
        version,
    } = event;
    rows.prepare_cached(
        "insert into users (id, name, email, mailbox, version, seq) values (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        user_id.to_string(),
        name,
        email.as_ref(),
        email.mailbox(),
        version.get(),
        seq,
    ))
}

fn rename(rows: &Connection, event: &UserRenamed) -> rusqlite::Result<usize> {
    let UserRenamed {
        user_id,
        name,
        version,
    } = event;
    rows.prepare_cached(
        "update users set name = ?2, version = ?3 where id = ?1 and version = ?3 - 1",
    )?
    .execute((user_id.to_string(), name, version.get()))
}

fn change_email(
    rows: &Connection,
    event: &UserEmailChanged,
    email: &Email,
) -> rusqlite::Result<usize> {
    let UserEmailChanged { user_id, version } = event;
    rows.prepare_cached(
        "update users set email = ?2, mailbox = ?4, version = ?3 where id = ?1 and version = ?3 - 1",
    )?
    .execute((
        user_id.to_string(),
        email.as_ref(),
        version.get(),
        email.mailbox(),
    ))
}

fn delete(rows: &Connection, event: &UserDeleted) -> rusqlite::Result<usize> {
    let UserDeleted { user_id, version } = event;
    rows.prepare_cached("delete from users where id = ?1 and version = ?2 - 1")?
        .execute((user_id.to_string(), version.get()))
}

fn shared(row: &Row<'_>) -> rusqlite::Result<UserSnapshot> {
    Ok(UserSnapshot {
        user_id: parsed(row, 0)?,
        name: row.get(1)?,
        version: row.get::<_, NonZeroU64>(2)?.into(),
    })
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    Ok(User {
        id: parsed(row, 0)?,
        name: Name::kept(row.get(1)?),
        email: Email::kept(row.get(2)?),
        version: row.get::<_, NonZeroU64>(3)?.into(),
    })
}

/// Of addresses that differ in ASCII case the schema keeps one, whatever has been asked before.
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

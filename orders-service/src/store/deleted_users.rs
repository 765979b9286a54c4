//! Deleted users. The reaction that cancels their open orders adds them, and the transaction that places an order checks them:
//! an order is either in time to be cancelled, or refused.

use event_schema::UserId;
use relay::rusqlite::{self, Connection};

/// Their open orders are being cancelled, and they can place no more.
pub fn add(rows: &Connection, id: UserId) -> rusqlite::Result<()> {
    rows.prepare_cached("insert or ignore into deleted_users (id) values (?1)")?
        .execute([id.to_string()])?;
    Ok(())
}

/// The user exists, or exists again because user-service was restored to a time before the deletion.
pub fn remove(rows: &Connection, id: UserId) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from deleted_users where id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

/// Whether the user's orders were cancelled because the user was deleted.
pub fn contains(rows: &Connection, id: UserId) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from deleted_users where id = ?1")?
        .exists([id.to_string()])
}

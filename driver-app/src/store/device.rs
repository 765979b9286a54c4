//! The device's one row: its ids, its driver, its token, and how far it has followed the owner's feed.

use event_schema::sync::Enrolled;
use event_schema::{DeviceId, DriverId, IncarnationId};
use relay::rusqlite::{self, Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{deliveries, intents, json};

#[derive(Clone, Debug, Deserialize)]
pub struct Identity {
    pub device_id: DeviceId,
    pub incarnation: IncarnationId,
    /// The library found, after this incarnation began, that the file is a copy of another or an older copy of itself.
    pub is_copy: bool,
    pub fork: Option<Fork>,
    pub enrolment: Enrolment,
    pub driver: Option<Driver>,
    /// Stays when the owner no longer accepts it: it still proves which device this is.
    pub token: Option<String>,
    /// Where the next checkpoint begins; `None` from scratch.
    pub feed_token: Option<String>,
    /// The sequence in the owner's log that the deliveries are as of.
    pub feed_at: Option<u64>,
    pub last_contact_ms: Option<i64>,
}

/// Who uses the device.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Driver {
    pub driver_id: DriverId,
    pub name: String,
}

/// The device's file was found to be a copy, so a new incarnation began.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Fork {
    /// Of this device, ever.
    pub times: u64,
    pub reason: String,
    /// By the device's clock.
    pub at_ms: i64,
}

/// What orders-service last replied to the device's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Enrolment {
    None,
    Valid,
    /// Refused for a reason that may pass: the device keeps asking.
    #[serde(rename = "expired_or_revoked")]
    NotAccepted,
    /// Refused for good.
    #[serde(rename(serialize = "expired_or_revoked"))]
    Revoked,
}

impl Identity {
    /// The token, if it is worth a try.
    pub fn usable_token(&self) -> Option<String> {
        let usable = matches!(self.enrolment, Enrolment::Valid | Enrolment::NotAccepted);
        self.token.clone().filter(|_| usable)
    }
}

/// `marked` rows: how often the library has found this file to be a copy. They stay in the file.
const MARKS: &str = "(select count(*) from relay_audit where action = 'marked')";

pub fn find(rows: &Connection) -> rusqlite::Result<Option<Identity>> {
    rows.prepare_cached(&format!(
        "select json_object(
             'device_id', device_id, 'incarnation', incarnation, 'token', token, 'feed_token', feed_token, 'feed_at', feed_at,
             'last_contact_ms', last_contact_ms, 'is_copy', json(iif(marks_seen < {MARKS}, 'true', 'false')),
             'enrolment', iif(enrolment = 'expired_or_revoked' and revoked, 'revoked', enrolment),
             'driver', json(iif(driver_id is null, 'null', json_object('driver_id', driver_id, 'name', driver_name))),
             'fork', json(iif(forked_at_ms is null, 'null',
                 json_object('times', forks, 'reason', fork_reason, 'at_ms', forked_at_ms)))) from device"
    ))?
    .query_row([], json)
    .optional()
}

/// Of a device that is open, so that the row exists.
pub fn get(rows: &Connection) -> rusqlite::Result<Identity> {
    find(rows)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

pub fn create(rows: &Connection) -> rusqlite::Result<()> {
    let ids = (
        DeviceId::new().to_string(),
        IncarnationId::new().to_string(),
    );
    rows.execute(
        &format!("insert into device (one, device_id, incarnation, next_seq, marks_seen) values (1, ?1, ?2, 1, {MARKS})"),
        ids,
    )?;
    Ok(())
}

/// Begins a new incarnation. Undecided intents move into it under their old ids, so that none takes effect twice; the
/// feed begins from scratch. The driver sees the old deliveries until the first checkpoint is complete.
pub fn fork(rows: &Connection, reason: &str, now_ms: i64) -> rusqlite::Result<()> {
    rows.execute(
        &format!(
            "update device set incarnation = ?1, next_seq = 1, forks = forks + 1, fork_reason = ?2, forked_at_ms = ?3,
                               marks_seen = {MARKS}"
        ),
        (IncarnationId::new().to_string(), reason, now_ms),
    )?;
    intents::renumber(rows)?;
    restart_feed(rows)
}

/// The next checkpoint begins from scratch and replaces every delivery.
pub fn restart_feed(rows: &Connection) -> rusqlite::Result<()> {
    rows.execute("update device set feed_token = null", [])?;
    deliveries::unstage(rows)
}

/// Stores a credential. A different driver starts without the deliveries of the one before. Their intents stay in the
/// file: the device sends and shows them once their driver enrols here again.
pub fn enrol(rows: &Connection, enrolled: &Enrolled) -> rusqlite::Result<()> {
    let before = get(rows)?.driver;
    if before.is_some_and(|driver| driver.driver_id != enrolled.driver_id) {
        forget_deliveries(rows)?;
    }
    rows.execute(
        "update device set enrolment = 'valid', revoked = 0, driver_id = ?1, driver_name = ?2, token = ?3, token_expires_at_ms = ?4",
        (
            enrolled.driver_id.to_string(),
            &enrolled.driver_name,
            &enrolled.token,
            enrolled.expires_at_ms,
        ),
    )?;
    deliveries::unstage(rows) // the old token's pages are not the new one's
}

/// The owner has another device under this id. Intents keep their ids, so that none takes effect twice.
pub fn draw_another_id(rows: &Connection) -> rusqlite::Result<()> {
    let id = DeviceId::new().to_string();
    rows.execute("update device set device_id = ?1", [id])?;
    Ok(())
}

/// The owner does not accept this token. False: the device has a newer one by now.
pub fn refuse(rows: &Connection, token: &str, revoked: bool) -> rusqlite::Result<bool> {
    let sql = "update device set enrolment = 'expired_or_revoked', revoked = ?2 where token = ?1";
    Ok(rows.execute(sql, (token, revoked))? > 0)
}

/// The owner accepts this token. True: the last time it did not.
pub fn accept(rows: &Connection, token: &str) -> rusqlite::Result<bool> {
    let sql = "update device set enrolment = 'valid' where token = ?1 and enrolment = 'expired_or_revoked'";
    Ok(rows.prepare_cached(sql)?.execute([token])? > 0)
}

/// This device may no longer hold the deliveries.
pub fn forget_deliveries(rows: &Connection) -> rusqlite::Result<()> {
    deliveries::clear(rows)?;
    intents::strip(rows)?;
    rows.execute("update device set feed_at = null", [])?;
    restart_feed(rows)
}

pub fn set_feed(rows: &Connection, token: &str, at: u64) -> rusqlite::Result<()> {
    rows.prepare_cached("update device set feed_token = ?1, feed_at = ?2")?
        .execute((token, super::sequence(at)))?;
    Ok(())
}

pub fn set_contact(rows: &Connection, at_ms: i64) -> rusqlite::Result<()> {
    rows.prepare_cached("update device set last_contact_ms = ?1")?
        .execute([at_ms])?;
    Ok(())
}

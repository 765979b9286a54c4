//! The device's one row: who it is, whose it is, and how far it has followed the owner.

use event_schema::sync::Enrolled;
use event_schema::{DeviceId, DriverId, IncarnationId};
use relay::rusqlite::{self, Connection, OptionalExtension, Row};
use service_kit::parsed;

use super::{deliveries, intents};

/// The row.
#[derive(Clone, Debug)]
pub struct Identity {
    pub device_id: DeviceId,
    pub incarnation: IncarnationId,
    pub marks_seen: u64,
    pub fork: Option<Fork>,
    pub enrolment: Enrolment,
    pub driver: Option<Driver>,
    /// What it proves itself with; stays when the owner does not take it any more, so that it is known again.
    pub token: Option<String>,
    pub feed_token: Option<String>,
    /// The place in the owner's log that the deliveries are as of.
    pub feed_at: Option<u64>,
    pub last_contact_ms: Option<i64>,
}

/// Who uses the device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    pub id: DriverId,
    pub name: String,
}

/// The end of an incarnation, and the beginning of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fork {
    /// Of this device, ever.
    pub times: u64,
    pub reason: String,
    /// By the device's clock.
    pub at_ms: i64,
}

/// What orders-service has last said about the device's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enrolment {
    None,
    Valid,
    /// It was not accepted. That may pass: the device keeps asking with it.
    NotAccepted,
    /// It never will be again.
    Revoked,
}

impl Enrolment {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Valid => "valid",
            Self::NotAccepted | Self::Revoked => "expired_or_revoked",
        }
    }

    fn of(text: &str, revoked: bool) -> Self {
        match text {
            "none" => Self::None,
            "valid" => Self::Valid,
            _ if revoked => Self::Revoked,
            _ => Self::NotAccepted,
        }
    }
}

impl Identity {
    /// The token, if it is worth trying.
    pub fn pass(&self) -> Option<&str> {
        match self.enrolment {
            Enrolment::Valid | Enrolment::NotAccepted => self.token.as_deref(),
            Enrolment::None | Enrolment::Revoked => None,
        }
    }
}

pub fn find(rows: &Connection) -> rusqlite::Result<Option<Identity>> {
    rows.prepare_cached(
        "select device_id, incarnation, marks_seen, forks, fork_reason, forked_at_ms, enrolment,
                driver_id, driver_name, token, feed_token, feed_at, last_contact_ms, revoked
         from device",
    )?
    .query_row([], identity)
    .optional()
}

/// Of a device that has been opened: the row is there.
pub fn get(rows: &Connection) -> rusqlite::Result<Identity> {
    find(rows)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
}

pub fn create(rows: &Connection, marks: u64) -> rusqlite::Result<()> {
    rows.execute(
        "insert into device (one, device_id, incarnation, next_seq, marks_seen) values (1, ?1, ?2, 1, ?3)",
        (DeviceId::new().to_string(), IncarnationId::new().to_string(), marks),
    )?;
    Ok(())
}

/// How often the library has found this file to be a copy of another, or of a later self. The notes stay in the file.
pub fn marks(rows: &Connection) -> rusqlite::Result<u64> {
    rows.query_row(
        "select count(*) from relay_audit where action = 'marked'",
        [],
        |row| row.get(0),
    )
}

pub fn account_for_marks(rows: &Connection, marks: u64) -> rusqlite::Result<()> {
    rows.execute("update device set marks_seen = ?1", [marks])?;
    Ok(())
}

/// Begins a new incarnation. What is unanswered moves into it and keeps its ids, so that nothing is done twice; the
/// feed begins from scratch. The deliveries stay on the screen until it has come.
pub fn fork(rows: &Connection, reason: &str, now_ms: i64) -> rusqlite::Result<()> {
    rows.execute(
        "update device set incarnation = ?1, next_seq = 1, forks = forks + 1, fork_reason = ?2, forked_at_ms = ?3",
        (IncarnationId::new().to_string(), reason, now_ms),
    )?;
    intents::renumber(rows)?;
    restart_feed(rows)
}

/// The next checkpoint begins from nothing, and replaces everything.
pub fn restart_feed(rows: &Connection) -> rusqlite::Result<()> {
    rows.execute("update device set feed_token = null", [])?;
    deliveries::unstage(rows)
}

/// Takes a credential. Another driver than before finds nothing of the one before them. What that one has done stays in
/// the file as theirs: it is sent, and shown, when they enrol here again.
pub fn enrol(rows: &Connection, enrolled: &Enrolled) -> rusqlite::Result<()> {
    let before = get(rows)?.driver;
    if before.is_some_and(|driver| driver.id != enrolled.driver_id) {
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
    deliveries::unstage(rows) // a page that was asked for with the old token is none of the new one's
}

/// The owner knows another device by this id. Intents keep theirs, so that nothing is done twice.
pub fn draw_another_id(rows: &Connection) -> rusqlite::Result<()> {
    rows.execute(
        "update device set device_id = ?1",
        [DeviceId::new().to_string()],
    )?;
    Ok(())
}

/// The owner does not accept this token. One that came in the meantime stays as it is.
pub fn refuse(rows: &Connection, token: &str, revoked: bool) -> rusqlite::Result<bool> {
    let sql = "update device set enrolment = 'expired_or_revoked', revoked = ?2 where token = ?1";
    Ok(rows.execute(sql, (token, revoked))? > 0)
}

/// The owner accepts this token. True: it had not, the last time.
pub fn accept(rows: &Connection, token: &str) -> rusqlite::Result<bool> {
    let sql = "update device set enrolment = 'valid' where token = ?1 and enrolment = 'expired_or_revoked'";
    Ok(rows.prepare_cached(sql)?.execute([token])? > 0)
}

/// The deliveries are not for this device any more.
pub fn forget_deliveries(rows: &Connection) -> rusqlite::Result<()> {
    deliveries::clear(rows)?;
    intents::strip(rows)?;
    rows.execute("update device set feed_at = null", [])?;
    restart_feed(rows)
}

/// The place of the next intent. It is taken with the transaction that asks.
pub fn take_seq(rows: &Connection) -> rusqlite::Result<u64> {
    rows.prepare_cached("update device set next_seq = next_seq + 1 returning next_seq - 1")?
        .query_row([], |row| row.get(0))
}

pub fn set_feed(rows: &Connection, token: &str, at: u64) -> rusqlite::Result<()> {
    rows.prepare_cached("update device set feed_token = ?1, feed_at = ?2")?
        .execute((token, super::place(at)))?;
    Ok(())
}

pub fn set_contact(rows: &Connection, at_ms: i64) -> rusqlite::Result<()> {
    rows.prepare_cached("update device set last_contact_ms = ?1")?
        .execute([at_ms])?;
    Ok(())
}

fn identity(row: &Row<'_>) -> rusqlite::Result<Identity> {
    let enrolment: String = row.get(6)?;
    Ok(Identity {
        device_id: parsed(row, 0)?,
        incarnation: parsed(row, 1)?,
        marks_seen: row.get(2)?,
        fork: fork_of(row)?,
        enrolment: Enrolment::of(&enrolment, row.get(13)?),
        driver: driver(row)?,
        token: row.get(9)?,
        feed_token: row.get(10)?,
        feed_at: row.get(11)?,
        last_contact_ms: row.get(12)?,
    })
}

fn fork_of(row: &Row<'_>) -> rusqlite::Result<Option<Fork>> {
    let (times, reason, at_ms) = (row.get(3)?, row.get(4)?, row.get(5)?);
    let reason: Option<String> = reason;
    let at_ms: Option<i64> = at_ms;
    Ok(reason.zip(at_ms).map(|(reason, at_ms)| Fork {
        times,
        reason,
        at_ms,
    }))
}

fn driver(row: &Row<'_>) -> rusqlite::Result<Option<Driver>> {
    let name: Option<String> = row.get(8)?;
    let Some(name) = name else { return Ok(None) };
    let id = parsed(row, 7)?;
    Ok(Some(Driver { id, name }))
}

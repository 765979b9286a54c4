//! Drivers, their devices, and the one-time codes that enrol devices.

use std::collections::HashSet;

use event_schema::{DeviceEnrolled, DeviceId, DriverEnrolled, DriverId, Version};
use relay::rusqlite::{self, Connection, OptionalExtension};
use service_kit::{Limit, parsed};

use super::rows;
use crate::domain::{Device, Driver};

const DRIVERS: &str =
    "select json_object('id', id, 'name', name, 'revoked_at_ms', revoked_at_ms, 'version', version,
    'enrolled_at_ms', enrolled_at_ms, 'seq', seq) from drivers where";
const DEVICES: &str = "select json_object('id', id, 'driver_id', driver_id, 'revoked', json(iif(revoked, 'true', 'false')),
    'enrolled_at_ms', enrolled_at_ms, 'expires_at_ms', expires_at_ms) from devices where";

/// How often a device may send its code. Responses get lost, but each use is an event.
const MAX_USES: u32 = 10;

/// A code that a device may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code {
    pub driver_id: DriverId,
    /// It was issued for this device, or this device has used it before.
    pub is_of_device: bool,
}

pub(super) fn insert(
    rows: &Connection,
    event: &DriverEnrolled,
    seq: u64,
) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "insert into drivers (id, name, version, enrolled_at_ms, seq)
         select ?1 ->> 'driver_id', ?1 ->> 'name', ?1 ->> 'version', ?1 ->> 'at_ms', ?2",
    )?
    .execute((rows::to_json(event), seq))
}

/// The next version of a driver, and their revocation if there is one.
pub(super) fn update(
    rows: &Connection,
    id: DriverId,
    version: Version,
    revoked_at_ms: Option<i64>,
) -> rusqlite::Result<usize> {
    rows.prepare_cached(
        "update drivers set version = ?2, revoked_at_ms = coalesce(?3, revoked_at_ms) where id = ?1 and version = ?2 - 1",
    )?
    .execute((id.to_string(), version.get(), revoked_at_ms))
}

/// A device that enrols again keeps its id and its position in lists and gets another token.
pub(super) fn put_device(
    rows: &Connection,
    event: &DeviceEnrolled,
    token_hash: &str,
    seq: u64,
) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "insert into devices (id, driver_id, token_hash, revoked, enrolled_at_ms, expires_at_ms, seq)
         select ?1 ->> 'device_id', ?1 ->> 'driver_id', ?2, 0, ?1 ->> 'at_ms', ?1 ->> 'expires_at_ms', ?3 where true
         on conflict (id) do update set driver_id = excluded.driver_id, token_hash = excluded.token_hash, revoked = 0,
           enrolled_at_ms = excluded.enrolled_at_ms, expires_at_ms = excluded.expires_at_ms",
    )?
    .execute((rows::to_json(event), token_hash, seq))?;
    rows.prepare_cached(
        "insert into device_tokens (token_hash, device_id) values (?1, ?2) on conflict do nothing",
    )?
    .execute((token_hash, event.device_id.to_string()))?;
    Ok(())
}

pub(super) fn revoke_device(rows: &Connection, id: DeviceId) -> rusqlite::Result<()> {
    rows.prepare_cached("update devices set revoked = 1 where id = ?1")?
        .execute([id.to_string()])?;
    Ok(())
}

pub fn find(rows: &Connection, id: DriverId) -> rusqlite::Result<Option<Driver>> {
    rows.prepare_cached(&format!("{DRIVERS} id = ?1"))?
        .query_row([id.to_string()], rows::json)
        .optional()
}

/// In the order of enrolment, after the sequence `after`; one more than the limit if there are more.
pub fn list(rows: &Connection, after: Option<i64>, limit: Limit) -> rusqlite::Result<Vec<Driver>> {
    let (after, limit) = (after.unwrap_or(i64::MIN), limit.and_one_more().into());
    rows::list(rows, &format!("{DRIVERS} true"), &[], after, limit)
}

/// Revoked if its driver is revoked, too.
pub fn device_of_token(rows: &Connection, token_hash: &str) -> rusqlite::Result<Option<Device>> {
    let device = rows
        .prepare_cached(&format!("{DEVICES} token_hash = ?1"))?
        .query_row([token_hash], rows::json::<Device>)
        .optional()?;
    device
        .map(|device| {
            let revoked = !may_sync(rows, device.id, device.driver_id)?;
            Ok(Device { revoked, ..device })
        })
        .transpose()
}

/// Whether this device has or had the token.
pub fn had_token(rows: &Connection, id: DeviceId, token_hash: &str) -> rusqlite::Result<bool> {
    rows.prepare_cached("select 1 from device_tokens where token_hash = ?1 and device_id = ?2")?
        .exists((token_hash, id.to_string()))
}

/// Of all devices, including those that were revoked and those that have expired.
pub fn token_hashes(rows: &Connection, _now_ms: i64) -> rusqlite::Result<HashSet<String>> {
    rows.prepare_cached("select token_hash from devices")?
        .query_map((), |row| row.get(0))?
        .collect()
}

/// Of all valid codes.
pub fn code_hashes(rows: &Connection, now_ms: i64) -> rusqlite::Result<HashSet<String>> {
    let sql = "select code_hash from enrolment_codes where expires_at_ms > ?1 and uses < ?2";
    rows.prepare_cached(sql)?
        .query_map((now_ms, MAX_USES), |row| row.get(0))?
        .collect()
}

pub fn find_device(rows: &Connection, id: DeviceId) -> rusqlite::Result<Option<Device>> {
    rows.prepare_cached(&format!("{DEVICES} id = ?1"))?
        .query_row([id.to_string()], rows::json)
        .optional()
}

/// Neither the device nor its driver was revoked, and the device is still this driver's. Check it in the transaction of the
/// effect: a device that passed authentication may have been revoked since.
pub fn may_sync(rows: &Connection, id: DeviceId, driver_id: DriverId) -> rusqlite::Result<bool> {
    rows.prepare_cached(
        "select 1 from devices join drivers on drivers.id = devices.driver_id
         where devices.id = ?1 and drivers.id = ?2 and not devices.revoked and drivers.revoked_at_ms is null",
    )?
    .exists((id.to_string(), driver_id.to_string()))
}

/// In the order of enrolment. A driver has few.
pub fn devices_of(rows: &Connection, driver_id: DriverId) -> rusqlite::Result<Vec<Device>> {
    rows.prepare_cached(&format!("{DEVICES} driver_id = ?1 order by seq"))?
        .query_map([driver_id.to_string()], rows::json)?
        .collect()
}

/// For any new device, or for this one alone. Deletes expired codes.
pub fn put_code(
    rows: &Connection,
    code_hash: &str,
    driver_id: DriverId,
    device_id: Option<DeviceId>,
    (now_ms, expires_at_ms): (i64, i64),
) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from enrolment_codes where expires_at_ms <= ?1")?
        .execute([now_ms])?;
    rows.prepare_cached(
        "insert into enrolment_codes (code_hash, driver_id, device_id, expires_at_ms) values (?1, ?2, ?3, ?4)",
    )?
    .execute((
        code_hash,
        driver_id.to_string(),
        device_id.map(|id| id.to_string()),
        expires_at_ms,
    ))?;
    Ok(())
}

/// The code, if it has not expired, belongs to no other device and was not sent too often.
pub fn find_code(
    rows: &Connection,
    code_hash: &str,
    device_id: DeviceId,
    now_ms: i64,
) -> rusqlite::Result<Option<Code>> {
    rows.prepare_cached(
        "select driver_id, device_id is not null from enrolment_codes
         where code_hash = ?1 and coalesce(device_id, ?2) = ?2 and expires_at_ms > ?3 and uses < ?4",
    )?
    .query_row((code_hash, device_id.to_string(), now_ms, MAX_USES), |row| {
        Ok(Code {
            driver_id: parsed(row, 0)?,
            is_of_device: row.get(1)?,
        })
    })
    .optional()
}

/// Binds the code to this device, which may send it again until it expires: the response may have been lost.
pub fn use_code(rows: &Connection, code_hash: &str, device_id: DeviceId) -> rusqlite::Result<()> {
    rows.prepare_cached(
        "update enrolment_codes set device_id = ?2, uses = uses + 1 where code_hash = ?1",
    )?
    .execute((code_hash, device_id.to_string()))?;
    Ok(())
}

/// The codes of a revoked driver.
pub fn delete_codes_of_driver(rows: &Connection, driver_id: DriverId) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from enrolment_codes where driver_id = ?1")?
        .execute([driver_id.to_string()])?;
    Ok(())
}

/// The codes that a revoked device has used: a thief of the device may have them.
pub fn delete_codes_of_device(rows: &Connection, device_id: DeviceId) -> rusqlite::Result<()> {
    rows.prepare_cached("delete from enrolment_codes where device_id = ?1")?
        .execute([device_id.to_string()])?;
    Ok(())
}

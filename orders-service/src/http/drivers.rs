//! `/drivers` and `/devices`: the drivers, and the devices that are enrolled for them.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use event_schema::sync::{Enrolled, Enrolment};
use event_schema::{DeviceId, DriverId, ReleaseReason};
use relay::Tx;
use relay::rusqlite::Connection;
use serde::{Deserialize, Serialize};

use service_kit::{
    Cursor, ETag, IdempotencyKey, Idempotent, IfMatch, Json, MustMatch, Page, Path, Problem, Query,
    Reply, Token, TokenHash,
};
use utoipa::ToSchema;

use super::{App, Nothing, PageQuery, rfc3339};
use crate::access::{DEVICE, check_up_to_date};
use crate::codes;
use crate::domain::{Device, Driver, OwnEvent};
use crate::events::{make, now_ms};
use crate::problems;
use crate::store::drivers;
use crate::store::orders::{self, Filter};

/// A driver as this service shows one.
#[derive(Serialize, ToSchema)]
#[schema(as = Driver)]
pub(super) struct DriverView {
    id: DriverId,
    #[schema(example = "Mia Santos")]
    name: String,
    revoked: bool,
    /// The number of their changes, from 1. Also the `ETag`.
    #[schema(minimum = 1, example = 2)]
    version: u64,
    /// RFC 3339, UTC.
    enrolled_at: String,
    revoked_at: Option<String>,
    /// Only where one driver is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    devices: Option<Vec<DeviceView>>,
}

/// A device of a driver.
#[derive(Serialize, ToSchema)]
#[schema(as = Device)]
pub(super) struct DeviceView {
    id: DeviceId,
    revoked: bool,
    enrolled_at: String,
    /// When its token expires.
    expires_at: String,
}

/// A driver to be enrolled.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewDriver {
    /// 1 to 200 characters on one line, of any script.
    #[schema(example = "Mia Santos")]
    name: String,
}

/// The device that the code is for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewCode {
    /// A device that is enrolled already and has lost its token: only it may use the code. Without this the code is for any
    /// device that is new, or sends a token of its own.
    #[serde(default)]
    device_id: Option<DeviceId>,
}

/// What the operator reads out to the driver.
#[derive(Serialize, ToSchema)]
pub(super) struct EnrolmentCode {
    /// For one device. Case and dashes are ignored.
    #[schema(example = "K7QM-2XWD-9RTA")]
    code: String,
    expires_at: String,
}

/// How long a device's token is valid: 90 days.
const TOKEN_LIFE_MS: i64 = 90 * 86_400_000;

/// Enrol a driver
#[utoipa::path(
    post, path = "/drivers", tag = "drivers", security(("operator" = [])), request_body = NewDriver, params(IdempotencyKey),
    responses((
        status = 201, description = "Enrolled", body = DriverView,
        headers(
            ("Location" = String, description = "The driver's path"),
            ("ETag" = String, description = "Its version, in quotes"),
        ),
    )),
    extensions(("x-problems" = json!([problems::INVALID_NAME.name()])))
)]
pub(super) async fn enrol(Idempotent(new, once): Idempotent<NewDriver>) -> Result<Reply, Problem> {
    let (id, name) = (DriverId::new(), new.name.parse()?);
    let write = once.write(move |tx| {
        make(tx, Driver::enrol(id, name, now_ms(tx)))?;
        let driver = known(tx, id)?;
        let (location, tag) = (format!("/drivers/{id}"), ETag(driver.version.get()));
        Ok(Reply::created(&location, tag, &DriverView::from(driver)))
    });
    write.await
}

/// List drivers
#[utoipa::path(
    get, path = "/drivers", tag = "drivers", security(("operator" = [])), params(PageQuery),
    responses((status = 200, description = "A page of drivers, in the order of enrolment", body = Page<DriverView>))
)]
pub(super) async fn list(
    State(app): State<App>,
    Query(PageQuery { cursor, limit }): Query<PageQuery>,
) -> Result<impl IntoResponse, Problem> {
    let after = cursor.map(|Cursor(seq)| seq);
    let read = app.db.read(move |rows| drivers::list(rows, after, limit));
    let page = Page::new(read.await?, limit, |driver| driver.seq);
    Ok(Json(page.map(DriverView::from)))
}

/// Read a driver, with their devices
#[utoipa::path(
    get, path = "/drivers/{id}", tag = "drivers", security(("operator" = [])),
    params(("id" = DriverId, Path, description = "The driver's id")),
    responses((
        status = 200, description = "The driver", body = DriverView,
        headers(("ETag" = String, description = "Its version, in quotes")),
    )),
    extensions(("x-problems" = json!([problems::DRIVER_NOT_FOUND.name()])))
)]
pub(super) async fn read(
    State(app): State<App>,
    Path(id): Path<DriverId>,
) -> Result<impl IntoResponse, Problem> {
    let read = app.db.read(move |rows| {
        let driver = known(rows, id)?;
        Ok::<_, Problem>((driver, drivers::devices_of(rows, id)?))
    });
    let (driver, devices) = read.await?;
    let tag = ETag(driver.version.get());
    let devices = devices.into_iter().map(DeviceView::from).collect();
    let view = DriverView {
        devices: Some(devices),
        ..DriverView::from(driver)
    };
    Ok((tag, Json(view)))
}

/// Revoke a driver
///
/// Their devices lose access, and their open orders wait for another driver, in one transaction.
#[utoipa::path(
    post, path = "/drivers/{id}/revoke", tag = "drivers", security(("operator" = [])), request_body = Nothing,
    params(
        IdempotencyKey,
        ("id" = DriverId, Path, description = "The driver's id"),
        ("If-Match" = String, Header, description = "The version you have read, or `*`", example = "\"1\""),
    ),
    responses((
        status = 200, description = "The driver as they are now", body = DriverView,
        headers(("ETag" = String, description = "Its version, in quotes")),
    )),
    extensions(("x-problems" = json!([problems::DRIVER_NOT_FOUND.name(), problems::DRIVER_REVOKED.name()])))
)]
pub(super) async fn revoke(
    Path(id): Path<DriverId>,
    must_match: MustMatch,
    Idempotent(Nothing {}, once): Idempotent<Nothing>,
) -> Result<Reply, Problem> {
    let write = once.write(move |tx| {
        let driver = known(tx, id)?;
        must_match.check(driver.version.get())?;
        make(tx, driver.revoke(now_ms(tx))?)?;
        release_all(tx, id)?;
        drivers::delete_codes_of_driver(tx, id)?;
        let driver = known(tx, id)?;
        let tag = ETag(driver.version.get());
        Ok(Reply::ok(tag, &DriverView::from(driver)))
    });
    write.await
}

/// Issue a one-time code that enrols a device for this driver
///
/// A second request issues another code. Both are valid until they expire, after 15 minutes.
#[utoipa::path(
    post, path = "/drivers/{id}/codes", tag = "drivers", security(("operator" = [])), request_body = NewCode,
    params(
        ("id" = DriverId, Path, description = "The driver's id"),
        ("If-Match" = Option<String>, Header, description = "Issue it only at this version of the driver", example = "\"1\""),
    ),
    responses((status = 201, description = "Read it out to the driver", body = EnrolmentCode)),
    extensions(("x-problems" = json!([problems::DRIVER_NOT_FOUND.name(), problems::DRIVER_REVOKED.name(), problems::DEVICE_NOT_FOUND.name()])))
)]
pub(super) async fn draw_code(
    State(app): State<App>,
    Path(id): Path<DriverId>,
    if_match: IfMatch,
    Json(NewCode { device_id }): Json<NewCode>,
) -> Result<impl IntoResponse, Problem> {
    // No idempotency key: the reply is a secret, which is stored nowhere.
    let (code, now_ms) = (codes::draw(), app.now_ms());
    let (hash, expires_at_ms) = (codes::hash(&code), now_ms + codes::LIFE_MS);
    let write = app.db.write(move |tx| {
        let driver = known(tx, id)?;
        if_match.check(driver.version)?;
        driver.check_active()?;
        device_id.map(|id| known_device(tx, id)).transpose()?;
        let times = (now_ms, expires_at_ms);
        Ok::<_, Problem>(drivers::put_code(tx, &hash, id, device_id, times)?)
    });
    write.await?;
    app.codes.changed();
    let expires_at = rfc3339(expires_at_ms);
    Ok((
        StatusCode::CREATED,
        Json(EnrolmentCode { code, expires_at }),
    ))
}

/// Revoke a device
///
/// Its token is no longer valid. Enrolled again, it goes on with the intents it has not sent yet. This is a change of its
/// driver, who is shown with their devices: `If-Match`, if sent, names the driver's version.
#[utoipa::path(
    post, path = "/devices/{id}/revoke", tag = "drivers", security(("operator" = [])), request_body = Nothing,
    params(
        IdempotencyKey,
        ("id" = DeviceId, Path, description = "The device's id"),
        ("If-Match" = Option<String>, Header, description = "Revoke it only at this version of its driver", example = "\"2\""),
    ),
    responses((status = 200, description = "The device as it is now", body = DeviceView)),
    extensions(("x-problems" = json!([problems::DEVICE_NOT_FOUND.name()])))
)]
pub(super) async fn revoke_device(
    Path(id): Path<DeviceId>,
    if_match: IfMatch,
    Idempotent(Nothing {}, once): Idempotent<Nothing>,
) -> Result<Reply, Problem> {
    let write = once.write(move |tx| {
        let device = known_device(tx, id)?;
        let driver = known(tx, device.driver_id)?;
        if_match.check(driver.version)?;
        if !device.revoked {
            make(tx, driver.revoke_device(id, now_ms(tx)))?;
            drivers::delete_codes_of_device(tx, id)?;
        }
        let view = DeviceView::from(known_device(tx, id)?);
        Ok(Reply::json(StatusCode::OK, &view))
    });
    write.await
}

/// Enrol a device with a one-time code
///
/// The token is shown only once. A device that lost the response sends the same code again, ten times at most, and gets another
/// token.
///
/// A device that was enrolled before also sends a token that it has or had, valid or not, as `Authorization: Bearer`. Without
/// one it needs a code that was issued for it (`device_id` of `POST /drivers/{id}/codes`), so that no other device takes its
/// place. A refusal does not use up the code.
#[utoipa::path(
    post, path = "/devices", tag = "devices", request_body = Enrolment,
    responses((status = 201, description = "Enrolled", body = Enrolled)),
    extensions(("x-problems" = json!([problems::INVALID_CODE.name(), problems::DEVICE_ENROLLED.name(), problems::DRIVER_REVOKED.name(), service_kit::codes::NOT_READY.name()])))
)]
pub(super) async fn enrol_device(
    State(app): State<App>,
    headers: HeaderMap,
    Json(Enrolment { code, device_id }): Json<Enrolment>,
) -> Result<impl IntoResponse, Problem> {
    check_up_to_date(&app.db)?;
    let (now_ms, drawn) = (app.now_ms(), Token::draw(DEVICE.token_prefix));
    let hash = drawn.hash();
    let code_hash = codes::hash(&code);
    if !app.codes.contain(&code_hash).await? {
        return Err(wrong_code());
    }
    let sent = TokenHash::sent(&headers);
    let redeem = move |rows: &Connection| redeem(rows, &code_hash, device_id, sent, now_ms);
    // Anyone may send a used code repeatedly: only a valid one reaches the writer.
    app.db.read(redeem.clone()).await?;
    let write = app.db.write(move |tx| {
        let driver_id = redeem(tx)?;
        drivers::use_code(tx, &codes::hash(&code), device_id)?;
        enrol_for(tx, driver_id, device_id, &hash, now_ms)
    });
    let (driver, expires_at_ms) = write.await?;
    let enrolled = Enrolled {
        device_id,
        driver_id: driver.id,
        driver_name: driver.name,
        token: drawn.reveal().to_owned(),
        expires_at_ms,
    };
    Ok((StatusCode::CREATED, Json(enrolled)))
}

/// The driver of the code. A device that was enrolled before must prove that it is the same one.
fn redeem(
    rows: &Connection,
    code_hash: &str,
    device_id: DeviceId,
    sent: Option<TokenHash>,
    now_ms: i64,
) -> Result<DriverId, Problem> {
    let code = drivers::find_code(rows, code_hash, device_id, now_ms)?.ok_or_else(wrong_code)?;
    let proves = |token: TokenHash| drivers::had_token(rows, device_id, &token.to_string());
    let is_new = drivers::find_device(rows, device_id)?.is_none();
    if !is_new && !code.is_of_device && !sent.map(proves).transpose()?.unwrap_or(false) {
        let detail = "a device with this id is enrolled already: send one of its tokens as `Authorization: Bearer`, or a code that was issued for it";
        return Err(Problem::new(problems::DEVICE_ENROLLED, detail));
    }
    Ok(code.driver_id)
}

fn enrol_for(
    tx: &Tx<'_>,
    driver_id: DriverId,
    device_id: DeviceId,
    token: &TokenHash,
    now_ms: i64,
) -> Result<(Driver, i64), Problem> {
    if let Some(before) = drivers::find_device(tx, device_id)?
        && before.driver_id != driver_id
        && !before.revoked
    {
        let former = known(tx, before.driver_id)?;
        make(tx, former.revoke_device(device_id, now_ms))?;
    }
    let (driver, expires_at_ms) = (known(tx, driver_id)?, now_ms + TOKEN_LIFE_MS);
    let event = driver.enrol_device(device_id, expires_at_ms, now_ms)?;
    let token_hash = Some(token.to_string());
    make(tx, OwnEvent { event, token_hash })?;
    Ok((driver, expires_at_ms))
}

fn wrong_code() -> Problem {
    let detail =
        "this code is wrong, was used by another device, or has expired; ask for another one";
    Problem::field(problems::INVALID_CODE, "code", detail)
}

fn release_all(tx: &Tx<'_>, driver_id: DriverId) -> Result<(), Problem> {
    let theirs = Filter {
        driver_id: Some(driver_id),
        ..Filter::default()
    };
    for order in orders::open_of(tx, theirs)? {
        make(tx, order.release(ReleaseReason::DriverRevoked, now_ms(tx))?)?;
    }
    Ok(())
}

fn known(rows: &Connection, id: DriverId) -> Result<Driver, Problem> {
    let found = drivers::find(rows, id)?;
    problems::found(found, problems::DRIVER_NOT_FOUND, "driver", id)
}

fn known_device(rows: &Connection, id: DeviceId) -> Result<Device, Problem> {
    let found = drivers::find_device(rows, id)?;
    problems::found(found, problems::DEVICE_NOT_FOUND, "device", id)
}

impl From<Driver> for DriverView {
    fn from(driver: Driver) -> Self {
        Self {
            id: driver.id,
            name: driver.name,
            revoked: driver.revoked_at_ms.is_some(),
            version: driver.version.get(),
            enrolled_at: rfc3339(driver.enrolled_at_ms),
            revoked_at: driver.revoked_at_ms.map(rfc3339),
            devices: None,
        }
    }
}

impl From<Device> for DeviceView {
    fn from(device: Device) -> Self {
        Self {
            id: device.id,
            revoked: device.revoked,
            enrolled_at: rfc3339(device.enrolled_at_ms),
            expires_at: rfc3339(device.expires_at_ms),
        }
    }
}

//! Devices are let in by the tokens in this service's own tables, once these are known to be up to date: a device that is
//! turned away by a file that lacks the last events would believe it.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use event_schema::{DeviceId, DriverId};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use relay::Database;
use relay::rusqlite::{self, Connection};
use service_kit::{Kind, Principal, Problem, TokenHash, TokenStore, codes};

use crate::domain::Device;
use crate::hashes::Hashes;
use crate::http::revoked;
use crate::store::drivers;

/// A driver's device. It follows one feed, and meanwhile sends a few intents.
pub const DEVICE: &Kind = &Kind {
    name: "device",
    description: "A driver's device, with the token it got when it was enrolled.",
    token_prefix: "fhd_",
    rate_divisor: 100,
    burst_s: 4,
    max_under_way: Some(16),
};

/// The device that sends a request, and the driver it acts for.
#[derive(Clone, Copy)]
pub struct Caller {
    pub device_id: DeviceId,
    pub driver_id: DriverId,
}

/// The devices that are enrolled.
pub struct Devices {
    db: Database,
    tokens: Hashes,
}

impl Devices {
    pub fn of(db: &Database) -> Arc<dyn TokenStore> {
        let tokens = Hashes::of(db, drivers::token_hashes);
        Arc::new(Self {
            db: db.clone(),
            tokens,
        })
    }
}

impl TokenStore for Devices {
    fn kind(&self) -> &'static Kind {
        DEVICE
    }

    fn find(
        &self,
        token_hash: TokenHash,
    ) -> BoxFuture<'static, Result<Option<Principal>, Problem>> {
        let (db, tokens) = (self.db.clone(), self.tokens.clone());
        async move {
            check_up_to_date(&db)?;
            let hash = token_hash.to_string();
            let read = match tokens.hold(&hash).await? {
                true => db.read(move |rows| known(rows, &hash)).await?,
                false => None,
            };
            match read {
                Some((device, false)) if !has_expired(&device) => Ok(Some(caller(&device))),
                Some((_, true)) => Err(revoked()),
                _ => Ok(None),
            }
        }
        .boxed()
    }
}

/// A file that may be an older copy has devices that were revoked since, and lacks others. Nothing in a file tells that it
/// is none, so each start meets the stream first; after that a broker that is away changes nothing.
pub(crate) fn check_up_to_date(db: &Database) -> Result<(), Problem> {
    match db.gate().reason() {
        Some(why) => Err(not_yet(why)),
        None if db.has_met_its_stream() => Ok(()),
        None => Err(not_yet("it has not reached its stream since it started")),
    }
}

/// Says nothing about the device: it is to ask again. Every token that no operator and no service has may be a device's.
fn not_yet(why: &str) -> Problem {
    let detail = format!(
        "whether a device has this token cannot be told before this service's database agrees with its stream: {why}; try again. Tokens of operators and services are known as ever"
    );
    Problem::new(codes::NOT_READY, detail).retry_later()
}

/// The device, and whether it or its driver was revoked.
fn known(rows: &Connection, hash: &str) -> rusqlite::Result<Option<(Device, bool)>> {
    let Some(device) = drivers::device_of_token(rows, hash)? else {
        return Ok(None);
    };
    let driver = drivers::find(rows, device.driver_id)?;
    let at_work = driver.is_some_and(|driver| driver.at_work().is_ok());
    let revoked = device.revoked || !at_work;
    Ok(Some((device, revoked)))
}

fn has_expired(device: &Device) -> bool {
    device.expires_at_ms <= Timestamp::now().as_millisecond()
}

fn caller(device: &Device) -> Principal {
    Principal {
        acts_for: Some(device.driver_id.to_string()),
        ..Principal::new(DEVICE, device.id.to_string())
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Ok(caller) = Principal::from_request_parts(parts, state).await;
        let ids = caller
            .acts_for
            .as_deref()
            .zip(caller.is(DEVICE).then_some(&caller.id));
        let ids =
            ids.and_then(|(driver, device)| Some((driver.parse().ok()?, device.parse().ok()?)));
        let (driver_id, device_id) = ids.ok_or_else(|| {
            let detail = "this token belongs to no device that is known here";
            Problem::new(codes::UNAUTHORIZED, detail)
        })?;
        Ok(Self {
            device_id,
            driver_id,
        })
    }
}

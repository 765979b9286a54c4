//! Authenticates devices by the tokens in this service's tables, once these are known to be up to date: a device believes a
//! refusal, even one of a database that lacks the last events.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use event_schema::{DeviceId, DriverId};
use futures::FutureExt;
use futures::future::BoxFuture;
use relay::Database;
use service_kit::{Kind, Principal, Problem, TokenHash, TokenStore, codes};

use crate::domain::Device;
use crate::hashes::Hashes;
use crate::problems::revoked;
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

/// The enrolled devices.
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
            let (hash, now_ms) = (
                token_hash.to_string(),
                db.environment().now().as_millisecond(),
            );
            let read = match tokens.contain(&hash).await? {
                true => {
                    db.read(move |rows| drivers::device_of_token(rows, &hash))
                        .await?
                }
                false => None,
            };
            match read {
                Some(device) if device.revoked => Err(revoked()),
                Some(device) if device.expires_at_ms > now_ms => Ok(Some(caller(&device))),
                _ => Ok(None),
            }
        }
        .boxed()
    }
}

/// A database that was restored from a backup has devices that were revoked since, and lacks others. The file itself does not
/// show this, so each start must reach the stream first. Later the broker may be unavailable.
pub fn check_up_to_date(db: &Database) -> Result<(), Problem> {
    match db.gate().reason() {
        Some(why) => Err(not_yet(why)),
        None if db.has_met_its_stream() => Ok(()),
        None => Err(not_yet("it has not reached its stream since it started")),
    }
}

/// The device is to ask again. Any token that is not an operator's or a service's may be a device's.
fn not_yet(why: &str) -> Problem {
    let detail = format!(
        "tokens of devices cannot be checked before this service's database matches its stream: {why}; try again. Tokens of operators and services work"
    );
    Problem::new(codes::NOT_READY, detail).retry_later()
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
        let device = caller.is(DEVICE).then_some(&caller.id);
        let ids = caller.acts_for.as_deref().zip(device);
        let ids =
            ids.and_then(|(driver, device)| Some((driver.parse().ok()?, device.parse().ok()?)));
        let (driver_id, device_id) = ids.ok_or_else(|| {
            let detail = "this token belongs to no known device";
            Problem::new(codes::UNAUTHORIZED, detail)
        })?;
        Ok(Self {
            device_id,
            driver_id,
        })
    }
}

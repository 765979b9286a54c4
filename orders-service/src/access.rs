//! Devices are let in by the tokens in this service's own tables.

use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use relay::Database;
use relay::rusqlite::{self, Connection};
use service_kit::{Caller, Enrolled, Problem, TokenHash};

use crate::domain::Device;
use crate::http::revoked;
use crate::store::drivers;

/// The devices that are enrolled.
pub struct Devices(Database);

impl Devices {
    pub fn of(db: &Database) -> Arc<dyn Enrolled> {
        Arc::new(Self(db.clone()))
    }
}

impl Enrolled for Devices {
    fn find(&self, token_hash: TokenHash) -> BoxFuture<'static, Result<Option<Caller>, Problem>> {
        let db = self.0.clone();
        async move {
            let hash = token_hash.to_string();
            let read = db.read(move |rows| known(rows, &hash)).await?;
            match read {
                Some((device, false)) if !has_expired(&device) => Ok(Some(caller(&device))),
                Some((_, true)) => Err(revoked()),
                _ => Ok(None),
            }
        }
        .boxed()
    }
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

fn caller(device: &Device) -> Caller {
    Caller::Device {
        device_id: device.id.to_string(),
        driver_id: device.driver_id.to_string(),
    }
}

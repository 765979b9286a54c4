//! Drivers and their devices.

use event_schema::{
    DeviceEnrolled, DeviceId, DeviceRevoked, DriverEnrolled, DriverId, OrderEvent, Version,
};

use serde::Deserialize;

use super::DriverName;

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Driver {
    pub id: DriverId,
    pub name: String,
    /// Unix time in milliseconds; `None` while they may deliver.
    pub revoked_at_ms: Option<i64>,
    pub version: Version,
    pub enrolled_at_ms: i64,
    /// The sequence of the event that enrolled them. Lists are in this order.
    pub seq: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Device {
    pub id: DeviceId,
    pub driver_id: DriverId,
    pub revoked: bool,
    pub enrolled_at_ms: i64,
    pub expires_at_ms: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this driver was revoked")]
pub struct DriverRevoked;

impl Driver {
    pub fn enrol(id: DriverId, name: DriverName, at_ms: i64) -> OrderEvent {
        OrderEvent::DriverEnrolled(DriverEnrolled {
            driver_id: id,
            name: name.into(),
            version: Version::FIRST,
            at_ms,
        })
    }

    /// The caller also releases the driver's open orders.
    pub fn revoke(&self, at_ms: i64) -> Result<OrderEvent, DriverRevoked> {
        self.check_active()?;
        Ok(OrderEvent::DriverRevoked(event_schema::DriverRevoked {
            driver_id: self.id,
            version: self.version.next(),
            at_ms,
        }))
    }

    pub fn enrol_device(
        &self,
        device_id: DeviceId,
        expires_at_ms: i64,
        at_ms: i64,
    ) -> Result<OrderEvent, DriverRevoked> {
        self.check_active()?;
        Ok(OrderEvent::DeviceEnrolled(DeviceEnrolled {
            driver_id: self.id,
            device_id,
            expires_at_ms,
            version: self.version.next(),
            at_ms,
        }))
    }

    pub fn revoke_device(&self, device_id: DeviceId, at_ms: i64) -> OrderEvent {
        OrderEvent::DeviceRevoked(DeviceRevoked {
            driver_id: self.id,
            device_id,
            version: self.version.next(),
            at_ms,
        })
    }

    pub fn check_active(&self) -> Result<(), DriverRevoked> {
        match self.revoked_at_ms {
            None => Ok(()),
            Some(_) => Err(DriverRevoked),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revoked_driver_gets_no_device_and_is_not_revoked_again() {
        let mut mia = Driver {
            id: DriverId::new(),
            name: "Mia".to_owned(),
            revoked_at_ms: None,
            version: Version::FIRST,
            enrolled_at_ms: 1,
            seq: 1,
        };
        assert!(mia.enrol_device(DeviceId::new(), 9, 2).is_ok());
        assert_eq!(mia.revoke(2).unwrap().version().get(), 2);
        mia.revoked_at_ms = Some(2);
        assert_eq!(mia.revoke(3), Err(DriverRevoked));
        assert_eq!(mia.enrol_device(DeviceId::new(), 9, 3), Err(DriverRevoked));
    }
}

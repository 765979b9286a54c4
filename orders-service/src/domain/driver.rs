//! Drivers and the devices that speak for them.

use event_schema::{
    DeviceEnrolled, DeviceId, DeviceRevoked, DriverEnrolled, DriverId, DriverRevoked, OrderEvent,
    Version,
};

use super::DriverName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    pub id: DriverId,
    pub name: String,
    /// Since when they may deliver no more. Unix time in milliseconds.
    pub revoked_at_ms: Option<i64>,
    pub version: Version,
    pub enrolled_at_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub id: DeviceId,
    pub driver_id: DriverId,
    pub revoked: bool,
    pub enrolled_at_ms: i64,
    pub expires_at_ms: i64,
}

/// The driver may deliver no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this driver was revoked")]
pub struct Gone;

impl Driver {
    pub fn enrol(id: DriverId, name: DriverName, at_ms: i64) -> OrderEvent {
        OrderEvent::DriverEnrolled(DriverEnrolled {
            driver_id: id,
            name: name.into(),
            version: Version::FIRST,
            at_ms,
        })
    }

    /// Their open orders are to be released beside this.
    pub fn revoke(&self, at_ms: i64) -> Result<OrderEvent, Gone> {
        self.at_work()?;
        Ok(OrderEvent::DriverRevoked(DriverRevoked {
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
    ) -> Result<OrderEvent, Gone> {
        self.at_work()?;
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

    pub fn at_work(&self) -> Result<(), Gone> {
        match self.revoked_at_ms {
            None => Ok(()),
            Some(_) => Err(Gone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_revoked_gets_no_device_and_is_not_revoked_again() {
        let mut mia = Driver {
            id: DriverId::new(),
            name: "Mia".to_owned(),
            revoked_at_ms: None,
            version: Version::FIRST,
            enrolled_at_ms: 1,
        };
        assert!(mia.enrol_device(DeviceId::new(), 9, 2).is_ok());
        assert_eq!(mia.revoke(2).unwrap().version().get(), 2);
        mia.revoked_at_ms = Some(2);
        assert_eq!(mia.revoke(3), Err(Gone));
        assert_eq!(mia.enrol_device(DeviceId::new(), 9, 3), Err(Gone));
    }
}

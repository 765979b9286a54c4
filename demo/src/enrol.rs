//! Devices become drivers' devices, once: an earlier enrolment is found and kept.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use freehold_tests::http::Reply;
use freehold_tests::{DriverApi, OrderApi, within};
use serde_json::Value;

use crate::driver::{driver_id, text};

/// What had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enrolled {
    Before,
    Now,
}

/// How long the device may take to find out whether its enrolment still counts.
const PATIENCE: Duration = Duration::from_secs(20);

/// Makes sure that the device is enrolled for this person.
pub(crate) async fn enrol(orders: &OrderApi, device: &DriverApi, person: &str) -> Result<Enrolled> {
    let enrolled = within(PATIENCE, || enrolled(device)).await;
    let Err(before) = enrolled.map_err(|reason| anyhow!(reason))? else {
        return Ok(Enrolled::Before);
    };
    let driver = driver(orders, before, person).await?;
    let code = expect(orders.code(&driver).await, 201)?;
    expect(device.enrol(text(&code, "code")).await, 200)?;
    Ok(Enrolled::Now)
}

/// `Ok(Err(id))` when it is not enrolled, with the driver it had. An enrolment counts once orders-service has accepted it since
/// the device started: orders-service may have lost it.
async fn enrolled(device: &DriverApi) -> Result<Result<(), Option<String>>, String> {
    let shown = device.state().await.map_err(|error| format!("{error:#}"))?;
    match (shown.enrolment(), shown.0["sync"]["online"].as_bool()) {
        ("valid", Some(true)) => Ok(Ok(())),
        ("valid", _) => {
            let because = text(&shown.0["sync"], "waiting_because");
            Err(format!("it does not reach orders-service: {because}"))
        }
        _ => Ok(Err(driver_id(&shown))),
    }
}

/// The driver the device had, else a driver of that name, both unless revoked; else a new driver.
async fn driver(orders: &OrderApi, before: Option<String>, person: &str) -> Result<String> {
    let listed = expect(orders.get("/drivers?limit=200").await, 200)?;
    let active = listed["items"].as_array().into_iter().flatten();
    let active = active.filter(|driver| driver["revoked"] == false);
    let same = active
        .clone()
        .find(|driver| Some(text(driver, "id")) == before.as_deref());
    match same.or_else(|| active.clone().find(|driver| driver["name"] == person)) {
        Some(driver) => Ok(text(driver, "id").to_owned()),
        None => expect(orders.enrol_driver(person).await, 201).map(|new| text(&new, "id").into()),
    }
}

fn expect(reply: Reply, status: u16) -> Result<Value> {
    if reply.status != status {
        bail!("answered {} {}", reply.status, reply.body);
    }
    Ok(reply.body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_tests::{World, eventually, seconds};

    /// An enrolled device in a world of its own, and the API of orders-service.
    async fn world() -> (World, OrderApi, DriverApi) {
        let world = World::builder().with_drivers(1).start().await;
        let (orders, device) = (OrderApi::of(&world.orders_service), world.drivers[0].api());
        (world, orders, device)
    }

    async fn drivers(orders: &OrderApi) -> usize {
        let page = orders.get("/drivers").await.expect_status(200);
        page.body["items"].as_array().expect("a list").len()
    }

    async fn until_revoked(device: &DriverApi) {
        eventually("the device learns of it", seconds(30), async || {
            let shown = device.state().await.map_err(|error| error.to_string())?;
            let enrolment = shown.enrolment();
            (enrolment != "valid")
                .then_some(())
                .ok_or_else(|| enrolment.to_owned())
        })
        .await;
    }

    #[tokio::test]
    async fn an_enrolled_device_is_left_alone_and_a_revoked_one_is_enrolled_for_the_same_driver() {
        let (world, orders, device) = world().await;
        let driver = &world.drivers[0];
        let again = enrol(&orders, &device, &driver.name).await.unwrap();
        assert_eq!((again, drivers(&orders).await), (Enrolled::Before, 1));

        let known = orders.driver(&driver.id).await.expect_status(200);
        let id = text(&known.body["devices"][0], "id");
        orders.revoke_device(id).await.expect_status(200);
        until_revoked(&device).await;
        let now = enrol(&orders, &device, &driver.name).await.unwrap();
        assert_eq!((now, drivers(&orders).await), (Enrolled::Now, 1));
    }

    #[tokio::test]
    async fn a_revoked_driver_is_replaced_by_a_new_one() {
        let (world, orders, device) = world().await;
        let driver = &world.drivers[0];
        orders.revoke_driver(&driver.id).await.expect_status(200);
        until_revoked(&device).await;
        let now = enrol(&orders, &device, &driver.name).await.unwrap();
        assert_eq!((now, drivers(&orders).await), (Enrolled::Now, 2));
    }
}

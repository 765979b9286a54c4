//! Devices become drivers' devices, once: what has been done before is found, not done again.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use freehold_tests::http::Reply;
use freehold_tests::{DriverApi, Office, within};
use serde_json::Value;

use super::crew::{driver_id, text};

/// What was to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enrolled {
    Before,
    Now,
}

/// What a device says about its enrolment.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Good,
    /// The id of whose device it was.
    Lacking {
        was: Option<String>,
    },
}

/// The device asks orders-service with what it has, and hears whether that still counts.
const PATIENCE: Duration = Duration::from_secs(20);
const PAGE: usize = 200;

/// Sees to it that the device speaks for this person.
pub(super) async fn enrol(office: &Office, device: &DriverApi, person: &str) -> Result<Enrolled> {
    let standing = within(PATIENCE, || standing(device)).await;
    match standing.map_err(|reason| anyhow!(reason))? {
        Standing::Good => Ok(Enrolled::Before),
        Standing::Lacking { was } => {
            let driver = driver(office, was, person).await?;
            let code = expect(office.code(&driver).await, 201)?;
            expect(device.enrol(text(&code, "code")).await, 200)?;
            Ok(Enrolled::Now)
        }
    }
}

/// An enrolment counts once orders-service has taken it since the device started: its data may be older, or gone.
async fn standing(device: &DriverApi) -> Result<Standing, String> {
    let shown = device.state().await.map_err(|error| format!("{error:#}"))?;
    match (shown.enrolment(), shown.0["sync"]["online"].as_bool()) {
        ("valid", Some(true)) => Ok(Standing::Good),
        ("valid", _) => {
            let because = text(&shown.0["sync"], "waiting_because");
            Err(format!("it does not reach orders-service: {because}"))
        }
        _ => Ok(Standing::Lacking {
            was: driver_id(&shown).map(str::to_owned),
        }),
    }
}

/// Who they were, or somebody of that name who may deliver, or a new driver.
async fn driver(office: &Office, was: Option<String>, person: &str) -> Result<String> {
    if let Some(id) = was {
        let known = office.driver(&id).await;
        if known.status == 200 && known.body["revoked"] == false {
            return Ok(id);
        }
    }
    match named(office, person).await? {
        Some(id) => Ok(id),
        None => expect(office.enrol_driver(person).await, 201).map(|new| text(&new, "id").into()),
    }
}

async fn named(office: &Office, person: &str) -> Result<Option<String>> {
    let mut cursor = String::new();
    loop {
        let path = format!("/drivers?limit={PAGE}{cursor}");
        let page = expect(office.get(&path).await, 200)?;
        let found = page["items"].as_array().into_iter().flatten();
        let mut found =
            found.filter(|driver| driver["name"] == person && driver["revoked"] == false);
        if let Some(driver) = found.next() {
            return Ok(Some(text(driver, "id").to_owned()));
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(None),
        }
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

    /// A driver's device in a world of its own, enrolled, and its office.
    async fn world() -> (World, Office, DriverApi) {
        let world = World::builder().with_drivers(1).start().await;
        let (office, device) = (Office::of(&world.orders_service), world.drivers[0].api());
        (world, office, device)
    }

    async fn drivers(office: &Office) -> usize {
        let page = office.get("/drivers").await.expect_status(200);
        page.body["items"].as_array().expect("a list").len()
    }

    async fn until_shut_out(device: &DriverApi) {
        eventually("the device hears of it", seconds(30), async || {
            let shown = device.state().await.map_err(|error| error.to_string())?;
            let enrolment = shown.enrolment();
            (enrolment != "valid")
                .then_some(())
                .ok_or_else(|| enrolment.to_owned())
        })
        .await;
    }

    #[tokio::test]
    async fn what_has_been_done_is_not_done_again_and_who_was_shut_out_comes_back_as_themselves() {
        let (world, office, device) = world().await;
        let driver = &world.drivers[0];
        let again = enrol(&office, &device, &driver.name).await.unwrap();
        assert_eq!((again, drivers(&office).await), (Enrolled::Before, 1));

        let known = office.driver(&driver.id).await.expect_status(200);
        let id = text(&known.body["devices"][0], "id");
        office.revoke_device(id).await.expect_status(200);
        until_shut_out(&device).await;
        let now = enrol(&office, &device, &driver.name).await.unwrap();
        assert_eq!((now, drivers(&office).await), (Enrolled::Now, 1));
    }

    #[tokio::test]
    async fn a_person_who_may_not_deliver_any_more_is_another_driver() {
        let (world, office, device) = world().await;
        let driver = &world.drivers[0];
        office.revoke_driver(&driver.id).await.expect_status(200);
        until_shut_out(&device).await;
        let now = enrol(&office, &device, &driver.name).await.unwrap();
        assert_eq!((now, drivers(&office).await), (Enrolled::Now, 2));
    }
}

//! The order of lists: that of the log, whatever the clock said when an id was drawn.

use event_schema::{Event, OrderEvent, OrderId, UserId};
use orders_service::domain::{Amount, Driver, Order};
use orders_service::events::{MakeError, make};
use orders_service::{MIGRATIONS, service};
use relay::rusqlite::{self, types::Value};
use relay::{Database, Options, Tx};
use service_kit::testing::rows;

use crate::world::{FakeUsers, World, database};

/// An id as it is drawn at that hour: they sort by it.
fn at<Id: std::str::FromStr>(hour: u8) -> Id {
    let id = format!("0191d1a0-{hour:04}-7000-8000-000000000000").parse();
    id.ok().unwrap()
}

fn placed(hour: u8, user: UserId) -> OrderEvent {
    let (amount, currency) = (Amount::try_from(1).unwrap(), "EUR".parse().unwrap());
    Order::place(at(hour), user, amount, currency, hour.into())
}

impl World {
    async fn happens(&self, event: OrderEvent) {
        let write = self.db.write(move |tx| make(tx, event));
        let written: Result<u64, relay::WriteError<MakeError>> = write.await;
        written.map_err(|error| error.to_string()).unwrap();
    }

    /// The ids of a list, in pages of two; `between` happens after the first.
    async fn listed(&self, list: &str, between: Option<OrderEvent>) -> Vec<String> {
        let (mut ids, mut between, mut page) = (Vec::new(), between, String::new());
        loop {
            let shown = self.show(&format!("{list}{page}")).await;
            let shown = shown.get("orders").unwrap_or(&shown);
            let items = shown["items"].as_array().unwrap();
            ids.extend(
                items
                    .iter()
                    .map(|item| item["id"].as_str().unwrap().to_owned()),
            );
            if let Some(event) = between.take() {
                self.happens(event).await;
            }
            match shown["next_cursor"].as_str() {
                Some(cursor) => page = format!("&cursor={cursor}"),
                None => return ids,
            }
        }
    }
}

#[tokio::test]
async fn lists_are_in_the_order_of_the_log_under_a_clock_that_goes_back() {
    let world = World::start(FakeUsers::Know).await;
    let user = world.cached_user("Ada").await;
    let mia = world.driver("Mia").await;
    let (hours, mut tokens) = ([5, 9, 2, 7, 1], Vec::new());
    for hour in hours {
        world.happens(placed(hour, user)).await;
        world.assign(&at::<OrderId>(hour).to_string(), &mia).await;
        world
            .happens(Driver::enrol(at(hour + 10), "Noor".parse().unwrap(), 1))
            .await;
        let enrolled = world.enrol(&world.code(&mia).await, at(hour)).await;
        assert_eq!(enrolled.status, 201, "{enrolled:?}");
        tokens.push(enrolled.json()["token"].as_str().unwrap().to_owned());
    }
    let again = world
        .enrol_again(&world.code(&mia).await, at(9), &tokens[1])
        .await;
    assert_eq!(again.status, 201, "it keeps its place");
    let ids = |hours: &[u8]| -> Vec<_> {
        hours
            .iter()
            .map(|hour| at::<OrderId>(*hour).to_string())
            .collect()
    };
    for list in [
        "/orders?limit=2".to_owned(),
        format!("/orders?limit=2&user_id={user}"),
        format!("/orders?limit=2&driver_id={mia}"),
        "/orders?limit=2&status=assigned".to_owned(),
        format!("/users/{user}/orders?limit=2"),
    ] {
        assert_eq!(world.listed(&list, None).await, ids(&hours), "{list}");
    }
    let drivers = world.listed("/drivers?limit=2", None).await;
    assert_eq!(drivers[1..], ids(&hours.map(|hour| hour + 10)));
    let shown = world.show(&format!("/drivers/{mia}")).await;
    let devices: Vec<_> = shown["devices"].as_array().unwrap().iter().collect();
    let devices: Vec<_> = devices
        .iter()
        .map(|of| of["id"].as_str().unwrap())
        .collect();
    assert_eq!(devices, ids(&hours));

    let devices = world.enrol(&world.code(&mia).await, at(0)).await;
    let page = world
        .api
        .sending(devices.json()["token"].as_str())
        .get("/sync/feed")
        .await
        .json();
    for item in page["items"].as_array().unwrap() {
        let hour = hours
            .iter()
            .position(|hour| ids(&[*hour])[0] == item["delivery"]["order_id"]);
        let (seq, at) = (item["delivery"]["seq"].as_i64().unwrap(), hour.unwrap());
        assert_eq!(
            seq,
            2 + 4 * i64::try_from(at).unwrap(),
            "as in the log: {item}"
        );
    }

    // What is placed while a client pages comes last, and is missed by none.
    let meanwhile = placed(0, user);
    let listed = world.listed("/orders?limit=2", Some(meanwhile)).await;
    assert_eq!(listed, ids(&[5, 9, 2, 7, 1, 0]));
    // Cursors of the program before this one named an id.
    let older = format!("/orders?cursor=c1.{}", at::<OrderId>(5));
    assert_eq!(world.api.get(&older).await.problem(), "400 invalid_query");
}

/// The tables before orders, drivers and devices had their place in the log.
static OLDER: [&str; 3] = [MIGRATIONS[0], MIGRATIONS[1], MIGRATIONS[2]];

#[tokio::test]
async fn an_older_database_lists_rows_without_events_first() {
    let folder = tempfile::tempdir().unwrap();
    let older = Options::new("orders-service", "ORDERS", &OLDER);
    let old = Database::open(folder.path().join("orders.db"), older)
        .await
        .unwrap();
    let write = old.write(|tx| {
        for hour in [5, 9, 2] {
            let (driver, mia) = (
                Driver::enrol(at(hour + 10), "Mia".parse().unwrap(), 1),
                at(hour + 10),
            );
            let device = Driver {
                id: mia,
                name: "Mia".to_owned(),
                revoked_at_ms: None,
                version: event_schema::Version::FIRST,
                enrolled_at_ms: 1,
                seq: 1,
            };
            let device = device.enrol_device(at(hour + 20), 9, 1).unwrap();
            for (at, event) in [placed(hour, UserId::new()), driver, device]
                .into_iter()
                .enumerate()
            {
                let seq = emit(tx, &event);
                let (id, version) = (event.aggregate(), event.version().get());
                tx.execute(
                    "insert into history values (?1, ?2, ?3)",
                    (&id, version, seq),
                )?;
                tx.execute(
                    OLD_ROWS[at],
                    [format!(
                        "0191d1a0-{:04}-7000-8000-000000000000",
                        usize::from(hour) + 10 * at
                    )],
                )?;
            }
        }
        for (rows, id) in OLD_ROWS
            .iter()
            .zip(["older order", "older driver", "older device"])
        {
            tx.execute(rows, [id])?;
        }
        Ok::<_, rusqlite::Error>(())
    });
    write.await.unwrap();
    old.close().await;
    let now = database(folder.path(), service().options()).await;
    for (sql, first) in [
        ("select seq from orders order by seq", 1),
        ("select seq from drivers order by seq", 2),
        ("select seq from devices order by seq", 3),
    ] {
        let expected = [0, first, first + 3, first + 6].map(|seq| [Value::from(seq)]);
        assert_eq!(rows(&now, sql).await, expected, "{sql}");
    }
    let hours = rows(
        &now,
        "select substr(id, 10, 4) from orders where seq > 0 order by seq",
    )
    .await;
    assert_eq!(
        hours,
        ["0005", "0009", "0002"].map(|hour| [Value::from(hour.to_owned())])
    );
}

const OLD_ROWS: [&str; 3] = [
    "insert into orders (id, user_id, amount_minor, currency, status, version, created_at_ms) values (?1, 'u', 1, 'EUR', 'placed', 1, 7)",
    "insert into drivers (id, name, version, enrolled_at_ms) values (?1, 'Mia', 1, 1)",
    "insert into devices (id, driver_id, token_hash, revoked, enrolled_at_ms, expires_at_ms) values (?1, 'd', ?1, 0, 1, 9)",
];

fn emit(tx: &Tx<'_>, event: &OrderEvent) -> u64 {
    let emitted = tx.emit(event);
    emitted.unwrap()
}

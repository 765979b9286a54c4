//! The callers of the access matrix and the resources that they request, created for real.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use freehold_tests::http::{Api, Reply};
use freehold_tests::{Part, Password, Service, World, access, outbox};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::tables::{Row, Target, Thing};

pub(super) struct Stage {
    pub(super) world: World,
    users: Api,
    orders: Api,
    device: Api,
    /// Gets orders that are reassigned.
    pub(super) spare_driver: String,
    customer: String,
    /// The drivers of the world, and a device of each that the test controls.
    own: Device,
    others: Device,
    tokens: Vec<(Who, String)>,
    count: AtomicU64,
}

struct Device {
    driver_id: String,
    token: String,
    /// A position in its feed.
    place: String,
}

/// A caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    Unauthenticated,
    WrongToken,
    Operator,
    ExpiredOperator,
    /// By a line of the access file.
    Service,
    /// By the read token of the called service.
    Reader,
    Device,
    RevokedDevice,
    DeviceOfRevokedDriver,
    ExpiredDevice,
}

/// The role that a caller gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Operator,
    Service,
    Device,
}

impl Who {
    const ALL: [Who; 10] = [
        Who::Unauthenticated,
        Who::WrongToken,
        Who::Operator,
        Who::ExpiredOperator,
        Who::Service,
        Who::Reader,
        Who::Device,
        Who::RevokedDevice,
        Who::DeviceOfRevokedDriver,
        Who::ExpiredDevice,
    ];

    /// A device does not authenticate callers; a few of them show that all get the same.
    pub(super) fn at(service: &str) -> &'static [Who] {
        match service {
            "driver-app" => &[Who::Unauthenticated, Who::WrongToken, Who::Operator],
            _ => &Who::ALL,
        }
    }

    pub(super) fn kind(self) -> Option<Kind> {
        match self {
            Who::Operator => Some(Kind::Operator),
            Who::Service | Who::Reader => Some(Kind::Service),
            Who::Device => Some(Kind::Device),
            _ => None,
        }
    }
}

impl Stage {
    pub(super) async fn set() -> Stage {
        let mut world = World::builder().with_drivers(2).start().await;
        let customer = world.users().register("Ada", "ada@example.org").await;
        let customer = customer.expect_status(201).id().to_owned();
        let own = device_of(&world, &world.drivers[0].id.clone()).await;
        let others = device_of(&world, &world.drivers[1].id.clone()).await;
        let spare_driver = driver(&world).await;
        let mut tokens = outsiders(&world).await;
        tokens.push((Who::Device, own.token.clone()));
        tokens.extend(let_in(&world));
        begin_anew(&mut world).await;
        let of = |service: &Service| Api::new(service.url(), None);
        Stage {
            users: of(&world.user_service),
            orders: of(&world.orders_service),
            device: of(&world.drivers[0].app),
            world,
            spare_driver,
            customer,
            own,
            others,
            tokens,
            count: AtomicU64::new(0),
        }
    }

    /// Without a token.
    pub(super) fn api(&self, service: &str) -> &Api {
        match service {
            "user-service" => &self.users,
            "orders-service" => &self.orders,
            _ => &self.device,
        }
    }

    pub(super) fn service(&self, name: &str) -> &Service {
        match name {
            "user-service" => &self.world.user_service,
            "orders-service" => &self.world.orders_service,
            _ => &self.world.drivers[0].app,
        }
    }

    /// The token that this caller sends.
    pub(super) fn token(&self, service: &str, who: Who) -> Option<String> {
        let known = self.tokens.iter().find(|(of, _)| *of == who);
        match who {
            Who::Unauthenticated => None,
            Who::Operator => Some(self.world.user_service.operator.reveal().to_owned()),
            Who::Reader if service == "user-service" => Some(read_token(&self.world.user_service)),
            Who::Reader => Some(read_token(&self.world.orders_service)),
            _ => Some(
                known
                    .expect("everybody else has one token everywhere")
                    .1
                    .clone(),
            ),
        }
    }

    pub(super) fn fresh_address(&self) -> String {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        format!("user{count}@example.org")
    }

    /// Path and body for each target. They can be reused, because every call is refused.
    pub(super) async fn shared(&self, service: &str, row: &Row) -> [(String, Option<String>); 3] {
        [
            self.made(service, row, Target::Own).await,
            self.made(service, row, Target::Others).await,
            self.made(service, row, Target::Missing).await,
        ]
    }

    /// Path and body of a resource that is created for this call.
    pub(super) async fn made(
        &self,
        service: &str,
        row: &Row,
        target: Target,
    ) -> (String, Option<String>) {
        let thing = self.thing(service, row.thing, target).await;
        let path = row
            .path()
            .replace("{id}", &thing)
            .replace("{reader}", "a-reader");
        let path = match row.thing {
            Thing::Place => format!("{path}?after={thing}"),
            Thing::Event => path.replace("{seq}", "1") + &format!("?id={thing}"),
            _ => path,
        };
        (path, row.body.map(|body| body(self, &thing).to_string()))
    }

    async fn thing(&self, service: &str, thing: Thing, target: Target) -> String {
        let owner = match target {
            Target::Own => &self.own,
            Target::Others => &self.others,
            Target::Missing => return self.missing(thing),
        };
        match thing {
            Thing::Nothing => String::new(),
            Thing::User => self.user().await,
            Thing::Order if service == "driver-app" => self.shown_order(target).await,
            Thing::Order | Thing::Wish => self.order(owner).await,
            Thing::Driver => driver(&self.world).await,
            Thing::Device => enrol(&self.world, &owner.driver_id).await.0,
            Thing::Intent => self.conflict(owner).await,
            Thing::Code => self.code(target).await,
            Thing::Place => owner.place.clone(),
            Thing::Event => first_event(self.service(service)),
        }
    }

    fn missing(&self, thing: Thing) -> String {
        let id = Uuid::now_v7();
        match thing {
            Thing::Code => "AAAA-AAAA-AAAA".to_owned(),
            Thing::Place => self.own.place.replace(&self.own.driver_id, &id.to_string()),
            _ => id.to_string(),
        }
    }

    /// Some calls delete this user, so it is never the customer of an order.
    async fn user(&self) -> String {
        let (users, address) = (self.world.users(), self.fresh_address());
        let user = users.register("Ada", &address).await.expect_status(201);
        let seen = user
            .header("freehold-position")
            .expect("a place")
            .to_owned();
        let request = self.world.orders().request(Method::GET, "/orders?limit=1");
        let seen = Reply::of(request.header("Freehold-Wait-For", seen)).await;
        seen.expect_status(200);
        user.id().to_owned()
    }

    async fn order(&self, of: &Device) -> String {
        let office = self.world.orders();
        let order = office
            .place(&self.customer, 1250, "EUR")
            .await
            .expect_status(201);
        let assigned = office.assign(order.id(), None, &of.driver_id).await;
        assigned.expect_status(200);
        order.id().to_owned()
    }

    /// One that the device of its driver shows.
    async fn shown_order(&self, target: Target) -> String {
        let driver = &self.world.drivers[target as usize];
        let order = self.order(if target == Target::Own {
            &self.own
        } else {
            &self.others
        });
        let order = order.await;
        let shown = |it: &freehold_tests::Shown| it.delivery(&order).is_some();
        let deadline = freehold_tests::seconds(30);
        driver
            .api()
            .wait_until("the order is there", deadline, shown)
            .await;
        order
    }

    /// The driver delivers an order that the office has cancelled meanwhile.
    async fn conflict(&self, of: &Device) -> String {
        let order = self.order(of).await;
        let sync = Api::new(self.world.orders_service.url(), None);
        let send = async |upload: &Value| {
            let request = sync.request(Method::POST, "/sync/intents").json(upload);
            let reply = Reply::of(request.bearer_auth(&of.token)).await;
            reply.expect_status(200).body["verdicts"][0].clone()
        };
        assert_eq!(send(&upload("pick_up", &order)).await["verdict"], "applied");
        let office = self.world.orders();
        let cancelled = office.cancel(&order, None, "customer_request").await;
        cancelled.expect_status(200);
        let upload = upload("deliver", &order);
        let verdict = send(&upload).await;
        assert_eq!(verdict["verdict"], "conflict", "{verdict}");
        let intent = &upload["intents"][0]["intent_id"];
        intent.as_str().expect("text").to_owned()
    }

    async fn code(&self, target: Target) -> String {
        let code = draw(&self.world, &self.own.driver_id).await;
        if target == Target::Others {
            exchange(&self.world, &code).await;
        }
        code
    }
}

/// One intent of a new incarnation.
pub(super) fn upload(kind: &str, order: &str) -> Value {
    json!({"incarnation": Uuid::now_v7(), "intents": [{
        "intent_id": Uuid::now_v7(), "seq": 1, "order_id": order, "kind": kind, "arguments": {}, "base_version": 2,
        "schema_version": if kind == "deliver" { 2 } else { 1 }, "device_time_ms": 0,
    }]})
}

async fn driver(world: &World) -> String {
    let driver = world.orders().enrol_driver("Mia").await;
    driver.expect_status(201).id().to_owned()
}

async fn draw(world: &World, driver_id: &str) -> String {
    let code = world.orders().code(driver_id).await.expect_status(201);
    code.body["code"].as_str().expect("text").to_owned()
}

/// A device's id and token.
async fn exchange(world: &World, code: &str) -> (String, String) {
    let device_id = Uuid::now_v7().to_string();
    let body = json!({"code": code, "device_id": device_id});
    let api = Api::new(world.orders_service.url(), None);
    let enrolled = api.send(Method::POST, "/devices", &body).await;
    let enrolled = enrolled.expect_status(201).body;
    (
        device_id,
        enrolled["token"].as_str().expect("text").to_owned(),
    )
}

async fn enrol(world: &World, driver_id: &str) -> (String, String) {
    let code = draw(world, driver_id).await;
    exchange(world, &code).await
}

async fn device_of(world: &World, driver_id: &str) -> Device {
    let (_, token) = enrol(world, driver_id).await;
    let api = Api::new(world.orders_service.url(), None);
    let request = api.request(Method::GET, "/sync/feed").bearer_auth(&token);
    let page = Reply::of(request).await.expect_status(200);
    Device {
        driver_id: driver_id.to_owned(),
        token,
        place: page.body["next"].as_str().expect("text").to_owned(),
    }
}

/// Devices without access any more, and a token that was never issued.
async fn outsiders(world: &World) -> Vec<(Who, String)> {
    let office = world.orders();
    let (gone, stays) = (driver(world).await, driver(world).await);
    let of_gone = enrol(world, &gone).await;
    let revoked = enrol(world, &stays).await;
    let expired = enrol(world, &stays).await;
    office.revoke_driver(&gone).await.expect_status(200);
    office.revoke_device(&revoked.0).await.expect_status(200);
    vec![
        (Who::WrongToken, Password::generate().reveal().to_owned()),
        (Who::DeviceOfRevokedDriver, of_gone.1),
        (Who::RevokedDevice, revoked.1),
        (Who::ExpiredDevice, expired.1),
    ]
}

/// Lines of the access files: an expired operator, and another service.
fn let_in(world: &World) -> [(Who, String); 2] {
    let (expired, service) = (Password::generate(), Password::generate());
    for file in [&world.user_service, &world.orders_service].map(access_file) {
        access::let_in(&file, "past", &expired).expect("written");
        access::let_in(&file, "billing", &service).expect("written");
        let text = fs::read_to_string(&file).expect("readable");
        let text = text.replace("operator billing", "service billing");
        let lines = text
            .lines()
            .map(|line| match line.starts_with("operator past") {
                true => format!("{line} expires 2020-01-01T00:00:00Z\n"),
                false => format!("{line}\n"),
            });
        fs::write(&file, lines.collect::<String>()).expect("written");
    }
    [
        (Who::ExpiredOperator, expired.reveal().to_owned()),
        (Who::Service, service.reveal().to_owned()),
    ]
}

fn access_file(service: &Service) -> PathBuf {
    service.database.with_added_extension("access")
}

fn read_token(service: &Service) -> String {
    let variable = match service.name() {
        "user-service" => "FREEHOLD_USERS_READ_TOKEN",
        _ => "FREEHOLD_ORDERS_READ_TOKEN",
    };
    let found = service.env.iter().find(|(name, _)| name == variable);
    found.expect("the harness gives it one").1.clone()
}

/// Restarts the services with the present files, without a request limit, and with an expired device.
async fn begin_anew(world: &mut World) {
    for service in [&mut world.user_service, &mut world.orders_service] {
        service.stop().await.expect("in time");
        let often = ["--max-requests-per-second", "1000000"];
        service.args.extend(often.map(str::to_owned));
    }
    let file = rusqlite::Connection::open(&world.orders_service.database).expect("it is there");
    let changed = file.execute(EXPIRE, []).expect("the table is there");
    assert_eq!(changed, 1, "one device's time is over");
    drop(file);
    for service in [&mut world.user_service, &mut world.orders_service] {
        service
            .start()
            .await
            .unwrap_or_else(|error| panic!("{error}"));
    }
}

/// The device that was enrolled last.
const EXPIRE: &str = "update devices set expires_at_ms = 1 where id = (select id from devices order by id desc limit 1)";

fn first_event(service: &Service) -> String {
    let events = outbox::read_all(&service.database).expect("it is there");
    let envelope: Value = serde_json::from_slice(&events[0].bytes).expect("JSON");
    envelope["id"].as_str().expect("text").to_owned()
}

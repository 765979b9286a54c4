//! The office cancels an order that a driver delivers offline. Both sides keep both versions, a person decides, and every outcome
//! is an event that reaches the device, also when either side is killed between any two steps, and when answers are lost.

use freehold_tests::{DriverApi, OrderApi, Part, Shown, World, eventually, outbox, seconds};
use serde_json::{Value, json};

/// The fault between any two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    DeviceKilled,
    OwnerKilled,
    /// The device's requests arrive, but it gets no answer.
    AnswersLost,
}

/// A driver with one delivery, picked up and delivered without a network, and cancelled by the office meanwhile.
struct Scene {
    world: World,
    trouble: Trouble,
    order: String,
    pick_up: String,
    deliver: String,
}

const NOTE: &str = "given to the customer in person";
const PATIENCE: std::time::Duration = seconds(30);

#[tokio::test(flavor = "multi_thread")]
async fn the_office_upholds_a_delivery_that_it_had_cancelled() {
    under_every_trouble(async |mut scene| {
        scene.upheld().await;
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_accepts_that_the_order_is_cancelled() {
    under_every_trouble(async |mut scene| {
        scene.accepted().await;
        scene.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_driver_insists_and_the_office_dismisses_it() {
    under_every_trouble(async |mut scene| {
        scene.insisted_and_dismissed().await;
        scene.end().await;
    })
    .await;
}

/// Another driver's order leaves the first driver's device, and the conflict keeps no more than that driver had seen.
#[tokio::test]
async fn a_delivery_of_an_order_that_was_given_to_another_driver_can_be_upheld_and_leaves_that_one()
{
    let world = World::builder().with_drivers(2).start().await;
    let (office, [mia, ben]) = (world.orders(), [&world.drivers[0], &world.drivers[1]]);
    let order = assigned(&world, &mia.id).await;
    shows(&mia.api(), &order, "assigned").await;
    mia.switch.off();
    mia.api().pick_up(&order).await.expect_status(202);
    let deliver = mia.api().deliver(&order, Some(NOTE)).await;
    let deliver = text(&deliver.expect_status(202).body["intent_id"]);
    office
        .assign(&order, None, &ben.id)
        .await
        .expect_status(200);
    shows(&ben.api(), &order, "assigned").await;
    mia.switch.on();
    let shown = mia.api().until_quiet(head(&world)).await;
    let conflict = shown.conflict(&deliver).expect("a conflict");
    assert_eq!(conflict["code"], "another_driver");
    assert_eq!(
        (&conflict["note"], &conflict["current"]),
        (&json!(NOTE), &Value::Null)
    );
    assert_eq!(shown.delivery(&order), None, "it is another driver's");

    office
        .decide(&deliver, None, "upheld")
        .await
        .expect_status(200);
    shows(&mia.api(), &order, "delivered").await;
    let gone = |shown: &Shown| shown.delivery(&order).is_none();
    ben.api()
        .wait_until("it has left the other driver", PATIENCE, gone)
        .await;
    let order = office.order(&order).await.body;
    assert_eq!(
        (&order["driver_id"], &order["note"]),
        (&json!(mia.id), &json!(NOTE))
    );
}

/// The first driver's answer was lost with their network; the device asks again as the second driver's.
#[tokio::test]
async fn the_first_drivers_intents_keep_their_verdicts_when_the_device_changes_hands() {
    let mut world = World::builder().with_drivers(1).start().await;
    let (office, first) = (world.orders(), world.drivers[0].id.clone());
    let order = assigned(&world, &first).await;
    let device = world.drivers[0].api();
    shows(&device, &order, "assigned").await;
    world.drivers[0].switch.lose_answers();
    let pick_up = intent(device.pick_up(&order).await);
    eventually("it is judged", PATIENCE, async || {
        let judged = office.intent(&pick_up).await;
        (judged.status == 200).then_some(()).ok_or(judged.body)
    })
    .await;
    office.revoke_driver(&first).await.expect_status(200);
    world.drivers[0].switch.on();
    device.sync().await;
    let is_revoked = |shown: &Shown| shown.enrolment() == "expired_or_revoked";
    device
        .wait_until("it is revoked", PATIENCE, is_revoked)
        .await;

    world.drivers[0].join(&office).await.expect("enrolled");
    let shown = device.until_quiet(head(&world)).await;
    assert_eq!(
        (shown.refused().count(), shown.deliveries().count()),
        (0, 0),
        "{shown}"
    );
    assert_eq!(office.intent(&pick_up).await.body["verdict"], "applied");
}

/// The four worlds do not meet and mostly wait for retries, so they play at the same time.
async fn under_every_trouble(decision: impl AsyncFn(Scene)) {
    let play = async |trouble| {
        let mut scene = Scene::begin(trouble).await;
        scene.both_sides_keep_both_facts().await;
        decision(scene).await;
    };
    tokio::join!(
        Box::pin(play(Trouble::None)),
        Box::pin(play(Trouble::DeviceKilled)),
        Box::pin(play(Trouble::OwnerKilled)),
        Box::pin(play(Trouble::AnswersLost)),
    );
}

impl Scene {
    async fn begin(trouble: Trouble) -> Scene {
        let world = World::builder().with_drivers(1).start().await;
        let order = assigned(&world, &world.drivers[0].id).await;
        let device = world.drivers[0].api();
        shows(&device, &order, "assigned").await;
        world.drivers[0].switch.off();
        let mut scene = Scene {
            world,
            trouble,
            order,
            pick_up: String::new(),
            deliver: String::new(),
        };
        scene.pick_up = intent(device.pick_up(&scene.order).await);
        scene.something_happens().await;
        scene.deliver = intent(device.deliver(&scene.order, Some(NOTE)).await);
        scene.something_happens().await;
        let cancelled = scene
            .orders()
            .cancel(&scene.order, Some(2), "customer_request")
            .await;
        cancelled.expect_status(200);
        let shown = device.state().await.expect("it answers");
        assert_eq!(
            shown.status_of(&scene.order),
            Some("delivered"),
            "as the driver did it"
        );
        scene.something_happens().await;
        scene.go_online().await;
        scene
    }

    /// The driver's side has the office's version, the office's side has the driver's intent.
    async fn both_sides_keep_both_facts(&mut self) {
        let shown = self.quiet().await;
        assert_eq!(shown.conflicts().count(), 2, "{shown}");
        let row = shown.conflict(&self.deliver).expect("a conflict");
        assert_eq!(
            (&row["kind"], &row["note"]),
            (&json!("deliver"), &json!(NOTE))
        );
        assert_eq!(
            (&row["code"], &row["decision"]),
            (&json!("order_cancelled"), &Value::Null)
        );
        let current = &row["current"];
        assert_eq!(
            (&current["status"], &current["cancel_reason"]),
            (&json!("cancelled"), &json!("customer_request"))
        );
        assert_eq!(shown.status_of(&self.order), Some("cancelled"));

        let kept = self
            .orders()
            .intent(&self.deliver)
            .await
            .expect_status(200)
            .body;
        assert_eq!(
            (&kept["verdict"], &kept["status"]),
            (&json!("conflict"), &json!("cancelled"))
        );
        assert_eq!(
            (&kept["arguments"], &kept["base_version"]),
            (&json!({"note": NOTE}), &json!(2))
        );
        assert_eq!(kept["order"]["status"], "cancelled");
        let open = self.orders().intents("open=true").await.expect("listed");
        assert_eq!(open.len(), 2, "{open:?}");
        self.something_happens().await;
    }

    async fn upheld(&mut self) {
        let office = self.orders();
        let read = office.intent(&self.deliver).await.expect_status(200);
        let tag = read.headers["etag"].to_str().expect("a tag").to_owned();
        let version = format!("\"{}\"", office.order(&self.order).await.version());
        for other in ["\"2.0\"", &*version] {
            let stale = office.decide(&self.deliver, Some(other), "upheld").await;
            assert_eq!(stale.expect_status(412).problem(), Some("version_mismatch"));
        }
        let impossible = office.decide(&self.pick_up, None, "upheld").await;
        assert_eq!(impossible.problem(), Some("cannot_uphold"));
        let decided = office.decide(&self.deliver, Some(&tag), "upheld").await;
        assert_eq!(
            decided.expect_status(200).body["order"]["status"],
            "delivered"
        );
        self.something_happens().await;
        let dismissed = office.decide(&self.pick_up, None, "dismissed").await;
        dismissed.expect_status(200);
        self.something_happens().await;

        let shown = self.until_decided().await;
        let delivery = shown.delivery(&self.order).expect("it is there");
        assert_eq!(
            (&delivery["status"], &delivery["note"]),
            (&json!("delivered"), &json!(NOTE))
        );
        assert_eq!(delivery["cancel_reason"], Value::Null);
        let said = [
            "intent_refused conflict",
            "delivered upheld",
            "conflict_decided upheld",
        ];
        assert_eq!(self.events(&self.deliver), said);
        assert_eq!(
            self.events(&self.pick_up),
            ["intent_refused conflict", "conflict_decided dismissed"]
        );
    }

    async fn accepted(&mut self) {
        for about in [self.pick_up.clone(), self.deliver.clone()] {
            self.driver_decides(&about, "accepted").await;
        }
        let shown = self.until_decided().await;
        assert_eq!(shown.status_of(&self.order), Some("cancelled"));
        for about in [&self.pick_up, &self.deliver] {
            assert_eq!(
                self.events(about),
                ["intent_refused conflict", "conflict_decided accepted"]
            );
            let kept = self.orders().intent(about).await.body;
            assert_eq!(
                (&kept["decision"], &kept["decided_by"]),
                (&json!("accepted"), &json!("driver"))
            );
            let late = self.orders().decide(about, None, "dismissed").await;
            assert_eq!(late.expect_status(409).problem(), Some("already_decided"));
        }
    }

    async fn insisted_and_dismissed(&mut self) {
        for about in [self.pick_up.clone(), self.deliver.clone()] {
            self.driver_decides(&about, "insisted").await;
            let is_insisted = |shown: &Shown| {
                shown
                    .conflict(&about)
                    .is_some_and(|row| row["decision"] == "insisted" && row["deciding"] == false)
            };
            self.device()
                .wait_until("it waits for the office", PATIENCE, is_insisted)
                .await;
            let open = self.orders().intents("open=true").await.expect("listed");
            assert_eq!(open[&about]["decision"], "insisted");
            let dismissed = self.orders().decide(&about, None, "dismissed").await;
            dismissed.expect_status(200);
            self.something_happens().await;
        }
        let shown = self.until_decided().await;
        assert_eq!(shown.status_of(&self.order), Some("cancelled"));
        for about in [&self.pick_up, &self.deliver] {
            let said = [
                "intent_refused conflict",
                "conflict_decided insisted",
                "conflict_decided dismissed",
            ];
            assert_eq!(self.events(about), said);
        }
    }

    /// Again without a network at first.
    async fn driver_decides(&mut self, about: &str, decision: &str) {
        self.driver().switch.off();
        self.device()
            .decide(about, decision)
            .await
            .expect_status(202);
        let twice = self.device().decide(about, decision).await;
        assert_eq!(twice.expect_status(409).problem(), Some("not_possible_now"));
        self.something_happens().await;
        self.go_online().await;
        self.quiet().await;
        self.something_happens().await;
    }

    /// Nothing is open on either side, and the whole log is in order.
    async fn end(self) {
        let open = self.orders().intents("open=true").await.expect("listed");
        assert!(open.is_empty(), "{open:?}");
        let database = &self.world.orders_service.database;
        crate::ledger::Ledger::of(database).expect_tables(database);
        if self.trouble == Trouble::AnswersLost {
            assert!(
                self.driver().switch.lost_answers() > 0,
                "the fault did not fire"
            );
        }
    }

    async fn something_happens(&mut self) {
        match self.trouble {
            Trouble::None | Trouble::AnswersLost => {}
            Trouble::DeviceKilled => again(&mut self.world.drivers[0].app).await,
            Trouble::OwnerKilled => again(&mut self.world.orders_service).await,
        }
    }

    async fn go_online(&self) {
        let (driver, before) = (self.driver(), self.driver().switch.lost_answers());
        if self.trouble == Trouble::AnswersLost {
            driver.switch.lose_answers();
            // The way up and the way down lose one each.
            eventually("answers get lost", PATIENCE, async || {
                driver.api().sync().await;
                let lost = driver.switch.lost_answers() - before;
                (lost >= 2).then_some(()).ok_or(lost)
            })
            .await;
        }
        driver.switch.on();
        driver.api().sync().await;
    }

    async fn quiet(&self) -> Shown {
        self.device().until_quiet(head(&self.world)).await
    }

    async fn until_decided(&self) -> Shown {
        let decided = |shown: &Shown| shown.conflicts().count() == 0;
        self.device()
            .wait_until("the decisions have arrived", PATIENCE, decided)
            .await;
        self.quiet().await
    }

    fn driver(&self) -> &freehold_tests::Driver {
        &self.world.drivers[0]
    }

    fn device(&self) -> DriverApi {
        self.driver().api()
    }

    fn orders(&self) -> OrderApi {
        self.world.orders()
    }

    /// The events of an intent in the log.
    fn events(&self, about: &str) -> Vec<String> {
        let events = outbox::read_all(&self.world.orders_service.database).expect("read");
        let events = events
            .iter()
            .map(|event| serde_json::from_slice(&event.bytes).expect("JSON"));
        let about_it = |event: &Value| {
            let data = &event["data"];
            data["intent_id"] == about || data["intent"]["intent_id"] == about
        };
        events
            .filter(about_it)
            .map(|event| in_words(&event))
            .collect()
    }
}

async fn again(part: &mut impl Part) {
    part.kill();
    part.start().await.expect("it starts again");
}

fn in_words(event: &Value) -> String {
    let kind = text(&event["type"])
        .replace("orders.", "")
        .replace(".v1", "")
        .replace(".v2", "");
    let data = &event["data"];
    let more = data["verdict"].as_str().or(data["decision"].as_str());
    let upheld = (data["upheld"] == true).then_some("upheld");
    [Some(&*kind), more, upheld]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last sequence of the log of orders.
fn head(world: &World) -> u64 {
    outbox::head(&world.orders_service.database).expect("read")
}

/// An order of Ada's in this driver's hands.
pub(crate) async fn assigned(world: &World, driver_id: &str) -> String {
    let email = format!("{}@example.org", uuid::Uuid::now_v7());
    let user = world
        .users()
        .register("Ada", &email)
        .await
        .expect_status(201);
    let order = world
        .orders()
        .place(user.id(), 1250, "EUR")
        .await
        .expect_status(201);
    let assigned = world.orders().assign(order.id(), Some(1), driver_id).await;
    assigned.expect_status(200).id().to_owned()
}

pub(crate) async fn shows(device: &DriverApi, order: &str, status: &str) -> Shown {
    let is_so = |shown: &Shown| shown.status_of(order) == Some(status);
    device
        .wait_until(&format!("it shows {status}"), PATIENCE, is_so)
        .await
}

fn intent(reply: freehold_tests::http::Reply) -> String {
    text(&reply.expect_status(202).body["intent_id"])
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

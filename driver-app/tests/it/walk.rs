//! A seeded walk: a driver, an office, a bad network, kills and copies, in any order. In the end, when the network is
//! back, the device shows the owner's state, and every intent has one verdict and at most one effect.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use event_schema::sync::Outcome;
use event_schema::{DriverId, IntentId, OrderId};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::owner::Fault;
use crate::world::World;

const STEPS: usize = 300;

#[tokio::test]
async fn whatever_happens_the_device_and_the_owner_agree_in_the_end() {
    let seed = match std::env::var("DRIVER_APP_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) => rand::random(),
    };
    for seed in [1, 2, seed] {
        println!("seed {seed}: again with DRIVER_APP_SEED={seed}");
        Walk::begin(seed).await.go().await;
    }
}

struct Walk {
    world: World,
    chance: SmallRng,
    orders: Vec<OrderId>,
    /// Intents that the device accepted with 202, and their deliveries.
    accepted: BTreeMap<IntentId, String>,
    copies: usize,
}

impl Walk {
    async fn begin(seed: u64) -> Self {
        let mut world = World::new().await;
        world.enrol().await;
        Self {
            world,
            chance: SmallRng::seed_from_u64(seed),
            orders: Vec::new(),
            accepted: BTreeMap::new(),
            copies: 0,
        }
    }

    async fn go(mut self) {
        for _ in 0..STEPS {
            self.step().await;
        }
        self.calm_down().await;
        self.compare().await;
    }

    async fn step(&mut self) {
        match self.chance.random_range(0..100) {
            0..8 => self.office_places(),
            8..11 => self.office_cancels(),
            11..13 => self.office_takes_away(),
            13..15 => self.office_decides(),
            15..40 => self.driver_acts().await,
            40..45 => self.driver_reads().await,
            45..60 => drop(self.world.up().await),
            60..75 => drop(self.world.down().await),
            75..85 => self.network_fails(),
            85..88 => self.owner_is_slow(),
            88..90 => self.owner_pages(),
            90..93 => self.world.device().status().sync_now(),
            93..98 => self.world.kill().await,
            98..99 => self.copy().await,
            _ => self.forget_faults(),
        }
    }

    fn office_places(&mut self) {
        let order = self.world.owner.truth().place(self.world.driver);
        self.orders.push(order);
    }

    fn office_cancels(&mut self) {
        if let Some(order) = self.ours() {
            self.world.owner.truth().cancel(order);
        }
    }

    fn office_takes_away(&mut self) {
        if let Some(order) = self.ours() {
            self.world.owner.truth().reassign(order, DriverId::new());
        }
    }

    fn office_decides(&mut self) {
        let driver = self.world.driver;
        let mut truth = self.world.owner.truth();
        let open = truth
            .conflicts
            .iter()
            .find(|(_, decision)| decision.as_deref().is_none_or(|word| word == "insisted"));
        if let Some(id) = open.map(|(id, _)| *id) {
            let word = if self.chance.random() {
                "upheld"
            } else {
                "dismissed"
            };
            truth.overrule(driver, id, word);
        }
    }

    fn ours(&mut self) -> Option<OrderId> {
        let truth = self.world.owner.truth();
        let ours: Vec<_> = truth
            .of(self.world.driver)
            .iter()
            .map(|delivery| delivery.order_id)
            .collect();
        ours.choose(&mut self.chance).copied()
    }

    /// Takes an action that the device offers.
    async fn driver_acts(&mut self) {
        let state = self.world.state().await;
        let can = |delivery: &&Value| !delivery["can"].as_array().unwrap().is_empty();
        let deliveries: Vec<_> = state["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .filter(can)
            .collect();
        let Some(delivery) = deliveries.choose(&mut self.chance) else {
            return;
        };
        let what = delivery["can"]
            .as_array()
            .unwrap()
            .choose(&mut self.chance)
            .unwrap()
            .as_str()
            .unwrap();
        let body = match what {
            "report_problem" => json!({"problem": "nobody_home", "note": "rang twice"}),
            "deliver" => json!({"note": "at the door"}),
            _ => json!({}),
        };
        let order = delivery["order_id"].as_str().unwrap().to_owned();
        let intent = self.world.does(order.parse().unwrap(), what, body).await;
        self.accepted.insert(intent.parse().unwrap(), order);
    }

    /// Decides, dismisses, retries.
    async fn driver_reads(&mut self) {
        let state = self.world.state().await;
        let conflicts = state["conflicts"].as_array().unwrap();
        let open = |row: &&Value| row["deciding"] == false && row["decision"] == Value::Null;
        if let Some(row) = conflicts.iter().find(open) {
            let decision = if self.chance.random() {
                "accepted"
            } else {
                "insisted"
            };
            let path = format!(
                "/api/conflicts/{}/decide",
                row["intent_id"].as_str().unwrap()
            );
            let answer = self
                .world
                .api()
                .post(&path, &json!({"decision": decision}))
                .await;
            assert_eq!(answer.status, 202, "{answer:?}");
            let intent = answer.json()["intent_id"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            self.accepted
                .insert(intent, row["order_id"].as_str().unwrap().to_owned());
        }
        if let Some(row) = state["refused"]
            .as_array()
            .unwrap()
            .choose(&mut self.chance)
        {
            let (word, status) = if row["gave_up"] == true {
                ("retry", 202)
            } else {
                ("dismiss", 204)
            };
            let path = format!("/api/refused/{}/{word}", row["intent_id"].as_str().unwrap());
            let answer = self.world.api().post(&path, &json!({})).await;
            assert_eq!(answer.status, status, "{answer:?}");
        }
    }

    fn network_fails(&mut self) {
        let faults = [
            Fault::Drop,
            Fault::LoseAnswer,
            Fault::LoseAnswer,
            Fault::Refuse(503, "busy"),
            Fault::Refuse(429, "slow_down"),
            Fault::Refuse(413, "body_too_large"),
            Fault::Refuse(409, "incarnation_forked"),
            Fault::Garbage,
            Fault::Portal,
        ];
        let fault = faults.choose(&mut self.chance).unwrap().clone();
        self.world.owner.fail(fault);
    }

    fn owner_is_slow(&mut self) {
        if let Some(order) = self.orders.choose(&mut self.chance) {
            let mut truth = self.world.owner.truth();
            if !truth.busy.remove(&order.to_string()) {
                truth.busy.insert(order.to_string());
            }
        }
    }

    fn owner_pages(&mut self) {
        let mut truth = self.world.owner.truth();
        truth.page = self.chance.random_range(1..4);
        truth.begin_snapshot = self.chance.random();
    }

    /// Copies the device's file and continues with the copy.
    async fn copy(&mut self) {
        self.world.close().await;
        self.copies += 1;
        let copy = self
            .world
            .folder
            .path()
            .join(format!("copy-{}.db", self.copies));
        fs::copy(&self.world.path, &copy).unwrap();
        self.world.path = copy;
        self.world.open().await;
        let state = self.world.state().await;
        assert!(
            state["sync"]["forked"]["times"].as_u64().is_some(),
            "a copy is known as one"
        );
    }

    fn forget_faults(&mut self) {
        self.world.owner.truth().faults.clear();
    }

    /// The network is back; the driver retries what failed.
    async fn calm_down(&mut self) {
        {
            let mut truth = self.world.owner.truth();
            truth.faults.clear();
            truth.busy.clear();
        }
        for _ in 0..3 {
            self.world.sync().await;
            for row in self.world.state().await["refused"].as_array().unwrap() {
                if row["gave_up"] == true {
                    let path = format!("/api/refused/{}/retry", row["intent_id"].as_str().unwrap());
                    assert_eq!(self.world.api().post(&path, &json!({})).await.status, 202);
                }
            }
        }
        self.world.sync().await;
    }

    async fn compare(&mut self) {
        let state = self.world.state().await;
        assert_eq!(state["sync"]["pending"], 0, "{state:#}");
        assert_eq!(state["sync"]["waiting_because"], Value::Null, "{state:#}");
        let truth = self.world.owner.truth();
        let fields = ["order_id", "status", "version", "note", "problems"];
        let of = |value: &Value| fields.map(|field| value[field].clone());
        let shown: BTreeSet<_> = state["deliveries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| format!("{:?}", of(row)))
            .collect();
        let told = truth.of(self.world.driver);
        let told = told
            .iter()
            .map(|delivery| serde_json::to_value(delivery).unwrap());
        assert_eq!(
            shown,
            told.map(|delivery| format!("{:?}", of(&delivery)))
                .collect()
        );
        let judged: BTreeSet<_> = truth.judged.keys().copied().collect();
        assert_eq!(
            self.accepted.keys().copied().collect::<BTreeSet<_>>(),
            judged,
            "each has its verdict, and nothing else"
        );
        for (intent, outcome) in &truth.judged {
            let effects = truth.effects.get(intent).copied().unwrap_or(0);
            assert_eq!(
                effects,
                u32::from(matches!(outcome, Outcome::Applied { .. })),
                "{intent}"
            );
        }
        let open = truth
            .conflicts
            .iter()
            .filter(|(_, decision)| decision.as_deref().is_none_or(|word| word == "insisted"));
        let open: BTreeSet<_> = open.map(|(id, _)| json!(id).to_string()).collect();
        let rows = state["conflicts"].as_array().unwrap().iter();
        assert_eq!(
            rows.map(|row| row["intent_id"].to_string())
                .collect::<BTreeSet<_>>(),
            open,
            "conflicts are the same on both sides"
        );
    }
}

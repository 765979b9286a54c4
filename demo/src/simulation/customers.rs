//! Simulated customers: each tick of the set rate is one registration, renaming or order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use freehold_tests::chance;
use freehold_tests::http::Reply;
use tokio::sync::Semaphore;
use tokio::time::interval;

use super::scene::{Placed, Scene};

/// More at a time would only queue inside the services.
const AT_ONCE: usize = 64;
/// Renames and orders draw from this many users.
const REMEMBERED: usize = 1000;
/// While this many orders wait for a driver, customers place no other: drivers are slower than customers.
const WAITING: usize = 8;
/// Names in many scripts: they must come through byte for byte.
const NAMES: [&str; 12] = [
    "Ada Lovelace",
    "Zoë Müller",
    "Søren Ørsted",
    "李小龍",
    "Ольга Иванова",
    "محمد علي",
    "אריאל שרון",
    "さくら",
    "Nguyễn Văn An",
    "Γιώργος Σεφέρης",
    "अनिल कुमार",
    "O'Brien-Łukasz",
];

struct Customers {
    scene: Scene,
    known: Mutex<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Register,
    Rename,
    Order,
}

/// Runs until dropped. A slow service slows the traffic down instead of piling it up.
pub(super) async fn act(scene: Scene, rate: f64) {
    let known = Mutex::default();
    let customers = Arc::new(Customers { scene, known });
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        ticks.tick().await;
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let customers = Arc::clone(&customers);
        tokio::spawn(async move {
            customers.act().await;
            drop(permit);
        });
    }
}

impl Customers {
    async fn act(&self) {
        let full = self.has_drivers() && self.scene.waiting().len() >= WAITING;
        let action = match action(chance::number()) {
            Action::Order if full => Action::Rename,
            action => action,
        };
        let user = chance::one_of(&self.known()).cloned();
        let reply = match (action, user) {
            (Action::Rename, Some(user)) => self.rename(&user).await,
            (Action::Order, Some(user)) => self.order(&user).await,
            _ => self.register().await,
        };
        self.scene.note(&reply);
    }

    async fn rename(&self, user: &str) -> Reply {
        let reply = self.scene.users.rename(user, name()).await;
        if reply.status == 404 {
            self.forget(user);
        }
        reply
    }

    async fn order(&self, user: &str) -> Reply {
        let amount = chance::in_range(100..10_000);
        let reply = self.scene.orders.place(user, amount.into(), "EUR").await;
        match reply.status {
            201 if self.has_drivers() => self.scene.waiting().push_back(Placed::of(&reply.body)),
            422 => self.forget(user),
            _ => {}
        }
        reply
    }

    async fn register(&self) -> Reply {
        let email = format!("u{:016x}@example.org", chance::number());
        let reply = self.scene.users.register(name(), &email).await;
        if reply.status == 201 {
            let mut known = self.known();
            known.push(reply.id().to_owned());
            if known.len() > REMEMBERED {
                known.remove(0);
            }
        }
        reply
    }

    /// The user is deleted.
    fn forget(&self, id: &str) {
        self.known().retain(|known| known != id);
    }

    /// Without them orders are placed without limit, and wait.
    fn has_drivers(&self) -> bool {
        !self.scene.drivers.is_empty()
    }

    fn known(&self) -> MutexGuard<'_, Vec<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Four in ten register, two rename, four order.
fn action(drawn: u64) -> Action {
    match drawn % 10 {
        0..4 => Action::Register,
        4..6 => Action::Rename,
        _ => Action::Order,
    }
}

fn name() -> &'static str {
    chance::one_of(&NAMES).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_has_its_share() {
        let count = |wanted| (0..10).filter(|drawn| action(*drawn) == wanted).count();
        let shares = [Action::Register, Action::Rename, Action::Order].map(count);
        assert_eq!(shares, [4, 2, 4]);
    }
}

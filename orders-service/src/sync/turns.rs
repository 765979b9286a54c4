//! One upload of a driver at a time: however many a device sends at once, one of them stands in the database's queue, and
//! the next upload of anybody else is right behind it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use event_schema::DriverId;
use tokio::sync::OwnedMutexGuard;

/// Clones share the queues.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<Queues>>);

/// Of each driver with an upload under way.
type Queues = HashMap<DriverId, Arc<tokio::sync::Mutex<()>>>;

/// Until it is dropped, no other upload of this driver is taken.
pub struct Turn {
    turns: Turns,
    driver_id: DriverId,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turns {
    /// Waits for those that came before.
    pub async fn wait(&self, driver_id: DriverId) -> Turn {
        let queue = self.queues().entry(driver_id).or_default().clone();
        let held = Some(queue.lock_owned().await);
        let turns = self.clone();
        Turn {
            turns,
            driver_id,
            held,
        }
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A queue in which nobody stands is forgotten. Who waits has it in hand, so it is not the map's alone.
impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        self.held = None;
        if queues
            .get(&self.driver_id)
            .is_some_and(|queue| Arc::strong_count(queue) == 1)
        {
            queues.remove(&self.driver_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    /// Its turn, if that has come.
    fn look(wait: std::pin::Pin<&mut impl Future<Output = Turn>>) -> Option<Turn> {
        match wait.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_driver_has_one_turn_at_a_time_and_others_do_not_wait_for_it() {
        let (turns, mia, ben) = (Turns::default(), DriverId::new(), DriverId::new());
        let first = look(pin!(turns.wait(mia))).unwrap();
        let mut second = pin!(turns.wait(mia));
        assert!(look(second.as_mut()).is_none());
        drop(look(pin!(turns.wait(ben))).unwrap());
        drop(first);
        drop(look(second.as_mut()).unwrap());
    }

    #[test]
    fn nothing_is_kept_of_those_who_have_gone() {
        let (turns, mia) = (Turns::default(), DriverId::new());
        let first = look(pin!(turns.wait(mia))).unwrap();
        {
            let mut gave_up = pin!(turns.wait(mia));
            assert!(look(gave_up.as_mut()).is_none());
        }
        drop(first);
        assert!(turns.queues().is_empty());
    }
}

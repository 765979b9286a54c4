//! One upload of a driver at a time. However many requests a device sends at once, one of them waits for the database, and
//! the uploads of other drivers are not delayed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use event_schema::DriverId;
use tokio::sync::OwnedMutexGuard;

/// Clones share the queues.
#[derive(Clone, Default)]
pub struct Turns(Arc<Mutex<Queues>>);

/// Those with uploads keep their queue alive.
type Queues = HashMap<DriverId, Weak<tokio::sync::Mutex<()>>>;

/// Until it is dropped, no other upload of this driver begins.
pub type Turn = OwnedMutexGuard<()>;

impl Turns {
    pub async fn wait(&self, driver_id: DriverId) -> Turn {
        self.queue(driver_id).lock_owned().await
    }

    fn queue(&self, driver_id: DriverId) -> Arc<tokio::sync::Mutex<()>> {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|_, queue| queue.strong_count() > 0);
        let known = queues.get(&driver_id).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let queue = Arc::default();
            queues.insert(driver_id, Arc::downgrade(&queue));
            queue
        })
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
    fn a_queue_is_freed_with_its_last_upload() {
        let (turns, mia) = (Turns::default(), DriverId::new());
        let first = look(pin!(turns.wait(mia))).unwrap();
        {
            let mut gave_up = pin!(turns.wait(mia));
            assert!(look(gave_up.as_mut()).is_none());
        }
        drop(first);
        drop(look(pin!(turns.wait(DriverId::new()))).unwrap());
        assert_eq!(turns.0.lock().unwrap().len(), 1, "the other driver's");
    }
}

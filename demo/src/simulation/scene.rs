//! What customers, dispatcher and drivers act on: the services, the devices, the orders that wait for a driver.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use freehold_tests::OrderApi;
use freehold_tests::UserApi;
use freehold_tests::http::Reply;
use serde_json::Value;

use crate::console::Console;
use crate::driver::{Driver, text};

/// Clones are the same scene.
#[derive(Clone)]
pub(crate) struct Scene {
    pub(crate) users: UserApi,
    pub(crate) orders: OrderApi,
    pub(crate) drivers: Vec<Driver>,
    pub(crate) console: Console,
    waiting: Arc<Mutex<VecDeque<Placed>>>,
    failed: Arc<AtomicU64>,
}

/// An order and its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) order_id: String,
    pub(super) user_id: String,
}

impl Scene {
    pub(crate) fn new(
        users: UserApi,
        orders: OrderApi,
        drivers: Vec<Driver>,
        console: &Console,
    ) -> Scene {
        Scene {
            users,
            orders,
            drivers,
            console: console.clone(),
            waiting: Arc::default(),
            failed: Arc::default(),
        }
    }

    /// Orders of sample customers that no driver has yet, the oldest first.
    pub(super) fn waiting(&self) -> MutexGuard<'_, VecDeque<Placed>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that were answered with an error, or not at all.
    pub(crate) fn failed_requests(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Counts a failure. That another change came first, or that the user is deleted, is none.
    pub(super) fn note(&self, reply: &Reply) {
        if !reply.is_success() && !matches!(reply.status, 404 | 409 | 412 | 422) {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Placed {
    /// An order as orders-service answers it.
    pub(super) fn of(order: &Value) -> Placed {
        Placed {
            order_id: text(order, "id").to_owned(),
            user_id: text(order, "user_id").to_owned(),
        }
    }
}

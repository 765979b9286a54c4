//! What customers, dispatcher and drivers share: orders that wait for a driver, and the count of failed requests.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use freehold_tests::http::Reply;
use serde_json::Value;

use crate::driver::text;

#[derive(Debug, Default)]
pub(super) struct Shared {
    waiting: Mutex<VecDeque<Placed>>,
    failed: AtomicU64,
}

/// An order and its customer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) order_id: String,
    pub(super) user_id: String,
}

impl Shared {
    /// The oldest first.
    pub(super) fn waiting(&self) -> MutexGuard<'_, VecDeque<Placed>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self) -> u64 {
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

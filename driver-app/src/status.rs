//! What the program keeps in memory for the sync loops and the page: the last contact with orders-service, and who has to
//! wake up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Notify, watch};

/// Shared by the loops and the page.
pub struct Status {
    contact: Mutex<Contact>,
    /// Grows with every change that the page shows.
    revision: watch::Sender<u64>,
    pub(crate) upload: Wake,
    pub(crate) feed: Wake,
}

/// The last contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The owner has replied since the program started, or since the device enrolled.
    reached: bool,
    /// By the device's clock.
    pub last_contact_ms: Option<i64>,
    /// The device's clock minus the owner's, to the second.
    pub clock_off_by_ms: Option<i64>,
    /// Why a part of the sync waits, in words for the driver.
    waits: BTreeMap<Part, String>,
}

/// A part of the sync; the one whose trouble matters most comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Upload,
    Feed,
    /// Single deliveries.
    Lanes,
}

/// Wakes one loop. If the loop is busy, it wakes as soon as it waits.
#[derive(Default)]
pub(crate) struct Wake {
    notify: Notify,
    /// The driver asked to sync now: waits end.
    now: AtomicBool,
}

impl Status {
    pub(crate) fn new(last_contact_ms: Option<i64>) -> Self {
        let contact = Contact {
            last_contact_ms,
            ..Contact::default()
        };
        Self {
            contact: Mutex::new(contact),
            // Not from 0: a page that outlives a restart must not mistake the new count for the old one.
            revision: watch::Sender::new(u64::from(rand::random::<u32>())),
            upload: Wake::default(),
            feed: Wake::default(),
        }
    }

    pub fn contact(&self) -> Contact {
        self.lock().clone()
    }

    /// To be compared for equality only.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The page shows something else now.
    pub(crate) fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    /// The owner replied. `date_ms` is its clock, if the reply had a date.
    pub(crate) fn reached(&self, part: Part, now_ms: i64, date_ms: Option<i64>) {
        self.set(|contact| {
            contact.reached = true;
            contact.last_contact_ms = Some(now_ms);
            if let Some(date_ms) = date_ms {
                contact.see_clock(now_ms.saturating_sub(date_ms));
            }
            contact.waits.remove(&part);
        });
    }

    /// Why this part waits now; `None`: it does not.
    pub(crate) fn set_wait(&self, part: Part, why: Option<String>) {
        self.set(|contact| match why {
            Some(why) => drop(contact.waits.insert(part, why)),
            None => drop(contact.waits.remove(&part)),
        });
    }

    /// The device has a new credential: earlier failures say nothing about it.
    pub(crate) fn forget_failures(&self) {
        self.set(|contact| {
            contact.reached = false;
            contact.waits.retain(|part, _| *part == Part::Lanes);
        });
    }

    /// Ends every wait of both loops.
    pub fn sync_now(&self) {
        for wake in [&self.upload, &self.feed] {
            wake.now.store(true, Ordering::Relaxed);
            wake.wake();
        }
    }

    /// The time of the last contact alone is no news for the page.
    fn set(&self, change: impl FnOnce(&mut Contact)) {
        let mut contact = self.lock();
        let mut before = contact.clone();
        change(&mut contact);
        before.last_contact_ms = contact.last_contact_ms;
        if *contact != before {
            self.changed();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Contact> {
        self.contact
            .lock()
            .expect("no task panics while it holds the contact")
    }
}

impl Contact {
    /// Neither loop failed at its last contact. A loop that had nothing to do has not failed.
    pub fn online(&self) -> bool {
        self.reached && !self.waits.keys().any(|part| *part != Part::Lanes)
    }

    /// The reason that matters most.
    pub fn waits_because(&self) -> Option<&str> {
        self.waits.values().next().map(String::as_str)
    }

    /// Dates come to the second and after a delay, so smaller differences are noise.
    fn see_clock(&mut self, off_by_ms: i64) {
        let same = |known: i64| known.abs_diff(off_by_ms) < 2000;
        if !self.clock_off_by_ms.is_some_and(same) {
            self.clock_off_by_ms = Some(off_by_ms);
        }
    }
}

impl Wake {
    pub(crate) fn wake(&self) {
        self.notify.notify_one();
    }

    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Did the driver ask to sync now, since the last call?
    pub(crate) fn take_now(&self) -> bool {
        self.now.swap(false, Ordering::Relaxed)
    }
}

//! How the device stands with orders-service, in memory: what the file cannot know, and what is said about it.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Shared by the loops and the screen.
pub struct Status {
    now: Mutex<Contact>,
    /// Grows with every change of what is shown.
    revision: watch::Sender<u64>,
    /// How often somebody said: now.
    hurries: AtomicU64,
}

/// The last contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contact {
    /// The owner has answered since the program began, or since somebody enrolled.
    pub heard: bool,
    /// By the device's clock.
    pub last_contact_ms: Option<i64>,
    /// The device's clock minus the owner's, which says no more than the second.
    pub clock_off_by_ms: Option<i64>,
    /// Why nothing is sent, in words for the driver; so the last contact on that way was none.
    pub uploading: Option<String>,
    /// Why nothing comes.
    pub feeding: Option<String>,
    /// Why single deliveries wait.
    pub holding: Option<String>,
}

/// One of the two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
}

impl Status {
    pub(crate) fn new() -> Self {
        // Not from 0: a page that outlives a restart of the program must not take the new count for the old one.
        Self {
            now: Mutex::default(),
            revision: watch::Sender::new(u64::from(rand::random::<u32>())),
            hurries: AtomicU64::new(0),
        }
    }

    pub fn contact(&self) -> Contact {
        self.lock().clone()
    }

    /// To be compared for equality only.
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// What is shown has changed.
    pub(crate) fn changed(&self) {
        self.revision.send_modify(|revision| *revision += 1);
    }

    pub(crate) fn begin(&self, last_contact_ms: Option<i64>) {
        self.set(|now| now.last_contact_ms = last_contact_ms);
    }

    /// The owner has answered.
    pub(crate) fn heard(&self, way: Way, now_ms: i64, date_ms: Option<i64>) {
        self.set(|now| {
            now.heard = true;
            now.last_contact_ms = Some(now_ms);
            if let Some(off_by) = date_ms.map(|date_ms| now_ms.saturating_sub(date_ms)) {
                now.see_clock(off_by);
            }
            *now.of(way) = None;
        });
    }

    /// It has not, or not as it should.
    pub(crate) fn trouble(&self, way: Way, words: &str) {
        self.set(|now| {
            *now.of(way) = Some(words.to_owned());
        });
    }

    /// There is nothing wrong with the way itself.
    pub(crate) fn clear(&self, way: Way) {
        self.set(|now| *now.of(way) = None);
    }

    pub(crate) fn hold(&self, words: Option<String>) {
        self.set(|now| now.holding = words);
    }

    pub(crate) fn forget_troubles(&self) {
        self.set(|now| (now.heard, now.uploading, now.feeding) = (false, None, None));
    }

    pub(crate) fn hurry(&self) {
        self.hurries.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn hurries(&self) -> u64 {
        self.hurries.load(Ordering::Relaxed)
    }

    fn set(&self, change: impl FnOnce(&mut Contact)) {
        let mut now = self.lock();
        let before = now.clone();
        change(&mut now);
        let changed = *now
            != Contact {
                last_contact_ms: now.last_contact_ms,
                ..before
            };
        drop(now);
        if changed {
            self.changed();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Contact> {
        self.now
            .lock()
            .expect("nothing panics while it holds the status")
    }
}

impl Contact {
    fn of(&mut self, way: Way) -> &mut Option<String> {
        match way {
            Way::Up => &mut self.uploading,
            Way::Down => &mut self.feeding,
        }
    }

    /// Neither way had trouble at its last contact. One that was not needed yet has had none.
    pub fn online(&self) -> bool {
        self.heard && self.uploading.is_none() && self.feeding.is_none()
    }

    /// Answers come with the second only, and after a while: what differs by less is the same.
    fn see_clock(&mut self, off_by_ms: i64) {
        let same = |known: i64| known.abs_diff(off_by_ms) < 2000;
        if !self.clock_off_by_ms.is_some_and(same) {
            self.clock_off_by_ms = Some(off_by_ms);
        }
    }

    /// The one reason to tell, the most telling first.
    pub fn waits_because(&self) -> Option<&str> {
        let reasons = [&self.uploading, &self.feeding, &self.holding];
        reasons.into_iter().find_map(Option::as_deref)
    }
}

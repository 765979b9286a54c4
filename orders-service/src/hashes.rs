//! The hashes of valid secrets, in memory. A token or a code that is not among them is refused without a query, however many
//! guesses arrive.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relay::Database;
use relay::error::ReadError;
use relay::rusqlite::{self, Connection};
use tokio::time::Instant;

/// Reads them at a Unix time in milliseconds.
type Read = fn(&Connection, i64) -> rusqlite::Result<HashSet<String>>;

/// All hashes of one kind. Clones share them.
#[derive(Clone)]
pub struct Hashes(Arc<Inner>);

struct Inner {
    db: Database,
    read: Read,
    changes: AtomicU64,
    seen: Mutex<Seen>,
    /// One refresh at a time. Callers that wait for it use its result.
    refreshing: tokio::sync::Mutex<()>,
}

/// The result of the last refresh.
#[derive(Default)]
struct Seen {
    hashes: HashSet<String>,
    version: u64,
    at: Option<Instant>,
}

/// Between two refreshes that guesses cause. A new device waits no longer than this.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// Without a commit the hashes stay valid. Not for ever, because the log may be replaced by another.
const MAX_AGE: Duration = Duration::from_secs(1);

impl Hashes {
    pub fn of(db: &Database, read: Read) -> Self {
        Self(Arc::new(Inner {
            db: db.clone(),
            read,
            changes: AtomicU64::new(0),
            seen: Mutex::default(),
            refreshing: tokio::sync::Mutex::default(),
        }))
    }

    /// Whether this one is valid. It may have been valid only before: the caller looks it up.
    pub async fn contain(&self, hash: &str) -> Result<bool, ReadError<rusqlite::Error>> {
        let version = self.version();
        if let Some(known) = self.seen().contain(hash, version) {
            return Ok(known);
        }
        let _refreshing = self.0.refreshing.lock().await;
        if let Some(known) = self.seen().contain(hash, version) {
            return Ok(known);
        }
        self.refresh().await?;
        Ok(self.seen().hashes.contains(hash))
    }

    /// To be called for a new one that no event announces.
    pub fn changed(&self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }

    async fn refresh(&self) -> Result<(), ReadError<rusqlite::Error>> {
        let last = self.seen().at;
        if let Some(last) = last {
            tokio::time::sleep_until(last + MIN_PAUSE).await;
        }
        let (version, read) = (self.version(), self.0.read);
        let now_ms = self.0.db.environment().now().as_millisecond();
        let hashes = self.0.db.read(move |rows| read(rows, now_ms)).await?;
        let at = Some(Instant::now());
        *self.seen() = Seen {
            hashes,
            version,
            at,
        };
        Ok(())
    }

    /// Grows with every change.
    fn version(&self) -> u64 {
        self.0.db.outbox().committed() + self.0.changes.load(Ordering::Relaxed)
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    /// `None`: unknown before a refresh.
    fn contain(&self, hash: &str, version: u64) -> Option<bool> {
        let is_new = self.at.is_some_and(|at| at.elapsed() < MAX_AGE);
        match self.hashes.contains(hash) {
            true => Some(true),
            false => (is_new && self.version >= version).then_some(false),
        }
    }
}

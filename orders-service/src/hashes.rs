//! Hashes of secrets, as the database holds them: a token or a code that is not among them is refused without a question to
//! the database, however many strangers guess.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use relay::rusqlite::{self, Connection};
use relay::{Database, ReadError};
use tokio::time::Instant;

/// All hashes of one kind. Clones share them.
#[derive(Clone)]
pub struct Hashes(Arc<Inner>);

struct Inner {
    db: Database,
    read: fn(&Connection) -> rusqlite::Result<HashSet<String>>,
    changes: AtomicU64,
    seen: Mutex<Seen>,
    /// One look at a time; who comes meanwhile is answered by it, or by the next one.
    turn: tokio::sync::Mutex<()>,
}

/// What the last look at the database has found.
#[derive(Default)]
struct Seen {
    hashes: HashSet<String>,
    version: u64,
    at: Option<Instant>,
}

/// Between two looks that strangers cause. A newcomer waits as long, at most.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// A look is as good as new while nothing is committed; not for ever, since a log may also be exchanged for another one.
const MAX_AGE: Duration = Duration::from_secs(1);

impl Hashes {
    pub fn of(db: &Database, read: fn(&Connection) -> rusqlite::Result<HashSet<String>>) -> Self {
        Self(Arc::new(Inner {
            db: db.clone(),
            read,
            changes: AtomicU64::new(0),
            seen: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }))
    }

    /// Whether the database holds this one. One that it held before may be gone: who uses it looks it up.
    pub async fn hold(&self, hash: &str) -> Result<bool, ReadError<rusqlite::Error>> {
        let version = self.version();
        if let Some(known) = self.seen().says(hash, version) {
            return Ok(known);
        }
        let _turn = self.0.turn.lock().await;
        if let Some(known) = self.seen().says(hash, version) {
            return Ok(known);
        }
        self.look().await?;
        Ok(self.seen().hashes.contains(hash))
    }

    /// There is one more, and no event says so.
    pub fn changed(&self) {
        self.0.changes.fetch_add(1, Ordering::Relaxed);
    }

    async fn look(&self) -> Result<(), ReadError<rusqlite::Error>> {
        let last = self.seen().at;
        if let Some(last) = last {
            tokio::time::sleep_until(last + MIN_PAUSE).await;
        }
        let (version, read) = (self.version(), self.0.read);
        let hashes = self.0.db.read(read).await?;
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
    /// `None`: only a new look can say.
    fn says(&self, hash: &str, version: u64) -> Option<bool> {
        let is_new = self.at.is_some_and(|at| at.elapsed() < MAX_AGE);
        match self.hashes.contains(hash) {
            true => Some(true),
            false => (is_new && self.version >= version).then_some(false),
        }
    }
}

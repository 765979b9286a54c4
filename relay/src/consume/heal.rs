//! What a consumer does when its stream does not continue at its position: wait, load a snapshot, or go back before a fork.

use std::time::Duration;

use tokio::time::Instant;

use super::position::{self, Break};
use super::step::{Progress, Trouble};
use super::{Consumer, rebuild, resume};
use crate::backoff::Backoff;
use crate::database::Database;
use crate::log::Holds;

/// A cure that did not help is tried again after this long at first, and after this long at last.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// Why a cache is loaded that has applied nothing yet.
pub(super) const BEGINS: &str = "it begins with a snapshot";

/// The cures of one consumer. One that does not help is not tried over and over.
pub(super) struct Cures {
    consumer: Consumer,
    db: Database,
    delays: Backoff,
    next_due: Instant,
    /// The offset at the last break.
    broke_at: u64,
    /// Why the last cure failed.
    failed: Option<String>,
}

impl Cures {
    pub(super) fn new(consumer: Consumer, db: Database) -> Self {
        Self {
            consumer,
            db,
            delays: Backoff::between(FIRST_DELAY, LONGEST_DELAY),
            next_due: Instant::now(),
            broke_at: 0,
            failed: None,
        }
    }

    /// An event applied after the break proves that the cure helped.
    pub(super) fn applied(&mut self, seq: u64) {
        if seq > self.broke_at {
            self.delays.reset();
        }
    }

    /// The stream does not continue here. Is it only late, or another log? The producer decides, and gives a snapshot.
    pub(super) async fn heal(&mut self, why: Break) -> Result<Progress, Trouble> {
        let line = why.to_string();
        let held = self.ask_producer(&why).await;
        let held = held.map_err(|trouble| Trouble::Again(format!("{line}; {trouble}")))?;
        match (why, held) {
            (Break::Trimmed { .. }, _) => self.cure(&line, false).await,
            (Break::Forked(_), Some(Holds::Yes)) => Err(Trouble::Again(format!(
                "{line}; but its producer's log holds the applied event, so it is read again"
            ))),
            (Break::Forked(_), _) | (_, Some(Holds::No)) => self.cure(&line, true).await,
            _ => Err(Trouble::Again(line)),
        }
    }

    /// Whether the producer's log holds the event applied last, if that is in question and there is a producer to ask. One
    /// replica may be behind, or of an older incarnation: its answers prove no fork.
    async fn ask_producer(&self, why: &Break) -> Result<Option<Holds>, Trouble> {
        let is_asked = matches!(why, Break::Forked(_) | Break::Short { .. } | Break::Missing);
        let here = self.consumer.read(&self.db, position::load).await?;
        match (here.filter(|_| is_asked), &self.consumer.producer) {
            (Some(here), Some(producer)) => Ok(Some(producer.holds(here).await?)),
            _ => Ok(None),
        }
    }

    /// One cure for this break, unless the one before is too short a time ago.
    pub(super) async fn cure(&mut self, line: &str, is_fork: bool) -> Result<Progress, Trouble> {
        if Instant::now() < self.next_due {
            let later = || format!("{line}; the cure did not help, and is repeated a little later");
            return Err(Trouble::Again(self.failed.clone().unwrap_or_else(later)));
        }
        self.broke_at = self.consumer.status.borrow().offset;
        self.next_due = Instant::now() + self.delays.next_delay();
        let cured = match self.consumer.emits && is_fork {
            _ if self.consumer.can_rebuild() => self.rebuild(line).await,
            true if self.consumer.producer.is_some() => self.resume(line).await,
            _ => Err(Trouble::Again(format!(
                "{line}; nothing more is applied, because this consumer has no snapshot to go on from: say with start-at where it goes on"
            ))),
        };
        self.failed = cured.as_ref().err().map(ToString::to_string);
        cured
    }

    async fn resume(&self, why: &str) -> Result<Progress, Trouble> {
        let (consumer, status) = (&*self.consumer.name, &self.consumer.status);
        let after = resume::resume(&self.db, &self.consumer, why).await?;
        tracing::error!(
            consumer,
            why,
            after,
            "the reaction went back to before a fork"
        );
        status.send_modify(|status| {
            status.offset = after;
            status.trouble = None;
        });
        Ok(Progress::Resumed(after))
    }

    pub(super) async fn rebuild(&self, why: &str) -> Result<Progress, Trouble> {
        let (consumer, status) = (&*self.consumer.name, &self.consumer.status);
        if why != BEGINS && status.borrow().trouble.is_none() {
            tracing::error!(consumer, why, "loading the cache from a snapshot");
        }
        status.send_modify(|status| status.rebuilding = Some(0));
        let loaded = rebuild::rebuild(&self.db, &self.consumer, why).await;
        status.send_modify(|status| {
            status.rebuilding = None;
            status.not_rebuilt = loaded.as_ref().err().map(ToString::to_string);
            if let Ok((_, offset)) = loaded {
                status.rebuilt += 1;
                status.offset = offset;
                status.dead_letters = 0;
                status.trouble = None;
            }
        });
        let (rows, offset) = loaded?;
        tracing::warn!(consumer, rows, offset, "the cache is loaded");
        Ok(Progress::Rebuilt(rows))
    }
}

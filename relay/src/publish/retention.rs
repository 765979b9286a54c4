//! Retention: how much of the log is kept. Nothing is removed unless the operator asks for it.
//!
//! The limits say what may go. What stays in any case: the stream's head, what is not published, and what a reader that
//! reports its position has still to read.

mod aging;

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension};
use tokio::time::Instant;

use super::readers::{self, ReportedReader};
use crate::database::{self, Database, Tx};
use crate::error::{LogError, WriteError};
use crate::log::{Head, Stream};
use crate::outbox::{self, Outbox};
use aging::{Aging, Now};

/// What may be removed from outbox and stream. Without a limit nothing is; with two, what either of them permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Events older than this may go, once a younger one follows. A clock that leaps makes no event older.
    pub max_age: Option<Duration>,
    /// Events beyond this many may go.
    pub max_events: Option<u64>,
    /// What a reader has still to read stays as long as its last report is no older than this. Zero: it may go.
    pub hold_readers: Duration,
}

/// How long a reader may be silent: longer than a weekend with a fault that is found on Monday.
const HOLD_READERS: Duration = Duration::from_secs(7 * 86_400);
/// After a start no reader is dropped so soon: none of them could report while the service did not run.
const GRACE: Duration = Duration::from_secs(600);
/// Rows that one write removes, at most: other writes wait no longer than for that.
const ROWS: usize = 2_000;

impl Retention {
    /// How long a reader may be silent before it is dropped. Without a hold, the list is kept for people alone.
    fn patience(&self) -> Duration {
        match self.hold_readers {
            Duration::ZERO => HOLD_READERS,
            hold => hold,
        }
    }
}

/// Keeps a log within its limits, step by step.
pub(super) struct Keeper {
    limits: Retention,
    clock: Clock,
    aging: Aging,
    /// Why events that look too old stay, as it was last said.
    alarm: Option<String>,
}

/// What one look at the file finds.
struct Seen {
    /// The outbox's first row.
    first: u64,
    readers: Vec<ReportedReader>,
    aging: Aging,
    by_age: aging::Found,
}

impl Keeper {
    pub(super) fn new(db: &Database, limits: Retention) -> Self {
        Self {
            limits,
            clock: Clock::new(
                db.now_ms(),
                limits.max_age.unwrap_or_default().max(limits.patience()),
            ),
            aging: Aging::default(),
            alarm: None,
        }
    }

    /// Removes a little of what may go: first from the stream, then from the outbox, so that the outbox can always fill
    /// the stream. Answers whether there is more to do.
    pub(super) async fn step(
        &mut self,
        outbox: &Outbox,
        stream: &mut impl Stream,
        head: &mut Head,
    ) -> Result<bool, LogError> {
        let db = outbox.database();
        let now = self.clock.at(db.now_ms());
        let (mut aging, max_age) = (self.aging, self.limits.max_age);
        let look = move |rows: &Connection| Seen::look(rows, &mut aging, max_age, &now);
        let seen = db.read(look).await;
        let seen =
            seen.map_err(|error| LogError::lost_because("the outbox cannot be read", error))?;
        self.aging = seen.aging;
        let held = self.hold(db, seen.readers, head, &now).await?;
        let by_age = self.by_age(db, &seen.by_age, &now).await?;
        let by_number = self.limits.max_events;
        let by_number = by_number.map(|most| (outbox.committed() + 1).saturating_sub(most.max(1)));
        let scanning = seen.by_age == aging::Found::More;
        let Some(wanted) = by_number.max(by_age) else {
            return Ok(scanning);
        };
        // Neither what a reader has still to read, nor what is not published, nor the head.
        let first = wanted.min(held.unwrap_or(wanted)).min(head.seq);
        if first > head.first {
            stream.trim(first).await?;
            head.first = first;
            tracing::info!(first, "older events are removed, as the retention says");
        }
        if seen.first >= first {
            return Ok(scanning);
        }
        let removed = write(db, move |tx| outbox::prune(tx, first, ROWS)).await?;
        Ok(scanning || removed == ROWS)
    }

    /// The first sequence that a reader holds: the event it has applied last, which it looks at when it connects. Readers
    /// that fell silent are dropped, and one that the stream has passed already holds nothing.
    async fn hold(
        &self,
        db: &Database,
        readers: Vec<ReportedReader>,
        head: &Head,
        now: &Now,
    ) -> Result<Option<u64>, LogError> {
        if readers.iter().any(|reader| reader.at_ms > now.wall_ms) {
            write(db, readers::restamp).await?;
        }
        let (silent, heard): (Vec<_>, Vec<_>) = readers
            .into_iter()
            .partition(|reader| self.is_silent(reader, now));
        for reader in &silent {
            let (name, seq) = (&reader.reader, reader.seq);
            tracing::warn!(
                reader = name,
                seq,
                "this reader reports no more: nothing is held for it"
            );
        }
        if !silent.is_empty() {
            let forget = move |tx: &Tx<'_>| {
                silent
                    .iter()
                    .try_for_each(|one| readers::drop_silent(tx, one))
            };
            write(db, forget).await?;
        }
        let holds = !self.limits.hold_readers.is_zero();
        let held = heard.iter().map(|reader| reader.seq.max(1));
        Ok(held.filter(|seq| holds && *seq >= head.first).min())
    }

    fn is_silent(&self, reader: &ReportedReader, now: &Now) -> bool {
        let patience = self.limits.patience();
        let since_ms = now.measured_ms.saturating_sub(millis(patience));
        self.clock.runs_for() >= patience.min(GRACE) && reader.at_ms < since_ms
    }

    /// The first event that is not too old. A clock that cannot be believed removes nothing: it raises an alarm, once.
    async fn by_age(
        &mut self,
        db: &Database,
        found: &aging::Found,
        now: &Now,
    ) -> Result<Option<u64>, LogError> {
        match found {
            aging::Found::First(first) => return Ok(Some(*first)),
            aging::Found::Leapt(why) => self.raise(db, why).await?,
            aging::Found::Nothing if now.is_behind() => {
                let why = "the clock has leapt ahead since this process started, or was behind then: what was written before is removed when it has stayed so for as long as the limits last";
                self.raise(db, why).await?;
            }
            aging::Found::Nothing | aging::Found::More => {}
        }
        Ok(None)
    }

    async fn raise(&mut self, db: &Database, why: &str) -> Result<(), LogError> {
        if self.alarm.as_deref() != Some(why) {
            let detail = why.to_owned();
            match write(db, move |tx| audit_once(tx, &detail)).await? {
                true => tracing::error!(%why, "ALARM: no event is removed by its age"),
                false => tracing::warn!(%why, "no event is removed by its age"),
            }
            self.alarm = Some(why.to_owned());
        }
        Ok(())
    }
}

impl Seen {
    fn look(
        rows: &Connection,
        aging: &mut Aging,
        max_age: Option<Duration>,
        now: &Now,
    ) -> rusqlite::Result<Self> {
        let first = outbox::ends(rows)?.first;
        let by_age = match max_age {
            Some(max_age) => aging.look(rows, first, max_age, now)?,
            None => aging::Found::Nothing,
        };
        Ok(Self {
            first,
            readers: readers::all(rows)?,
            aging: *aging,
            by_age,
        })
    }
}

/// The wall clock, and what this process has measured itself since it started: a clock that leaps ahead makes nothing
/// older. A machine that slept has measured less than has passed, which only keeps more.
///
/// A clock that has been ahead of the measured time for as long as the limits last is right about what was written before:
/// that is as old by either. So a clock that was wrong at the start, or many sleeps, do not switch the limits off for good.
struct Clock {
    started: Instant,
    started_ms: u64,
    /// By how much the clock has been ahead of the measured time at least, since then.
    ahead_ms: u64,
    since: Instant,
    /// For how long, until that is believed.
    patience: Duration,
}

impl Clock {
    fn new(now_ms: u64, patience: Duration) -> Self {
        let started = Instant::now();
        Self {
            started,
            started_ms: now_ms,
            ahead_ms: 0,
            since: started,
            patience,
        }
    }

    fn runs_for(&self) -> Duration {
        self.started.elapsed()
    }

    fn at(&mut self, wall_ms: u64) -> Now {
        let runs_for = self.runs_for();
        let measured_ms = |this: &Self| this.started_ms.saturating_add(millis(runs_for));
        let ahead_ms = wall_ms.saturating_sub(measured_ms(self));
        self.ahead_ms = self.ahead_ms.min(ahead_ms);
        let believed = self.since.elapsed() >= self.patience;
        if believed || self.ahead_ms < aging::MOMENT_MS {
            self.started_ms += if believed { self.ahead_ms } else { 0 };
            self.since = Instant::now();
            self.ahead_ms = wall_ms.saturating_sub(measured_ms(self));
        }
        Now {
            wall_ms,
            measured_ms: wall_ms.min(measured_ms(self)),
            runs_for,
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: None,
            max_events: None,
            hold_readers: HOLD_READERS,
        }
    }
}

/// Unless the newest alarm says so already: a quiet service that is started often has one cause, and one alarm. Answers
/// whether it is news.
fn audit_once(tx: &Tx<'_>, detail: &str) -> rusqlite::Result<bool> {
    let action = "ALARM: retention";
    let sql = "select detail from relay_audit where action = ?1 order by id desc limit 1";
    let newest: Option<String> = tx.query_row(sql, [action], |row| row.get(0)).optional()?;
    let news = newest.as_deref() != Some(detail);
    if news {
        database::audit(tx, tx.now_ms(), action, detail)?;
    }
    Ok(news)
}

async fn write<T: Send + 'static>(
    db: &Database,
    work: impl FnOnce(&Tx<'_>) -> rusqlite::Result<T> + Send + 'static,
) -> Result<T, LogError> {
    let written = db.apply(work).await;
    written.map_err(|error: WriteError<rusqlite::Error>| {
        LogError::lost_because("the retention cannot write", error)
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

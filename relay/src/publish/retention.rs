//! Retention: how much of the log is kept. Nothing is removed unless the operator asks for it.
//!
//! The limits say what may go. What stays in any case: the stream's head, what is not published, and what a reader that
//! reports its position has still to read.

mod aging;

use std::time::Duration;

use rusqlite::OptionalExtension;
use tokio::time::Instant;

use super::readers::{self, ReportedReader};
use super::recover::transact;
use crate::database::{Database, Tx};
use crate::error::LogError;
use crate::log::{Head, Stream};
use crate::outbox::{self, Outbox};
use aging::{Aging, Found, Now};

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

impl Default for Retention {
    fn default() -> Self {
        Self {
            max_age: None,
            max_events: None,
            hold_readers: HOLD_READERS,
        }
    }
}

impl Retention {
    /// How long a reader may be silent before it is dropped. Without a hold, the list is kept for the operator alone.
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
    /// Why events that look too old stay, as last reported.
    alarm: Option<String>,
}

impl Keeper {
    pub(super) fn new(db: &Database, limits: Retention) -> Self {
        let patience = limits.max_age.unwrap_or_default().max(limits.patience());
        Self {
            limits,
            clock: Clock::new(db.now_ms(), patience),
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
        let seen = db.read(move |rows| {
            let oldest = outbox::ends(rows)?.first;
            let found = match max_age {
                Some(max_age) => aging.look(rows, oldest, max_age, &now)?,
                None => Found::Nothing,
            };
            Ok::<_, rusqlite::Error>((oldest, readers::all(rows)?, found, aging))
        });
        let (oldest, readers, found, aging) = seen.await?;
        self.aging = aging;
        let held = self.hold(db, readers, head, &now).await?;
        let is_looking = found == Found::More;
        let by_age = self.by_age(db, found, &now).await?;
        let by_number = self.limits.max_events;
        let by_number = by_number.map(|most| (outbox.committed() + 1).saturating_sub(most.max(1)));
        let Some(wanted) = by_number.max(by_age) else {
            return Ok(is_looking);
        };
        // Neither what a reader has still to read, nor what is not published, nor the head.
        let first = wanted.min(held.unwrap_or(wanted)).min(head.seq);
        if first > head.first {
            stream.trim(first).await?;
            head.first = first;
            tracing::info!(first, "older events are removed, as the retention says");
        }
        if oldest >= first {
            return Ok(is_looking);
        }
        let removed = transact(db, move |tx| outbox::prune(tx, first, ROWS)).await?;
        Ok(is_looking || removed == ROWS)
    }

    /// The first sequence that a reader holds: the event it has applied last, which it looks at when it connects. Drops
    /// readers that have fallen silent. One that the stream has passed already holds nothing.
    async fn hold(
        &self,
        db: &Database,
        readers: Vec<ReportedReader>,
        head: &Head,
        now: &Now,
    ) -> Result<Option<u64>, LogError> {
        if readers.iter().any(|reader| reader.at_ms > now.wall_ms) {
            transact(db, readers::restamp).await?;
        }
        let patience = self.limits.patience();
        let since_ms = now.measured_ms.saturating_sub(millis(patience));
        let may_drop = now.runs_for >= patience.min(GRACE);
        let is_silent = |reader: &ReportedReader| may_drop && reader.at_ms < since_ms;
        let (silent, active): (Vec<_>, Vec<_>) = readers.into_iter().partition(is_silent);
        for reader in silent {
            let (name, seq) = (&reader.reader, reader.seq);
            tracing::warn!(
                reader = name,
                seq,
                "this reader reports no more: nothing is held for it"
            );
            transact(db, move |tx| readers::drop_silent(tx, &reader)).await?;
        }
        let holds = !self.limits.hold_readers.is_zero();
        let held = active.iter().map(|reader| reader.seq.max(1));
        Ok(held.filter(|seq| holds && *seq >= head.first).min())
    }

    /// The first event that is not too old. A clock that cannot be trusted removes nothing: it raises an alarm, once.
    async fn by_age(
        &mut self,
        db: &Database,
        found: Found,
        now: &Now,
    ) -> Result<Option<u64>, LogError> {
        let why = match found {
            Found::First(first) => return Ok(Some(first)),
            Found::Leapt(why) => why,
            Found::Nothing if now.is_behind() => "the clock has leapt ahead since this process started, or was behind then: what was written before is removed when it has stayed so for as long as the limits last".to_owned(),
            Found::Nothing | Found::More => return Ok(None),
        };
        if self.alarm.as_ref() != Some(&why) {
            let detail = why.clone();
            match transact(db, move |tx| audit_once(tx, &detail)).await? {
                true => tracing::error!(%why, "ALARM: no event is removed by its age"),
                false => tracing::warn!(%why, "no event is removed by its age"),
            }
            self.alarm = Some(why);
        }
        Ok(None)
    }
}

/// The wall clock, and the time that this process has measured itself since it started: a clock that leaps ahead makes
/// nothing older. A machine that slept has measured less than has passed, which only keeps more.
///
/// A clock that has been ahead of the measured time for as long as the limits last is right about what was written before:
/// that is as old by either. So a clock that was wrong at the start, or many sleeps, do not switch the limits off for good.
struct Clock {
    started: Instant,
    started_ms: u64,
    /// The least by which the clock has been ahead of the measured time since `since`.
    ahead_ms: u64,
    since: Instant,
    /// After this long, that is trusted.
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

    fn at(&mut self, wall_ms: u64) -> Now {
        let runs_for = self.started.elapsed();
        let measured_ms = self.started_ms.saturating_add(millis(runs_for));
        self.ahead_ms = self.ahead_ms.min(wall_ms.saturating_sub(measured_ms));
        let is_trusted = self.since.elapsed() >= self.patience;
        let leap_ms = if is_trusted { self.ahead_ms } else { 0 };
        let measured_ms = measured_ms.saturating_add(leap_ms);
        if is_trusted || self.ahead_ms < aging::MOMENT_MS {
            self.started_ms += leap_ms;
            self.since = Instant::now();
            self.ahead_ms = wall_ms.saturating_sub(measured_ms);
        }
        Now {
            wall_ms,
            measured_ms: wall_ms.min(measured_ms),
            runs_for,
        }
    }
}

/// Unless the newest alarm says so already: a quiet service that is started often has one cause, and one alarm. Answers
/// whether it is news.
fn audit_once(tx: &Tx<'_>, detail: &str) -> rusqlite::Result<bool> {
    let action = "ALARM: retention";
    let sql = "select detail from relay_audit where action = ?1 order by id desc limit 1";
    let newest: Option<String> = tx.query_row(sql, [action], |row| row.get(0)).optional()?;
    let is_news = newest.as_deref() != Some(detail);
    if is_news {
        tx.audit(action, detail)?;
    }
    Ok(is_news)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

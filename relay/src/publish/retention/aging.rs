//! Which events are too old, by the log's own order: their timestamps come from a clock that may have been wrong.
//!
//! - A timestamp in the future does not count. Its event is as old as the next one with a timestamp that does.
//! - An event with a timestamp too long ago goes when those before it go.
//! - The newest event's timestamp must be in the past: otherwise the clock is behind the log.
//! - An event goes only once a younger one follows, and not when the two are further apart than the limit itself: the
//!   clock leapt in between, or nothing was written for so long. Either way the younger one must become old first. A
//!   process that has run for longer than the limit has measured it itself and needs neither.

use std::time::Duration;

use rusqlite::Connection;

use super::millis;
use crate::database::head;
use crate::outbox;

/// Rows one look reads, at most.
const ROWS: usize = 10_000;
/// A timestamp ahead of the clock by no more than this is the present: the clock is set back a little now and then, and
/// events are written during a look.
pub(super) const MOMENT_MS: u64 = 60_000;

/// What the clocks say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Now {
    /// What the clock says.
    pub(super) wall_ms: u64,
    /// The same, without leaps since this process started.
    pub(super) measured_ms: u64,
    /// How long this process has run.
    pub(super) runs_for: Duration,
}

impl Now {
    /// By more than a machine sleeps now and then.
    pub(super) fn is_behind(&self) -> bool {
        self.wall_ms.saturating_sub(self.measured_ms) > 24 * 3_600_000
    }
}

/// How far looks have come. Each row is read once.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Aging {
    /// The next row to look at.
    next: u64,
    /// What follows the last event found too old.
    after_old: u64,
    /// The newest time of those found too old.
    newest_old_ms: u64,
    /// Older than this was too old then. If the clock goes back, the next look starts over.
    since_ms: u64,
}

/// What is too old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Everything before this event.
    First(u64),
    Nothing,
    /// Not known yet: there are more rows to look at.
    More,
    /// The clock cannot be trusted, and why.
    Leapt(String),
}

impl Aging {
    /// Looks at some more rows, from the outbox's first row on.
    pub(super) fn look(
        &mut self,
        rows: &Connection,
        first: u64,
        max_age: Duration,
        now: &Now,
    ) -> rusqlite::Result<Found> {
        let since_ms = now.measured_ms.saturating_sub(millis(max_age));
        if since_ms < self.since_ms {
            *self = Self::default();
        }
        self.since_ms = since_ms;
        let head = head::seq(rows)?;
        let newest_ms = outbox::emitted_at_ms_of(rows, head)?.unwrap_or(0);
        let latest_ms = now.wall_ms.saturating_add(MOMENT_MS);
        if newest_ms > latest_ms {
            return Ok(Found::Leapt(format!(
                "the newest event, {head}, has a timestamp in the future: the clock is behind, or was ahead then"
            )));
        }
        self.next = self.next.max(first);
        let mut statement = rows.prepare_cached(
            "select seq, emitted_at_ms from relay_outbox where seq >= ?1 order by seq limit ?2",
        )?;
        let mut found = statement.query((self.next, ROWS))?;
        let mut count = 0;
        while let Some(row) = found.next()? {
            let (seq, at_ms) = (row.get(0)?, row.get(1)?);
            if (since_ms..=latest_ms).contains(&at_ms) {
                return Ok(self.ends_before(seq, at_ms, max_age, now));
            }
            self.pass(seq, at_ms);
            count += 1;
        }
        Ok(match count {
            ROWS => Found::More,
            _ if now.runs_for >= max_age => self.old(),
            _ => Found::Nothing,
        })
    }

    fn pass(&mut self, seq: u64, at_ms: u64) {
        self.next = seq + 1;
        if at_ms < self.since_ms {
            self.after_old = self.next;
            self.newest_old_ms = self.newest_old_ms.max(at_ms);
        }
    }

    /// This event is the first that is young.
    fn ends_before(&self, seq: u64, at_ms: u64, max_age: Duration, now: &Now) -> Found {
        let apart_ms = at_ms.saturating_sub(self.newest_old_ms);
        let leapt = apart_ms > millis(max_age) && now.runs_for < max_age;
        match self.old() {
            Found::First(_) if leapt => Found::Leapt(format!(
                "events before {seq} are older than it by {} h, more than the limit: the clock leapt, or nothing was written; they stay until {seq} is too old as well",
                apart_ms / 3_600_000
            )),
            old => old,
        }
    }

    fn old(&self) -> Found {
        match self.after_old {
            0 => Found::Nothing,
            first => Found::First(first),
        }
    }
}
